"""Fixed reducers: a window and a formula."""

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pooling import functional, philox
from pooling.geometry import Window
from pooling.operators.base import WindowPool2d
from pooling.options import Range
from pooling.registry import register

Per = Literal["layer", "channel"]


def softplus_inverse(y: float) -> float:
    """x with log(1 + e^x) = y > 0."""
    return y + math.log(-math.expm1(-y))


def per_shape(per: Per, channels: int | None, owner: str) -> tuple[int, ...]:
    """The shape of a parameter that a layer has one of, or one per channel; it broadcasts against (N, C, H', W').

    Raises:
        ValueError: a parameter per channel without `channels`.
    """
    if per == "layer":
        return ()
    if channels is None:
        raise ValueError(f"{owner}: a parameter per channel needs channels, got None; pass channels=C")
    return (channels, 1, 1)


@register("max", kind="reducer", paper="Ranzato et al. 2007; torch.nn.MaxPool2d", head=True)
class MaxPool2d(WindowPool2d):
    """The largest value of each window; where tied, the first tap in row-major order gets the gradient.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        return_indices: also return the flat index into H*W of each value, int64.
    """

    def __init__(self, *, return_indices: bool = False, **geometry) -> None:
        super().__init__(**geometry)
        self.return_indices = return_indices

    def reduce(self, x: Tensor, window: Window) -> Any:
        return functional.max_pool2d(x, window, return_indices=self.return_indices)

    def forward(self, x: Tensor, *, return_indices: bool | None = None) -> Any:
        self.check(x)
        wanted = self.return_indices if return_indices is None else return_indices
        y = functional.max_pool2d(*self.framed(x), return_indices=wanted)
        if not wanted or self.padding_mode == "zeros":
            return y
        # From positions in the continued input back to those that they were copied from.
        H, W = x.shape[-2:]
        source, _ = self.framed(torch.arange(H * W, device=x.device).view(1, H, W))
        values, indices = y
        return values, source.flatten()[indices]


