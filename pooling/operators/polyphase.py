"""Downsamplers that choose among the polyphase components, so that a shifted image keeps its samples."""

from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pooling import composite, functional, philox
from pooling.operators.base import Downsampler2d, needed_channels
from pooling.options import Range
from pooling.registry import register


class PolyphasePool2d(Downsampler2d):
    """Base of the polyphase operators: implement `choose(x, phase)`.

    A main branch and its shortcut must use one grid: `y, phase = main(y, return_phase=True)`, then
    `x = shortcut(x, phase=phase)`.
    """

    def choose(self, x: Tensor, phase: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N, C, H, W), and the phase where it is given -> (N, C, H', W') and the phase.

        A phase is a component's number for each image, (N,) int64, or the components' weights, (N, S).
        """
        raise NotImplementedError

    def follow(self) -> None:
        """Become a shortcut's operator, which is always given its phase: drop what only choosing needs."""

    def forward(self, x: Tensor, phase: Tensor | None = None, *, return_phase: bool = False) -> Any:
        y, phase = self.choose(x, phase)
        return (y, phase) if return_phase else y


@register("aps", kind="downsampler", paper="Chaman & Dokmanic 2021, arXiv:2011.14214")
class AdaptivePolyphase2d(PolyphasePool2d):
    """Adaptive polyphase sampling: of the stride^2 subsampled grids, the one of largest norm, for each image.

    With circular padding and a stride that divides H and W, a circular shift of the input shifts the output.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        norm: the norm that is compared, over channels and positions: 1, 2 or "inf"; ties go to the lowest phase. Not
            "inf" at a max site, whose dense half repeats its largest value in neighbouring components.
        filter: length of a binomial filter applied first (APS with blur), 2 to 7; none where None.
    """

    def __init__(
        self,
        *,
        norm: Literal[1, 2, "inf"] = 2,
        filter: Annotated[int, Range(least=2, most=7)] | None = None,
        **site,
    ) -> None:
        super().__init__(**site)
        self.norm = float(norm)
        self.row: Tensor | None
        self.register_buffer(
            "row", None if filter is None else functional.binomial_row(filter).float(), persistent=False
        )

    def choose(self, x: Tensor, phase: Tensor | None) -> tuple[Tensor, Tensor]:
        x, _ = self.dense(x)
        if self.row is not None:
            x = functional.blur_pool2d(x, 1, filter=self.row, pad_mode=self.filter_padding)
        return functional.polyphase_pool2d(x, self.window.stride, norm=self.norm, phase=phase, far_mode=self.far_mode)


class PhaseScore(nn.Module):
    """A number for each polyphase component: conv3x3, ReLU, conv3x3, ReLU, mean over positions, linear.

    Shape: (N, S, C, h, w) -> (N, S), in float32 or float64.
    """

    def __init__(self, channels: int, hidden: int, padding_mode: str) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3)
        self.second = nn.Conv2d(hidden, hidden, 3)
        self.last = nn.Linear(hidden, 1, bias=False)
        self.padding_mode = padding_mode

    def forward(self, components: Tensor) -> Tensor:
        y = components.flatten(0, 1)
        with composite.full_precision(y.device):
            for layer in (self.first, self.second):
                weight, bias = layer.weight.to(y.dtype), cast(Tensor, layer.bias).to(y.dtype)
                y = F.conv2d(composite.pad2d(y, 1, 1, 1, 1, self.padding_mode), weight, bias).relu()
            return F.linear(y.mean(dim=(2, 3)), self.last.weight.to(y.dtype)).view(components.shape[:2])


@register("lps", kind="downsampler", paper="Rojas-Gomez et al. 2022, arXiv:2210.08001", learnable=True, random=True)
class LearnablePolyphase2d(PolyphasePool2d):
    """Learnable polyphase sampling: of the stride^2 subsampled grids, the one that a small network scores highest.

    The network (`PhaseScore`) is the same for every component. In training the components are added up by weights
    softmax((scores + Gumbel noise) / tau) of each image; eval keeps the component of highest score. Starts near
    uniform: fresh scores are small.

    With circular padding and a stride that divides H and W, a circular shift of the input shifts the output of eval.
    In training the phase handed to a shortcut is the weights, (N, stride^2).

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        tau: temperature of the softmax; small ones choose nearly one component in training too.
        hidden: channels of the network that scores.
    """

    def __init__(
        self,
        *,
        tau: Annotated[float, Range(above=0)] = 1.0,
        hidden: Annotated[int, Range(least=1)] = 8,
        channels: int | None = None,
        **site,
    ) -> None:
        super().__init__(**site)
        self.tau = tau
        self.score: PhaseScore | None = PhaseScore(needed_channels(self.operator, channels), hidden, self.padding_mode)

    def follow(self) -> None:
        self.score = None

    def choose(self, x: Tensor, phase: Tensor | None) -> tuple[Tensor, Tensor]:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        dense, _ = self.dense(wide)
        stride = self.window.stride
        if phase is None:
            if self.score is None:
                raise ValueError("lps: a shortcut's operator does not choose; pass the phase of its main branch")
            batch = dense if x.dim() == 4 else dense.unsqueeze(0)
            scores = self.score(composite.polyphase(batch, stride, self.far_mode))
            if self.training:
                uniform = philox.uniform(philox.draw_seed(x.device), scores.numel()).to(scores.dtype)
                # -log(1 - u) is exponential; u = 0, which would give infinite noise, counts as half a unit.
                noise = -(-torch.log1p(-uniform.clamp(min=2.0**-25))).log().view(scores.shape)
                phase = ((scores + noise) / self.tau).softmax(dim=1)
            else:
                phase = scores.argmax(dim=1)
        y, phase = functional.polyphase_pool2d(dense, stride, phase=phase, far_mode=self.far_mode)
        return y.to(x.dtype), phase


@register("space_to_depth", kind="downsampler", paper="Sunkara & Luo 2022, arXiv:2208.03641", learnable=True)
class SpaceToDepth2d(Downsampler2d):
    """Each stride x stride block's values as channels (pixel-unshuffle), then a learned 1x1 convolution back to C.

    Nothing is thrown away before the convolution. Starts as the mean of each block. Sides that the stride does not
    divide are continued at the far end.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def __init__(self, *, channels: int | None = None, **site) -> None:
        super().__init__(**site)
        count = needed_channels(self.operator, channels)
        (sh, sw) = self.window.stride
        self.conv = nn.Conv2d(sh * sw * count, count, 1)
        mean = (torch.eye(count) / (sh * sw)).repeat(1, sh * sw)
        self.conv.weight = nn.Parameter(mean[..., None, None].to(self.conv.weight))
        self.conv.bias = nn.Parameter(torch.zeros_like(self.conv.weight[:, 0, 0, 0]))

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        batch = x if x.dim() == 4 else x.unsqueeze(0)
        components = composite.polyphase(batch, self.window.stride, self.far_mode)
        y = self.conv(components.flatten(1, 2).to(self.conv.weight.dtype))
        y = y.contiguous(memory_format=functional.memory_format(x))
        return y if x.dim() == 4 else y.squeeze(0)
