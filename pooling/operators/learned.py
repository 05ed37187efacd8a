"""Reducers whose parameters are learned."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pooling import composite, functional
from pooling.composite import pad2d
from pooling.dispatch import in_plain_torch
from pooling.geometry import Window
from pooling.operators.base import Pool2d, WindowPool2d, needed_channels
from pooling.operators.fixed import Per, per_shape
from pooling.options import Range
from pooling.registry import register


@register("subsample_scaled", kind="reducer", paper="LeCun et al. 1998, section II.B", learnable=True)
class ScaledSubsample2d(WindowPool2d):
    """LeNet-5's subsampling: the sum of each window times a learned coefficient plus a learned bias, per channel.

    Starts as average pooling.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    no_weight_decay = ("scale", "bias")

    def __init__(self, *, channels: int | None = None, **geometry) -> None:
        super().__init__(**geometry)
        count = needed_channels(self.operator, channels)
        taps = self.window.kernel_size[0] * self.window.kernel_size[1]
        self.scale = nn.Parameter(torch.full((count,), 1 / taps))
        self.bias = nn.Parameter(torch.zeros(count))

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.subsample_scaled2d(x, window, scale=self.scale, bias=self.bias)


@register("conv", kind="reducer", paper="Springenberg et al. 2015, arXiv:1412.6806", learnable=True)
class StridedConv2d(Pool2d):
    """A convolution with the site's geometry in place of a pool (the all-convolutional network).

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        depthwise: one filter per channel instead of a full C x C convolution.
    """

    def __init__(self, *, depthwise: bool = False, channels: int | None = None, **geometry) -> None:
        super().__init__(**geometry)
        count = needed_channels(self.operator, channels)
        self.conv = nn.Conv2d(
            count,
            count,
            self.window.kernel_size,
            self.window.stride,
            dilation=self.window.dilation,
            groups=count if depthwise else 1,
        )

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        (ph, pw), window = self.window.padding, self.window
        far = window.overhang(x.shape[-2], x.shape[-1])
        batch = x if x.dim() == 4 else x.unsqueeze(0)
        padded = self.continued(batch, pw, pw, ph, ph)
        y = self.conv(pad2d(padded, 0, max(0, far[1] - pw), 0, max(0, far[0] - ph), "zeros"))
        out_h, out_w = window.output_size(x.shape[-2], x.shape[-1])
        y = y[..., :out_h, :out_w]
        return y if x.dim() == 4 else y.squeeze(0)


@register("gated", kind="reducer", paper="Lee et al. 2016, arXiv:1509.08985, section 3.1", learnable=True)
class GatedPool2d(WindowPool2d):
    """g max + (1 - g) mean of each window, g = sigmoid(w . x) for the window's values x.

    w has one weight per tap; what lies past the border counts as 0 in the product. Starts at w = 0: half and half.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        per: one w per layer or per channel.
    """

    def __init__(self, *, per: Per = "layer", channels: int | None = None, **geometry) -> None:
        super().__init__(**geometry)
        kh, kw = self.window.kernel_size
        self.weight = nn.Parameter(torch.zeros(*per_shape(per, channels, "gated")[:1], kh * kw))

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return in_plain_torch(self._gated, x, window)

    def _gated(self, x: Tensor, window: Window) -> Tensor:
        weight = self.weight.view(-1, 1, self.weight.shape[-1])
        gate = composite.window_dot(x, window, weight).squeeze(2).sigmoid()
        mean = functional.avg_pool2d(x, window, count_include_pad=False)
        return torch.lerp(mean, functional.max_pool2d(x, window), gate)


