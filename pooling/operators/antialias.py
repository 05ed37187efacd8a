"""Downsamplers that filter before they subsample, and plain subsampling beside them."""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from pooling import functional
from pooling.composite import adaptive_filter2d
from pooling.dispatch import in_plain_torch
from pooling.operators.base import Downsampler2d, needed_channels
from pooling.options import Range
from pooling.registry import register

PadMode = Literal["auto", "reflect", "zeros", "circular"]


@register("subsample", kind="downsampler", paper="plain striding, the baseline of Zhang 2019")
class Subsample2d(Downsampler2d):
    """Every stride-th position of the site's dense half.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        (sh, sw), (rows, columns) = self.window.stride, size
        y = x[..., : (rows - 1) * sh + 1 : sh, : (columns - 1) * sw + 1 : sw]
        return y.contiguous(memory_format=functional.memory_format(x))


class FilterPool2d(Downsampler2d):
    """Base of the fixed separable filters: a row of weights, centred, an even one reaching one further at the far side.

    Args:
        row: the weights along each axis.
        pad_mode: how the filter sees past the border: "reflect", "zeros" or "circular"; "auto" is "circular" where
            the network's padding is, otherwise "reflect".
    """

    def __init__(self, row: Tensor, pad_mode: PadMode, **site) -> None:
        super().__init__(**site)
        self.weights: Tensor
        self.register_buffer("weights", torch.outer(row, row), persistent=False)
        self.pad_mode = self.filter_padding if pad_mode == "auto" else pad_mode
        near = (len(row) - 1) // 2
        self.near = (near, near)  # rows and columns by which the first filter reaches past the near border

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.blur_pool2d(
            x, self.window.stride, filter=self.weights, before=self.near, size=size, pad_mode=self.pad_mode
        )


@register("blur", kind="downsampler", paper="Zhang 2019, arXiv:1904.11486")
class BlurPool2d(FilterPool2d):
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
        pad_mode: PadMode = "auto",
        **site,
    ) -> None:
        row = functional.binomial_row(filter).float()
        super().__init__(row, pad_mode, **site)
        self.row: Tensor
        self.register_buffer("row", row, persistent=False)
        if self.native == "avg":
            # Keep each filter centred where the window of the average that it replaces is.
            (near, _), (ph, pw), (eh, ew) = self.near, self.window.padding, self.window.extent
            self.near = near + ph - (eh - 1) // 2, near + pw - (ew - 1) // 2

    def dense(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        if self.native != "avg":
            return super().dense(x)
        self.check(x)
        circular = self.padding_mode == "circular"
        return x, self._strided(x) if circular else self.window.output_size(x.shape[-2], x.shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        if self.native != "max":
            return super().forward(x)
        if self.padding_mode == "zeros":
            return functional.max_blur_pool2d(x, self.window, filter=self.row, pad_mode=self.pad_mode)
        x, window, more, size = self.framed_dense(x)
        return functional.max_blur_pool2d(x, window, filter=self.row, more=more, size=size, pad_mode=self.pad_mode)


@register("wavelet", kind="downsampler", paper="Mallat 1989; in networks: Li et al. 2020, arXiv:2005.03337")
class WaveletPool2d(FilterPool2d):
    """The low-low band of a discrete wavelet transform: its low-pass analysis filter before subsampling.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        wavelet: "haar", "db2" (Daubechies, two vanishing moments) or "cdf22" (the 5/3 filter of JPEG 2000).
        normalize: divide by the filter's sum, so that constants stay as they are; otherwise the transform's own band,
            in which they double.
        pad_mode: how the filter sees past the border: "reflect", "zeros" or "circular"; "auto" is "circular" where
            the network's padding is, otherwise "reflect".
    """

    def __init__(
        self,
        *,
        wavelet: Literal["haar", "db2", "cdf22"] = "haar",
        normalize: bool = True,
        pad_mode: PadMode = "auto",
        **site,
    ) -> None:
        row = functional.wavelet_row(wavelet)
        super().__init__(row / row.sum() if normalize else row, pad_mode, **site)


@register("ddac", kind="downsampler", paper="Zou et al. 2020, arXiv:2008.09604", learnable=True)
class AdaptiveBlur2d(Downsampler2d):
    """A low-pass filter for each place and group of channels, predicted from the map, before subsampling.

    The filter is softmax(conv(x)) over its taps: positive, of sum 1. Starts as `blur`: the convolution's weights are
    0 and its bias the logarithm of the binomial filter.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        groups: groups of channels that share a filter; the largest divisor of C up to this.
        filter: rows and columns of the filter and of the convolution that predicts it.
    """

    def __init__(
        self,
        *,
        groups: Annotated[int, Range(least=1)] = 8,
        filter: Annotated[int, Range(least=2, most=7)] = 3,
        channels: int | None = None,
        **site,
    ) -> None:
        super().__init__(**site)
        count = needed_channels(self.operator, channels)
        self.groups = max(g for g in range(1, min(groups, count) + 1) if count % g == 0)
        row = functional.binomial_row(filter)
        self.predict = nn.Conv2d(count, self.groups * filter**2, filter)
        nn.init.zeros_(self.predict.weight)
        binomial = torch.outer(row, row).log().flatten().repeat(self.groups)
        self.predict.bias = nn.Parameter(binomial.to(self.predict.weight))

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        weight, bias = self.predict.weight, self.predict.bias
        stride, mode = self.window.stride, self.filter_padding
        return in_plain_torch(adaptive_filter2d, x, weight, bias, self.groups, stride, size, mode)
