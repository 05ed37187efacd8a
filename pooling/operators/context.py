"""Dense context for segmentation: each position is told what lies around it, near and far; the size stays."""

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pooling import functional
from pooling.composite import pad2d
from pooling.geometry import Pair, pair
from pooling.operators.base import PaddingMode
from pooling.operators.learned import needed_channels
from pooling.options import Option, Range, check_option
from pooling.registry import register

Rate = Annotated[float, Range(least=0, most=1)]
Count = Annotated[int, Range(least=1)]


class SameConv2d(nn.Conv2d):
    """A convolution that keeps the size, whatever its kernel: an even one, or one that reaches past a small map.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H, W).
    Args:
        near: rows and columns of padding before the map; half of what the kernel needs where None.
        mode: how the map is continued: "zeros", "reflect" or "circular".
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        *,
        near: Pair | None = None,
        mode: PaddingMode = "zeros",
        dilation: Pair = 1,
        **arguments: Any,
    ) -> None:
        reach = [d * (k - 1) for d, k in zip(pair(dilation), pair(kernel_size), strict=True)]
        top, left = (reach[0] // 2, reach[1] // 2) if near is None else pair(near)
        self.border = (left, reach[1] - left, top, reach[0] - top)
        self.mode: PaddingMode = mode
        self.plain = mode == "zeros" and self.border == (left, left, top, top)  # then no padded copy is needed
        padding = (top, left) if self.plain else 0
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, **arguments)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.plain else pad2d(x, *self.border, self.mode))


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that takes a single value per channel in training too: the mean of the only image of a batch.

    It has no variance; the running statistics stand in.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def unit(conv: nn.Module, channels: int) -> list[nn.Module]:
    """A convolution with batch normalisation and ReLU."""
    return [conv, BatchNorm2d(channels), nn.ReLU(inplace=True)]


class PooledBranch(nn.Sequential):
    """The map pooled, through a 1x1 convolution, spread over the map again."""

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(super().forward(input), size=input.shape[-2:], mode="bilinear", align_corners=False)


class Context2d(nn.Module):
    """Base of the context operators: implement `gather(x)`.

    Shape: (N, C, H, W) or (C, H, W) -> (N, out_channels, H, W).
    Args:
        out_channels: C where None.
        dropout: rate after the last layer.
    """

    operator: str = ""

    def __init__(
        self,
        *,
        out_channels: Count | None = None,
        dropout: Rate = 0.0,
        channels: int | None = None,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()
        check_option(self.operator, Option("padding_mode", PaddingMode, "zeros"), padding_mode)
        self.channels = needed_channels(self.operator, channels)
        self.out_channels = self.channels if out_channels is None else out_channels
        self.dropout, self.padding_mode = dropout, padding_mode

    def gather(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        functional.check(self.operator, x)
        y = self.gather(x if x.dim() == 4 else x.unsqueeze(0))
        return (y if x.dim() == 4 else y.squeeze(0)).contiguous(memory_format=functional.memory_format(x))

    def conv(self, in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> list[nn.Module]:
        arguments = {"dilation": dilation, "mode": self.padding_mode, "bias": False}
        return unit(SameConv2d(in_channels, out_channels, kernel_size, **arguments), out_channels)


@register("ppm", kind="context", paper="Zhao et al. 2017, arXiv:1612.01105, section 3.2", learnable=True, random=True)
class PyramidPooling2d(Context2d):
    """The map beside its averages on several grids, joined by a 3x3 convolution (pyramid pooling module).

    Each average passes a 1x1 convolution to C / number of grids channels and is interpolated back to the map's size.

    Shape: (N, C, H, W) -> (N, out_channels, H, W).
    Args:
        bins: rows and columns of each grid.
        out_channels: C where None.
        dropout: rate after the last layer (0.1 in the paper's network).
    """

    def __init__(
        self,
        *,
        bins: tuple[Count, ...] = (1, 2, 3, 6),
        out_channels: Count | None = None,
        dropout: Rate = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(out_channels=out_channels, dropout=dropout, **common)
        C, width = self.channels, max(1, self.channels // max(1, len(bins)))
        self.branches = nn.ModuleList(
            PooledBranch(nn.AdaptiveAvgPool2d(grid), *self.conv(C, width, 1)) for grid in bins
        )
        joined = self.conv(C + len(bins) * width, self.out_channels, 3)
        self.project = nn.Sequential(*joined, nn.Dropout(dropout))

    def gather(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([x, *(branch(x) for branch in self.branches)], dim=1))


@register("aspp", kind="context", paper="Chen et al. 2017, arXiv:1706.05587, section 3.3", learnable=True, random=True)
class AtrousPyramid2d(Context2d):
    """A 1x1 and dilated 3x3 convolutions beside the map's mean, joined by a 1x1 (atrous spatial pyramid pooling).

    Shape: (N, C, H, W) -> (N, out_channels, H, W).
    Args:
        rates: dilations of the 3x3 convolutions; the paper's for 1/8 of the image's resolution.
        out_channels: C where None.
        dropout: rate after the last layer.
    """

    def __init__(
        self,
        *,
        rates: tuple[Count, ...] = (12, 24, 36),
        out_channels: Count | None = None,
        dropout: Rate = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(out_channels=out_channels, dropout=dropout, **common)
        C, D = self.channels, self.out_channels
        branches = [nn.Sequential(*self.conv(C, D, 1))]
        branches += [nn.Sequential(*self.conv(C, D, 3, rate)) for rate in rates]
        branches += [PooledBranch(nn.AdaptiveAvgPool2d(1), *self.conv(C, D, 1))]
        self.convs = nn.ModuleList(branches)
        self.project = nn.Sequential(*self.conv(len(branches) * D, D, 1), nn.Dropout(dropout))

    def gather(self, x: Tensor) -> Tensor:
        return self.project(torch.cat([branch(x) for branch in self.convs], dim=1))