@register("tree", kind="reducer", paper="Lee et al. 2016, arXiv:1509.08985, section 3.2", learnable=True)
class TreePool2d(WindowPool2d):
    """Learned linear filters of each window, its leaves, joined pairwise up a tree by learned gates.

    A leaf is v . x, for the window's values x; a node is g left + (1 - g) right with g = sigmoid(w . x). What lies past
    the border counts as 0. Gates start at one half and leaves near the mean, at 1 / K apart from noise of half that
    size: equal leaves would stay equal.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        depth: levels of the tree: 2^(depth - 1) leaves and one gate less, each with a weight per tap.
        per: one tree per layer or per channel.
    """

    def __init__(
        self,
        *,
        depth: Annotated[int, Range(least=1, most=6)] = 2,
        per: Per = "layer",
        channels: int | None = None,
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        taps, trees, count = self.window.kernel_size, per_shape(per, channels, "tree")[:1], 2 ** (depth - 1)
        K = taps[0] * taps[1]
        self.leaves = nn.Parameter((1 + 0.5 * torch.randn(*trees, count, K)) / K)
        self.gates = nn.Parameter(torch.zeros(*trees, count - 1, K))

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return in_plain_torch(self._tree, x, window)

    def _tree(self, x: Tensor, window: Window) -> Tensor:
        count = self.leaves.shape[-2]
        weights = torch.cat((self.leaves, self.gates), dim=-2)
        products = composite.window_dot(x, window, weights.view(-1, *weights.shape[-2:]))
        values, gates = products[:, :, :count], products[:, :, count:].sigmoid()
        while values.shape[2] > 1:
            pairs = values.shape[2] // 2
            values = torch.lerp(values[:, :, 1::2], values[:, :, ::2], gates[:, :, :pairs])
            gates = gates[:, :, pairs:]
        return values.squeeze(2)


@register("lip", kind="reducer", paper="Gao et al. 2019, arXiv:1908.04156", learnable=True, head=True)
class LocalImportancePool2d(WindowPool2d):
    """Mean of each window weighted by e^l, l = 12 sigmoid(InstanceNorm(conv3x3(x))): learned local importance.

    The normalisation has a scale and a shift per channel. Starts as the mean: the convolution's weights are 0.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def __init__(self, *, channels: int | None = None, **geometry) -> None:
        super().__init__(**geometry)
        count = needed_channels(self.operator, channels)
        self.conv = nn.Conv2d(count, count, 3, bias=False)
        self.norm = nn.GroupNorm(count, count)  # a group per channel: an instance norm that takes 1x1 maps too
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return in_plain_torch(self._weighted, x)

    def whole(self, x: Tensor) -> Tensor:
        return in_plain_torch(lambda x: (self._logits(x).flatten(2).softmax(dim=2) * x.flatten(2)).sum(dim=2), x)

    def _logits(self, x: Tensor) -> Tensor:
        y = F.conv2d(pad2d(x, 1, 1, 1, 1, self.padding_mode), self.conv.weight.to(x.dtype)).to(x.dtype)
        norm = self.norm
        scale, shift = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
        return 12 * torch.group_norm(y, norm.num_groups, scale, shift, norm.eps).sigmoid()

    def _weighted(self, x: Tensor) -> Tensor:
        logits, _ = self.framed(self._logits(x))
        x, window = self.framed(x)
        return functional.weighted_mean_pool2d(x, window, logits=logits)


@register("dpp", kind="reducer", paper="Saeedan et al. 2018, arXiv:1804.04076", learnable=True, head=True)
class DetailPreservingPool2d(WindowPool2d):
    """Mean of each window weighted by alpha + rho(x - m)^lambda: what differs from the smoothed map m counts more.

    rho(d) = sqrt(d^2 + 1e-6), or without `symmetric` sqrt(max(d, 0)^2 + 1e-6), which rewards larger values only.
    alpha and lambda are exponentials of learned numbers, one per channel, and start at 1.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        symmetric: reward smaller values too.
        smooth: what m is: "lite", the window's mean, or "full", a learned filter of the window per channel, which
            starts as the mean and counts what lies past the border as 0.
    """

    no_weight_decay = ("log_alpha", "log_lambda", "filter")

    def __init__(
        self,
        *,
        symmetric: bool = False,
        smooth: Literal["lite", "full"] = "lite",
        channels: int | None = None,
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        count, (kh, kw) = needed_channels(self.operator, channels), self.window.kernel_size
        self.symmetric = symmetric
        self.log_alpha = nn.Parameter(torch.zeros(count))
        self.log_lambda = nn.Parameter(torch.zeros(count))
        self.filter = nn.Parameter(torch.full((count, kh * kw), 1 / (kh * kw))) if smooth == "full" else None

    def logged(self) -> dict[str, Tensor]:
        return {"alpha": self.log_alpha.exp(), "lambda": self.log_lambda.exp()}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return in_plain_torch(self._weighted, x, window)

    def _weighted(self, x: Tensor, window: Window) -> Tensor:
        if self.filter is None:
            mean = functional.avg_pool2d(x, window, count_include_pad=False)
        else:
            mean = composite.window_dot(x, window, self.filter.unsqueeze(1)).squeeze(2)
        inside, values = composite.members(x, window), composite.taps(x, window)
        distance = values - mean
        rho = ((distance if self.symmetric else distance.relu()) ** 2 + 1e-6).sqrt()
        alpha, power = (p.to(x.dtype).exp().view(-1, 1, 1) for p in (self.log_alpha, self.log_lambda))
        return composite.normalised(values, alpha + rho**power, inside)
