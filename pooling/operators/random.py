"""Reducers that are random in training and deterministic in eval mode."""

from typing import Annotated, Literal

from torch import Tensor

from pooling import functional
from pooling.geometry import Window
from pooling.operators.base import Pool2d, WindowPool2d
from pooling.options import Range
from pooling.registry import register


@register("stochastic", kind="reducer", paper="Zeiler & Fergus 2013, arXiv:1301.3557", random=True, head=True)
class StochasticPool2d(WindowPool2d):
    """Training draws one tap of each window with probability a_i / sum a, a = max(x, 0); eval gives sum a^2 / sum a.

    The drawn tap gets the gradient. A window without a positive value gives 0 and no gradient.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        negatives: what a negative x means: "relu": a = 0; "shift": a = x less the window's minimum, which the result
            gets back; "error": a ValueError.
        eval: the rule of eval mode: "weighted" (the paper's), "max" or "avg".
    """

    def __init__(
        self,
        *,
        negatives: Literal["relu", "shift", "error"] = "relu",
        eval: Literal["weighted", "max", "avg"] = "weighted",
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        self.negatives = negatives
        self.eval_rule = eval

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.stochastic_pool2d(
            x, window, training=self.training, negatives=self.negatives, eval=self.eval_rule
        )


@register("s3", kind="reducer", paper="Zhai et al. 2017, arXiv:1611.05138", random=True)
class StochasticSpatialSampling2d(WindowPool2d):
    """Training: the max at every position, of which random rows and columns are kept; eval: the dense max, averaged.

    The rows of the dense max are cut into strips of keep * stride, the paper's grid size g; of each, `keep` random ones
    stay, in their order; columns alike. Eval takes the mean of each stride x stride block. One draw serves all images
    and channels.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        keep: rows and columns kept of each strip: more, more distortion.
    """

    def __init__(self, *, keep: Annotated[int, Range(least=1)] = 2, **geometry) -> None:
        super().__init__(**geometry)
        self.keep = keep

    def framed(self, x: Tensor) -> tuple[Tensor, Window]:
        if self.padding_mode == "zeros" or self.window.ceil_mode:
            return super().framed(x)
        # All of the padding: the last block reaches further than the last strided window.
        ph, pw = self.window.padding
        return self.continued(x, pw, pw, ph, ph), self.window.unpadded()

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.s3_pool2d(x, window, keep=self.keep, training=self.training)


@register("fractional", kind="reducer", paper="Graham 2014, arXiv:1412.6071", random=True)
class FractionalMaxPool2d(Pool2d):
    """The max of each of H' x W' cells that tile the map, with random bounds in training and regular ones in eval.

    At a site H' and W' are those of the site's own geometry, so the ratio is H / H'; kernel, padding and padding mode
    mean nothing else. All images and channels have the same cells. In eval mode cell i starts at ceil(i H / H').

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W', or floor(H / ratio), floor(W / ratio).
    Args:
        ratio: how much smaller the output is than the input, in (1, 2], whatever the site says.
        method: "pseudo": bounds at ceil(a (i + u)) for a random u, a the ratio: evenly spread; "random": steps of
            floor(a) and ceil(a) in random order.
        overlapping: neighbouring cells share their border.
    """

    def __init__(
        self,
        *,
        ratio: Annotated[float, Range(above=1, most=2)] | None = None,
        method: Literal["pseudo", "random"] = "pseudo",
        overlapping: bool = True,
        **geometry,
    ) -> None:
        super().__init__(**geometry)
        self.ratio = ratio
        self.method = method
        self.overlapping = overlapping

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        H, W = x.shape[-2:]
        if self.ratio is None:
            size = self.window.output_size(H, W)
        else:
            size = max(1, int(H / self.ratio)), max(1, int(W / self.ratio))
        return functional.fractional_pool2d(
            x, size, method=self.method, overlapping=self.overlapping, training=self.training
        )
