"""Reducers of the sorted members of a window, x(1) >= x(2) >= ...: weights, draws and choices by rank."""

from typing import Annotated

import torch
from torch import Tensor, nn

from pooling import functional, ranks
from pooling.composite import working_dtype
from pooling.geometry import Window
from pooling.operators.base import WindowPool2d
from pooling.operators.fixed import Per, per_shape
from pooling.options import Range
from pooling.registry import register


class TablePool2d(WindowPool2d):
    """Base of the reducers with fixed weights or probabilities by rank: implement `tables`, call `keep_tables`.

    Kept in float32 whatever type the module is converted to (bfloat16 has three digits); made anew for float64 inputs.
    """

    def tables(self, taps: int) -> dict[str, Tensor]:
        """(K + 1, K) in float64 by name, as `pooling.ranks` makes them."""
        raise NotImplementedError

    def keep_tables(self) -> None:
        for name, table in self._exact().items():
            self.register_buffer(name, table.float(), persistent=False)

    def table_for(self, x: Tensor, name: str = "table") -> Tensor:
        return self._exact()[name].to(x.device) if x.dtype == torch.float64 else getattr(self, name)

    def _exact(self) -> dict[str, Tensor]:
        kh, kw = self.window.kernel_size
        return self.tables(kh * kw)

    def _apply(self, *args, **kwargs):  # what .to(), .half() and .to_empty() do to each tensor
        super()._apply(*args, **kwargs)
        for name, table in self._exact().items():
            setattr(self, name, table.to(getattr(self, name).device, torch.float32))
        return self


@register("median", kind="reducer", paper="Tukey 1977; torch.median", head=True)
class MedianPool2d(WindowPool2d):
    """The lower median of each window; that member gets the gradient.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.median_pool2d(x, window)

    def whole(self, x: Tensor) -> Tensor:
        # torch.median reads foreign memory where a stride is 0, as an expanded tensor's is.
        return x.flatten(2).contiguous().median(dim=2).values


@register("rap", kind="reducer", paper="Shi et al. 2016", head=True)
class RankAveragePool2d(TablePool2d):
    """The mean of the t largest values of each window (rank-based average).

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        t: how many; half of the members, rounded up, where None.
    """

    def __init__(self, *, t: Annotated[int, Range(least=1)] | None = None, **geometry) -> None:
        super().__init__(**geometry)
        self.t = t
        self.keep_tables()

    def tables(self, taps: int) -> dict[str, Tensor]:
        return {"table": ranks.largest(taps, self.t)}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.ranked_pool2d(x, window, table=self.table_for(x), owner="rap")

    def whole(self, x: Tensor) -> Tensor:
        values = x.flatten(2)
        count = values.shape[2]
        return values.topk(-(-count // 2) if self.t is None else min(self.t, count)).values.mean(dim=2)


@register("rwp", kind="reducer", paper="Shi et al. 2016", head=True)
class RankWeightedPool2d(TablePool2d):
    """The r-th largest value of each window weighted in proportion to a (1 - a)^(r - 1) (rank-based weighting).

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        a: the share of the largest, in (0, 1].
    """

    def __init__(self, *, a: Annotated[float, Range(above=0, most=1)] = 0.5, **geometry) -> None:
        super().__init__(**geometry)
        self.a = a
        self.keep_tables()

    def tables(self, taps: int) -> dict[str, Tensor]:
        return {"table": ranks.geometric(taps, self.a)}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        return functional.ranked_pool2d(x, window, table=self.table_for(x), owner="rwp")

    def whole(self, x: Tensor) -> Tensor:
        values = x.flatten(2).sort(dim=2, descending=True).values
        weights = (1 - self.a) ** torch.arange(values.shape[2], device=x.device, dtype=working_dtype(x))
        weighted = torch.where(weights > 0, values, 0.0) * (weights / weights.sum())
        return weighted.sum(dim=2).to(x.dtype)


@register("rsp", kind="reducer", paper="Shi et al. 2016", random=True)
class RankStochasticPool2d(TablePool2d):
    """Training draws the r-th largest value with probability proportional to a (1 - a)^(r - 1); eval is `rwp`.

    The drawn member gets the gradient.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        a: the share of the largest, in (0, 1).
    """

    def __init__(self, *, a: Annotated[float, Range(above=0, most=1)] = 0.5, **geometry) -> None:
        super().__init__(**geometry)
        self.a = a
        self.keep_tables()

    def tables(self, taps: int) -> dict[str, Tensor]:
        table = ranks.geometric(taps, self.a)
        return {"table": table, "cumulative": ranks.cumulative(table, certain=True)}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        if not self.training:
            return functional.ranked_pool2d(x, window, table=self.table_for(x), owner="rsp")
        return functional.rank_draw_pool2d(x, window, table=self.table_for(x, "cumulative"), owner="rsp")


@register("max_dropout", kind="reducer", paper="Wu & Gu 2015, arXiv:1512.01400", random=True)
class MaxDropoutPool2d(TablePool2d):
    """Training drops each member with probability q before the max; eval gives the expectation.

    The largest kept member gets the gradient; a window that keeps none gives 0.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        q: the probability of dropping, in [0, 1).
    """

    def __init__(self, *, q: Annotated[float, Range(least=0, most=0.999)] = 0.5, **geometry) -> None:
        super().__init__(**geometry)
        self.q = q
        self.keep_tables()

    def tables(self, taps: int) -> dict[str, Tensor]:
        table = ranks.first_kept(taps, self.q)
        return {"table": table, "cumulative": ranks.cumulative(table, certain=False)}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        if not self.training:
            return functional.ranked_pool2d(x, window, table=self.table_for(x), owner="max_dropout")
        return functional.rank_draw_pool2d(x, window, table=self.table_for(x, "cumulative"), owner="max_dropout")


@register("ordinal", kind="reducer", paper="Deliege et al. 2021, ordinal pooling", learnable=True)
class OrdinalPool2d(WindowPool2d):
    """sum_r w_r x(r), the r-th largest value of each window with a learned weight, w = softmax(theta).

    A window at the border takes the first weights, divided by their sum. Starts as average pooling of the members.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    Args:
        per: one theta per layer or per channel.
    """

    no_weight_decay = ("theta",)

    def __init__(self, *, per: Per = "layer", channels: int | None = None, **geometry) -> None:
        super().__init__(**geometry)
        kh, kw = self.window.kernel_size
        self.theta = nn.Parameter(torch.zeros(*per_shape(per, channels, "ordinal")[:1], kh * kw))
        self.beyond: Tensor
        self.register_buffer("beyond", ranks.beyond(kh * kw), persistent=False)

    def logged(self) -> dict[str, Tensor]:
        return {f"w{rank}": weight for rank, weight in enumerate(self.theta.softmax(dim=-1).unbind(dim=-1), start=1)}

    def reduce(self, x: Tensor, window: Window) -> Tensor:
        table = ranks.softmax(self.theta, self.beyond)
        return functional.ranked_pool2d(x, window, table=table, owner="ordinal")
