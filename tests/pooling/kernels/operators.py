"""Each native operator beside its NumPy definition: what the fuzz and the other tests of this folder run over."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pooling import functional, ranks, reference
from pooling.geometry import Window

SEED = 0x1234_5678_9ABC_DEF0


def table(window: Window, make: Callable[[int], Tensor]) -> Tensor:
    return make(window.kernel_size[0] * window.kernel_size[1])


def uniforms(x: Any, window: Window) -> Any:
    shape = (*x.shape[:2], *window.output_size(*x.shape[2:]))
    return reference.uniform(SEED, int(np.prod(shape))).reshape(shape)


def seed() -> Tensor:
    return torch.tensor(SEED)


@dataclass(frozen=True)
class Case:
    """`call(x, window)` on tensors, `define(x, window)` on float64 arrays.

    `exact` ones give one of the window's values, with no rounding at all. `least` is the magnitude that even the
    smallest values are given, as by gem's eps.
    """

    name: str
    call: Callable[[Tensor, Window], Tensor]
    define: Callable[[Any, Window], Any]
    exact: bool = False
    least: float = 0.0


def logits_of(x: Tensor) -> Tensor:
    """Logits that both sides can compute without rounding."""
    return torch.where(x > 0.5, 1.0, torch.where(x < -0.5, -2.0, 0.25)).to(x.dtype)


def numpy_logits(x: Any) -> Any:
    return np.where(x > 0.5, 1.0, np.where(x < -0.5, -2.0, 0.25))


def per_channel(x: Tensor, first: float) -> Tensor:
    return first + torch.arange(x.shape[1], dtype=torch.float64) / 8


def numpy_per_channel(x: Any, first: float) -> Any:
    return first + np.arange(x.shape[1]) / 8


F, R = functional, reference
CASES = [
    Case("max", lambda x, w: F.max_pool2d(x, w), lambda x, w: R.max_pool2d(x, w), exact=True),
    Case("min", lambda x, w: F.min_pool2d(x, w), lambda x, w: R.min_pool2d(x, w), exact=True),
    Case("avg", lambda x, w: F.avg_pool2d(x, w), lambda x, w: R.avg_pool2d(x, w)),
    Case(
        "avg members",
        lambda x, w: F.avg_pool2d(x, w, count_include_pad=False),
        lambda x, w: R.avg_pool2d(x, w, count_include_pad=False),
    ),
    Case(
        "avg divisor",
        lambda x, w: F.avg_pool2d(x, w, divisor_override=3),
        lambda x, w: R.avg_pool2d(x, w, divisor_override=3),
    ),
    Case(
        "subsample_scaled",
        lambda x, w: F.subsample_scaled2d(x, w, scale=per_channel(x, 0.5), bias=per_channel(x, -0.25)),
        lambda x, w: R.subsample_scaled2d(x, w, scale=numpy_per_channel(x, 0.5), bias=numpy_per_channel(x, -0.25)),
    ),
    Case("mixed", lambda x, w: F.mixed_pool2d(x, w, a=0.3), lambda x, w: R.mixed_pool2d(x, w, a=0.3)),
    Case("lp 2", lambda x, w: F.lp_pool2d(x, w), lambda x, w: R.lp_pool2d(x, w)),
    Case("lp 3", lambda x, w: F.lp_pool2d(x, w, p=3.0), lambda x, w: R.lp_pool2d(x, w, p=3.0)),
    Case(
        "lp 3.5 sum",
        lambda x, w: F.lp_pool2d(x, w, p=3.5, normalize=False),
        lambda x, w: R.lp_pool2d(x, w, p=3.5, normalize=False),
    ),
    Case("lp 1", lambda x, w: F.lp_pool2d(x, w, p=1.0), lambda x, w: R.lp_pool2d(x, w, p=1.0)),
    Case("gem", lambda x, w: F.gem_pool2d(x, w), lambda x, w: R.gem_pool2d(x, w), least=1e-6),
    Case("lse", lambda x, w: F.lse_pool2d(x, w, r=2.0), lambda x, w: R.lse_pool2d(x, w, r=2.0)),
    Case("lse negative", lambda x, w: F.lse_pool2d(x, w, r=-0.5), lambda x, w: R.lse_pool2d(x, w, r=-0.5)),
    Case("lse 0", lambda x, w: F.lse_pool2d(x, w, r=0.0), lambda x, w: R.lse_pool2d(x, w, r=0.0)),
    Case("soft", lambda x, w: F.soft_pool2d(x, w, beta=1.5), lambda x, w: R.soft_pool2d(x, w, beta=1.5)),
    Case(
        "weighted mean",
        lambda x, w: F.weighted_mean_pool2d(x, w, logits=logits_of(x)),
        lambda x, w: R.weighted_mean_pool2d(x, numpy_logits(x), w),
    ),
    Case("edscw", lambda x, w: F.edscw_pool2d(x, w), lambda x, w: R.edscw_pool2d(x, w)),
    Case("idw", lambda x, w: F.idw_pool2d(x, w, eps=1e-2), lambda x, w: R.idw_pool2d(x, w, eps=1e-2)),
    Case(
        "ada",
        lambda x, w: F.ada_pool2d(x, w, b=0.25),
        lambda x, w: 0.25 * R.edscw_pool2d(x, w) + 0.75 * R.soft_pool2d(x, w),
    ),
    Case(
        "stochastic eval",
        lambda x, w: F.stochastic_pool2d(x, w, training=False),
        lambda x, w: R.stochastic_pool2d(x, None, w),
    ),
    Case(
        "stochastic shift eval",
        lambda x, w: F.stochastic_pool2d(x, w, training=False, negatives="shift"),
        lambda x, w: R.stochastic_pool2d(x, None, w, negatives="shift"),
    ),
    Case("median", lambda x, w: F.median_pool2d(x, w), lambda x, w: R.median_pool2d(x, w), exact=True),
    Case(
        "rap",
        lambda x, w: F.ranked_pool2d(x, w, table=table(w, ranks.largest)),
        lambda x, w: R.ranked_pool2d(x, w, weights=R.rank_average_weights),
    ),
    Case(
        "rwp",
        lambda x, w: F.ranked_pool2d(x, w, table=table(w, lambda k: ranks.geometric(k, 0.5))),
        lambda x, w: R.ranked_pool2d(x, w, weights=R.geometric_weights),
    ),
]

# Drawn: a uniform number that falls within rounding of a threshold may pick a neighbour, so values come from a coarse
# grid on which the sums are exact.
DRAWN = [
    Case(
        "stochastic",
        lambda x, w: F.stochastic_pool2d(x, w, seed=seed()),
        lambda x, w: R.stochastic_pool2d(x, uniforms(x, w), w),
        exact=True,
    ),
    Case(
        "stochastic shift",
        lambda x, w: F.stochastic_pool2d(x, w, seed=seed(), negatives="shift"),
        lambda x, w: R.stochastic_pool2d(x, uniforms(x, w), w, negatives="shift"),
        exact=True,
    ),
    Case(
        "rsp",
        lambda x, w: F.rank_draw_pool2d(
            x, w, table=ranks.cumulative(table(w, lambda k: ranks.geometric(k, 0.5)), certain=True), seed=seed()
        ),
        lambda x, w: R.rank_draw_pool2d(x, uniforms(x, w), w, weights=R.geometric_weights),
        exact=True,
    ),
    Case(
        "max_dropout",
        lambda x, w: F.rank_draw_pool2d(
            x, w, table=ranks.cumulative(table(w, lambda k: ranks.first_kept(k, 0.5)), certain=False), seed=seed()
        ),
        lambda x, w: R.rank_draw_pool2d(x, uniforms(x, w), w, weights=R.first_kept_weights),
        exact=True,
    ),
]
