"""Downsamplers that filter before they subsample, and plain subsampling beside them."""

from typing import Annotated, Literal

from torch import Tensor

from pooling import functional
from pooling.operators.base import Downsampler2d
from pooling.options import Range
from pooling.registry import register


@register("subsample", kind="downsampler", paper="plain striding, the baseline of Zhang 2019")
class Subsample2d(Downsampler2d):
    """Every stride-th position of the site's dense half.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        (sh, sw), (rows, columns) = self.window.stride, size
        y = x[..., : (rows - 1) * sh + 1 : sh, : (columns - 1) * sw + 1 : sw]
        return y.contiguous(memory_format=functional.memory_format(x))


@register("blur", kind="downsampler", paper="Zhang 2019, arXiv:1904.11486")
class BlurPool2d(Downsampler2d):
    """A binomial low-pass filter before subsampling (BlurPool).

    At a max site the dense max comes first (MaxBlurPool), at a convolution site the convolution; at an average site
    the blur takes the average's place.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        filter: length of the binomial filter, 2 to 7; an even one reaches one position further at the far side.
        pad_mode: how the filter sees past the border: "reflect", "zeros" or "circular"; "auto" is "circular" where
            the network's padding is, otherwise "reflect".
    """

    def __init__(
        self,
        *,
        filter: Annotated[int, Range(least=2, most=7)] = 3,
        pad_mode: Literal["auto", "reflect", "zeros", "circular"] = "auto",
        **site,
    ) -> None:
        super().__init__(**site)
        self.row: Tensor
        self.register_buffer("row", functional.binomial_row(filter).float(), persistent=False)
        circular = self.padding_mode == "circular"
        self.pad_mode = pad_mode if pad_mode != "auto" else "circular" if circular else "reflect"

    def dense(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        if self.native != "avg":
            return super().dense(x)
        self.check(x)
        circular = self.padding_mode == "circular"
        return x, self._strided(x) if circular else self.window.output_size(x.shape[-2], x.shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        if self.native != "max":
            return super().forward(x)
        x, window, more, size = self.framed_dense(x)
        return functional.max_blur_pool2d(x, window, filter=self.row, more=more, size=size, pad_mode=self.pad_mode)

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        near = (len(self.row) - 1) // 2
        before = (near, near)
        if self.native == "avg":
            # Keep each filter centred where the window of the average that it replaces is.
            (ph, pw), (eh, ew) = self.window.padding, self.window.extent
            before = near + ph - (eh - 1) // 2, near + pw - (ew - 1) // 2
        return functional.blur_pool2d(
            x, self.window.stride, filter=self.row, before=before, size=size, pad_mode=self.pad_mode
        )
