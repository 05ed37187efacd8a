"""Upsampling partners: what takes a decoder back to the size, and to the places, that a pool of the encoder had.

y, indices = pool(x, return_indices=True)             # or, of a polyphase operator, return_phase=True
x_again = unpool(y, indices, size=x.shape[-2:])
"""

from typing import Annotated, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from pooling import functional
from pooling.composite import pad2d
from pooling.operators.base import Pool2d
from pooling.operators.learned import needed_channels
from pooling.options import Range
from pooling.registry import register


class Upsample2d(Pool2d):
    """Base of the upsampling partners: implement `expand(x, size, choice)`. The window is that of the pool it undoes.

    Shape: (N, C, H', W') or (C, H', W') -> (N, C, H, W), (H, W) = size; where size is None, H' and W' times the stride.

    partner: the operator whose choice of places it needs, if any; choice: what that is, `return_CHOICE=True` gives it.
    """

    partner: ClassVar[str | None] = None
    choice: ClassVar[str] = ""

    def expand(self, x: Tensor, size: tuple[int, int], choice: Tensor | None) -> Tensor:
        """(N, C, H', W') -> (N, C, H, W)."""
        raise NotImplementedError

    def default_size(self, height: int, width: int) -> tuple[int, int]:
        return height * self.window.stride[0], width * self.window.stride[1]

    def forward(self, x: Tensor, choice: Tensor | None = None, *, size: tuple[int, int] | None = None) -> Tensor:
        functional.check(self.operator, x)
        if (choice is None) != (self.partner is None):
            given = (
                "takes nothing beside the map"
                if self.partner is None
                else (f"needs the {self.choice} that pooling {self.partner!r} gives with return_{self.choice}=True")
            )
            raise ValueError(f"{self.operator}: {given}, got {'none' if choice is None else 'a tensor'}")
        if size is None:
            size = self.default_size(x.shape[-2], x.shape[-1])
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"{self.operator}: size must be two positive numbers, got {tuple(size)}")
        return self.expand(x, (size[0], size[1]), choice)

    def window_size(self, height: int, width: int) -> tuple[int, int]:
        """The least size that the window pools to (H', W'): torch's for `MaxUnpool2d` and `ConvTranspose2d`."""
        (sh, sw), (ph, pw), (eh, ew) = self.window.stride, self.window.padding, self.window.extent
        return (height - 1) * sh - 2 * ph + eh, (width - 1) * sw - 2 * pw + ew


@register("nearest", kind="upsample", paper="repetition; torch.nn.functional.interpolate")
class NearestUpsample2d(Upsample2d):
    """Each position's nearest value: row i of H is row floor(i H' / H).

    Shape: (N, C, H', W') -> (N, C, H, W).
    """

    def expand(self, x: Tensor, size: tuple[int, int], choice: Tensor | None) -> Tensor:
        return functional.in_plain_torch(F.interpolate, x, size=size, mode="nearest")


@register("bilinear", kind="upsample", paper="linear interpolation; torch.nn.functional.interpolate")
class BilinearUpsample2d(Upsample2d):
    """Linear interpolation along each axis between the centres of positions; the border value goes on past its centre.

    Shape: (N, C, H', W') -> (N, C, H, W).
    """

    def expand(self, x: Tensor, size: tuple[int, int], choice: Tensor | None) -> Tensor:
        return functional.in_plain_torch(F.interpolate, x, size=size, mode="bilinear", align_corners=False)


@register("transposed_conv", kind="upsample", paper="Zeiler et al. 2010; Long et al. 2015", learnable=True)
class TransposedConv2d(Upsample2d):
    """A transposed convolution with the window of the pool that it undoes.

    A side that it leaves short goes on with its last row or column.

    Shape: (N, C, H', W') -> (N, out_channels, H, W).
    Args:
        out_channels: C where None.
    """

    def __init__(
        self, *, out_channels: Annotated[int, Range(least=1)] | None = None, channels: int | None = None, **geometry
    ) -> None:
        super().__init__(**geometry)
        count, window = needed_channels(self.operator, channels), self.window
        self.conv = nn.ConvTranspose2d(
            count,
            count if out_channels is None else out_channels,
            window.kernel_size,
            window.stride,
            dilation=window.dilation,
        )

    def default_size(self, height: int, width: int) -> tuple[int, int]:
        return self.window_size(height, width)

    def expand(self, x: Tensor, size: tuple[int, int], choice: Tensor | None) -> Tensor:
        y, (ph, pw) = self.conv(x), self.window.padding
        y = pad2d(y, -pw, pw + size[1] - y.shape[-1], -ph, ph + size[0] - y.shape[-2], "edge")
        return y.contiguous(memory_format=functional.memory_format(x))


@register("max_unpool", kind="upsample", paper="Zeiler & Fergus 2014, arXiv:1311.2901; torch.nn.MaxUnpool2d")
class MaxUnpool2d(Upsample2d):
    """Each value put back to where `max` took it from, zeros elsewhere.

    Shape: (N, C, H', W') and indices of that shape -> (N, C, H, W); the least size that the window pools to H', W'
    where none is given, as torch's.
    """

    partner, choice = "max", "indices"

    def default_size(self, height: int, width: int) -> tuple[int, int]:
        return self.window_size(height, width)

    def expand(self, x: Tensor, size: tuple[int, int], choice: Tensor | None) -> Tensor:
        assert choice is not None
        return functional.max_unpool2d(x, choice, size)


class PolyphaseUnpool2d(Upsample2d):
    """Base of the partners of polyphase operators."""

    choice = "phase"

    def expand(self, x: Tensor, size: tuple[int, int], choice: Tensor | None) -> Tensor:
        assert choice is not None
        return functional.polyphase_unpool2d(x, choice, self.window.stride, size)


@register("aps_up", kind="upsample", paper="Chaman & Dokmanic 2021, arXiv:2105.04040")
class AdaptivePolyphaseUp2d(PolyphaseUnpool2d):
    """Each image put back on the grid that `aps` chose for it, zeros elsewhere.

    With circular padding and a stride that divides H and W, `aps`, anything shift-equivariant, and this are together
    shift-equivariant.

    Shape: (N, C, H', W') and phase (N,) -> (N, C, H, W).
    """

    partner = "aps"


@register("lps_up", kind="upsample", paper="Rojas-Gomez et al. 2022, arXiv:2210.08001")
class LearnablePolyphaseUp2d(PolyphaseUnpool2d):
    """Each image put back on the grid that `lps` chose for it, zeros elsewhere; in training, each grid's share of it.

    Shape: (N, C, H', W') and phase (N,) or (N, stride^2) -> (N, C, H, W).
    """

    partner = "lps"
