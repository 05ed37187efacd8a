"""Reducers whose parameters are learned."""

import torch
from torch import Tensor, nn

from pooling import functional
from pooling.composite import pad2d
from pooling.geometry import Window
from pooling.operators.base import Pool2d, WindowPool2d
from pooling.registry import register


def needed_channels(owner: str, channels: int | None) -> int:
    """channels, or a ValueError that says that the operator has weights per channel."""
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(f"{owner}: has weights per channel and needs channels, a positive int, got {channels!r}")
    return channels


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
