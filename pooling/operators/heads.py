"""Global pools: what turns the last feature map into a vector, whatever its size."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from pooling.operators.base import GlobalPool2d
from pooling.options import Range
from pooling.registry import register


@register("gap", kind="global", paper="Lin et al. 2014, arXiv:1312.4400")
class GlobalAvgPool2d(GlobalPool2d):
    """The mean of each channel (global average pooling).

    Shape: (N, C, H, W) -> (N, C).
    """

    def reduce(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


@register("gmp", kind="global", paper="Oquab et al. 2015")
class GlobalMaxPool2d(GlobalPool2d):
    """The largest value of each channel (global max pooling).

    Shape: (N, C, H, W) -> (N, C).
    """

    def reduce(self, x: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(x, 1).flatten(1)


@register("avgmax", kind="global", paper="mean of global average and global max")
class GlobalAvgMaxPool2d(GlobalPool2d):
    """Half the sum of each channel's mean and largest value.

    Shape: (N, C, H, W) -> (N, C).
    """

    def reduce(self, x: Tensor) -> Tensor:
        # Halved first: the sum of two large numbers may overflow float16.
        return x.mean(dim=(2, 3)) / 2 + F.adaptive_max_pool2d(x, 1).flatten(1) / 2


@register("flatten", kind="global", paper="the fully connected head of LeCun et al. 1998, Krizhevsky et al. 2012")
class FlattenGrid(GlobalPool2d):
    """An adaptive average to a fixed grid, then every cell of it: the classic fully connected head's input.

    A map that has the grid's size already passes unchanged.

    Shape: (N, C, H, W) -> (N, C * grid * grid).
    Args:
        grid: rows and columns of the grid.
    """

    def __init__(self, *, channels: int, grid: Annotated[int, Range(least=1)] = 4) -> None:
        super().__init__(channels, grid * grid)
        self.grid = grid

    def reduce(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.grid).flatten(1)


@register("spp", kind="global", paper="He et al. 2014, arXiv:1406.4729")
class SpatialPyramidPool2d(GlobalPool2d):
    """The largest value of each cell of several adaptive grids, one after another (spatial pyramid pooling).

    Shape: (N, C, H, W) -> (N, C * sum of squared levels).
    Args:
        levels: rows and columns of each grid.
    """

    def __init__(self, *, channels: int, levels: tuple[Annotated[int, Range(least=1)], ...] = (1, 2, 4)) -> None:
        super().__init__(channels, sum(level**2 for level in levels))
        self.levels = tuple(levels)

    def reduce(self, x: Tensor) -> Tensor:
        return torch.cat([F.adaptive_max_pool2d(x, level).flatten(1) for level in self.levels], dim=1)