@register("min", kind="reducer", paper="morphological erosion: Serra 1982", head=True)
class MinPool2d(WindowPool2d):
    """The smallest value of each window.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.min_pool2d(x, window)


@register("avg", kind="reducer", paper="LeCun et al. 1990; torch.nn.AvgPool2d", head=True)
class AvgPool2d(WindowPool2d):
    """The mean of each window.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        count_include_pad: count padding as zeros (torch's default; TensorFlow counts members only).
        divisor_override: divide the window's sum by this number instead.
    """

    def __init__(
        self,
        *,
        count_include_pad: bool = True,
        divisor_override: Annotated[int, Range(least=1)] | None = None,
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.avg_pool2d(
            x, window, count_include_pad=self.count_include_pad, divisor_override=self.divisor_override
        )

    def whole(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


@register(
    "lp",
    kind="reducer",
    paper="Sermanet et al. 2012, arXiv:1204.3968; learned p: Gulcehre et al. 2014",
    learnable=True,
    head=True,
)
class LpPool2d(WindowPool2d):
    """(mean |x|^p)^(1/p) of each window: p = 1 is the mean magnitude, p -> inf the largest magnitude.

    The gradient at an all-zero window is 0.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        p: the norm's order, >= 1; the starting point where it is learned, then > 1.
        normalize: the mean over the window's members; otherwise the plain sum.
        learn_p: learn p = 1 + softplus(theta), one per layer or per channel.
    """

    no_weight_decay = ("theta",)

    def __init__(
        self,
        *,
        p: Annotated[float, Range(least=1)] = 2.0,
        normalize: bool = True,
        learn_p: Literal["no", "layer", "channel"] = "no",
        channels: int | None = None,
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        self.normalize = normalize
        self.theta: nn.Parameter | None = None
        if learn_p == "no":
            self.fixed_p = p
            return
        if p <= 1:
            raise ValueError(f"lp: p must be > 1 where it is learned (p = 1 + softplus(theta)), got {p}")
        self.theta = nn.Parameter(torch.full(per_shape(learn_p, channels, "lp"), softplus_inverse(p - 1)))

    @property
    def p(self) -> float | Tensor:
        """The order in force: a number or, where learned, a tensor of shape () or (C, 1, 1)."""
        return self.fixed_p if self.theta is None else 1 + F.softplus(self.theta)

    def logged(self) -> dict[str, Tensor]:
        return {"p": self.p} if isinstance(self.p, Tensor) else {}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.lp_pool2d(x, window, p=self.p, normalize=self.normalize)


@register("soft", kind="reducer", paper="Stergiou et al. 2021, arXiv:2101.00440", head=True)
class SoftPool2d(WindowPool2d):
    """Mean of each window weighted by softmax(beta * x).

    beta -> 0 gives average pooling, beta -> inf max pooling.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        beta: inverse temperature, > 0, in units of 1 / activation.
    """

    def __init__(self, *, beta: Annotated[float, Range(above=0)] = 1.0, **geometry) -> None:
        super().__init__(**geometry)
        self.beta = beta

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.soft_pool2d(x, window, beta=self.beta)


@register(
    "mixed",
    kind="reducer",
    paper="Lee et al. 2016, arXiv:1509.08985; Yu et al. 2014",
    learnable=True,
    random=True,
    head=True,
)
class MixedPool2d(WindowPool2d):
    """a * max + (1 - a) * mean of each window.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        a: the share of max, in [0, 1]; "learned" is sigmoid(theta), starting at one half; "random" is 0 or 1, drawn
            in each training forward, and 0.5 in eval mode.
        per: one a per layer or per channel, where it is learned or random.
    """

    no_weight_decay = ("theta",)

    def __init__(
        self,
        *,
        a: Annotated[float, Range(least=0, most=1)] | Literal["learned", "random"] = 0.5,
        per: Per = "layer",
        channels: int | None = None,
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        self.a = a
        self.shape = per_shape(per, channels, "mixed") if isinstance(a, str) else ()
        self.theta = nn.Parameter(torch.zeros(self.shape)) if a == "learned" else None

    def share(self, device: torch.device) -> float | Tensor:
        """The share of max in force: a number, or a tensor of shape () or (C, 1, 1)."""
        if self.theta is not None:
            return self.theta.sigmoid()
        if not isinstance(self.a, str):
            return self.a
        if not self.training:
            return 0.5
        count = self.shape[0] if self.shape else 1
        return (philox.uniform(philox.draw_seed(device), count) < 0.5).float().view(self.shape)

    def logged(self) -> dict[str, Tensor]:
        return {} if self.theta is None else {"a": self.theta.sigmoid()}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.mixed_pool2d(x, window, a=self.share(x.device))


@register("gem", kind="reducer", paper="Radenovic et al. 2018, arXiv:1711.02512", learnable=True, head=True)
class GeMPool2d(WindowPool2d):
    """(mean max(x, eps)^p)^(1/p) of each window, the generalised mean.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        p: the exponent, > 0; the starting point where it is learned.
        eps: values below it count as it, and get no gradient.
        learn_p: learn p = softplus(theta), one per layer or per channel.
    """

    no_weight_decay = ("theta",)

    def __init__(
        self,
        *,
        p: Annotated[float, Range(above=0)] = 3.0,
        eps: Annotated[float, Range(above=0)] = 1e-6,
        learn_p: Literal["no", "layer", "channel"] = "no",
        channels: int | None = None,
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        self.eps = eps
        self.fixed_p = p
        self.theta: nn.Parameter | None = None
        if learn_p != "no":
            self.theta = nn.Parameter(torch.full(per_shape(learn_p, channels, "gem"), softplus_inverse(p)))

    @property
    def p(self) -> float | Tensor:
        """The exponent in force: a number or, where learned, a tensor of shape () or (C, 1, 1)."""
        return self.fixed_p if self.theta is None else F.softplus(self.theta)

    def logged(self) -> dict[str, Tensor]:
        return {"p": self.p} if isinstance(self.p, Tensor) else {}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.gem_pool2d(x, window, p=self.p, eps=self.eps)


@register("lse", kind="reducer", paper="Pinheiro & Collobert 2015, arXiv:1411.6228", learnable=True, head=True)
class LogSumExpPool2d(WindowPool2d):
    """(1/r) log mean e^(r x) of each window: r -> 0 gives the mean, r -> inf the max.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        r: sharpness, in units of 1 / activation; the starting point where it is learned.
        learn_r: learn r, one per layer or per channel.
    """

    no_weight_decay = ("r",)

    def __init__(
        self,
        *,
        r: Annotated[float, Range()] = 1.0,
        learn_r: Literal["no", "layer", "channel"] = "no",
        channels: int | None = None,
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        self.fixed_r = r
        self.r: nn.Parameter | None = None
        if learn_r != "no":
            self.r = nn.Parameter(torch.full(per_shape(learn_r, channels, "lse"), float(r)))

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.lse_pool2d(x, window, r=self.fixed_r if self.r is None else self.r)


@register("edscw", kind="reducer", paper="Stergiou & Poppe 2022, arXiv:2111.00772", head=True)
class EdscwPool2d(WindowPool2d):
    """Mean of each window weighted by softmax of each value's Dice-Sorensen similarity to the window's mean.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.edscw_pool2d(x, window)


@register("idw", kind="reducer", paper="Stergiou & Poppe 2022, arXiv:2111.00772", head=True)
class InverseDistancePool2d(WindowPool2d):
    """Mean of each window weighted by each value's inverse distance from the window's mean.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.idw_pool2d(x, window)


@register("ada", kind="reducer", paper="Stergiou & Poppe 2022, arXiv:2111.00772", learnable=True, head=True)
class AdaPool2d(WindowPool2d):
    """b * edscw + (1 - b) * soft with a learned b per channel (AdaPool).

    b = sigmoid(theta), starting at one half.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    no_weight_decay = ("theta",)

    def __init__(self, *, channels: int | None = None, **geometry) -> None:
        super().__init__(**geometry)
        self.theta = nn.Parameter(torch.zeros(per_shape("channel", channels, "ada")))

    @property
    def b(self) -> Tensor:
        """The share of edscw in force, (C, 1, 1)."""
        return self.theta.sigmoid()

    def logged(self) -> dict[str, Tensor]:
        return {"b": self.b}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.ada_pool2d(x, window, b=self.b)
