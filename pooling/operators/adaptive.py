"""Adaptive pools: the output's size is given, and the windows follow from it. No drop-in at a site, whose rule for
the size they break; a kind of their own."""

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from pooling import functional
from pooling.geometry import pair
from pooling.options import Range
from pooling.registry import register

Length = Annotated[int, Range(least=1)]


class AdaptivePool2d(nn.Module):
    """Base of the adaptive pools: implement `reduce(x)` with `self.output_size`.

    Shape: (N, C, H, W) or (C, H, W) -> (N, C, h, w), (h, w) = output_size, for any H and W.
    """

    operator: str = ""

    def __init__(self, *, output_size: Length | tuple[Length, ...]) -> None:
        super().__init__()
        if not isinstance(output_size, int) and len(output_size) != 2:
            raise ValueError(f"{self.operator}: output_size must be an int or a pair of ints, got {output_size!r}")
        self.output_size = pair(output_size)  # pyright: ignore[reportArgumentType]

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"

    def reduce(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, h, w)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        functional.check(self.operator, x)
        return functional.in_plain_torch(self.reduce, x)


@register("adaptive_max", kind="adaptive", paper="the bins of He et al. 2014, section 2.2; torch.nn.AdaptiveMaxPool2d")
class AdaptiveMaxPool2d(AdaptivePool2d):
    """The largest value of each bin: bin i of h covers rows floor(i H / h) to ceil((i + 1) H / h) - 1.

    Shape: (N, C, H, W) -> (N, C, h, w).
    Args:
        output_size: h and w, an int for both.
    """

    def reduce(self, x: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(x, self.output_size)


@register("adaptive_avg", kind="adaptive", paper="the bins of He et al. 2014, section 2.2; torch.nn.AdaptiveAvgPool2d")
class AdaptiveAvgPool2d(AdaptivePool2d):
    """The mean of each bin: bin i of h covers rows floor(i H / h) to ceil((i + 1) H / h) - 1.

    Shape: (N, C, H, W) -> (N, C, h, w).
    Args:
        output_size: h and w, an int for both.
    """

    def reduce(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)
