"""Global pools: what turns the last feature map into a vector, whatever its size."""

import inspect
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pooling.operators.base import GlobalPool2d, WindowPool2d
from pooling.options import Range, signature_options
from pooling.registry import COMMON, create, register

# Options of reducers that speak of padding, of the taps of a window of fixed size, or of more results than values.
NOT_OF_HEADS = ("return_indices", "count_include_pad", "divisor_override", "smooth")


class WholeMap(GlobalPool2d):
    """Base of the heads that are reducers with the whole map as their window.

    Shape: (N, C, H, W) -> (N, C).
    """

    def __init__(self, *, channels: int, **options: Any) -> None:
        super().__init__(channels)
        self.pool = create(self.operator, kind="reducer", channels=channels, kernel_size=1, **options)

    def reduce(self, x: Tensor) -> Tensor:
        assert isinstance(self.pool, WindowPool2d)
        return self.pool.whole(x)


def head_of(reducer: type[nn.Module]) -> type[WholeMap]:
    """The head of a reducer's name, with its options and its words; kept as `reducer.Head`, where pickle finds it."""
    if not issubclass(reducer, WindowPool2d):
        raise TypeError(f"head=True: {reducer.__qualname__} must derive from WindowPool2d to serve as a head too")
    site = "(N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'."
    words = (
        (inspect.getdoc(reducer) or "").replace("each window", "the whole map").replace(site, "(N, C, H, W) -> (N, C).")
    )
    names = {"__module__": reducer.__module__, "__qualname__": f"{reducer.__qualname__}.Head", "__doc__": words}
    Head = type(f"Global{reducer.__name__}", (WholeMap,), names)
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = signature_options(reducer, without=(*COMMON, *NOT_OF_HEADS)).values()
    parameters = [inspect.Parameter(o.name, keyword, default=o.default, annotation=o.annotation) for o in options]
    Head.__signature__ = inspect.Signature([inspect.Parameter("channels", keyword, annotation=int), *parameters])  # pyright: ignore[reportAttributeAccessIssue]
    reducer.Head = Head  # pyright: ignore[reportAttributeAccessIssue]
    return Head


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


@register("cat_avgmax", kind="global", paper="global average beside global max")
class GlobalCatAvgMaxPool2d(GlobalPool2d):
    """Each channel's mean, then each channel's largest value.

    Shape: (N, C, H, W) -> (N, 2 C).
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__(channels, features_per_channel=2)

    def reduce(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=(2, 3)), F.adaptive_max_pool2d(x, 1).flatten(1)], dim=1)


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
