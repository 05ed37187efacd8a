"""The sorted members of a window, x(1) >= x(2) >= ...: weights, draws and choices by rank."""

from collections.abc import Callable

import numpy as np

from pooling.geometry import Pair, Window
from pooling.reference.windows import Array, pool2d, windows


def median_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The lower median: the ((n - 1) // 2)-th smallest, counted from 0.

    >>> median_pool2d(x, 2)[0, 0]
    array([[3., 2.],
           [4., 3.]])
    """

    def reduce(values: Array) -> float:
        return float(np.nan if np.isnan(values).any() else np.sort(values)[(len(values) - 1) // 2])

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def ranked_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    weights: Callable[[int], Array],
) -> Array:
    """sum_r w_r x(r) over the members in descending order; `weights(n)` gives w_1 .. w_n for n members.

    >>> ranked_pool2d(x, 2, weights=rank_average_weights)[0, 0]  # the mean of the two largest
    array([[5.5, 3. ],
           [7.5, 5.5]])
    """

    def reduce(values: Array) -> float:
        if np.isnan(values).any():
            return float(np.nan)
        kept = weights(len(values))
        return float(sum(w * v for w, v in zip(kept, -np.sort(-values), strict=True) if w != 0))

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def rank_average_weights(n: int, t: int | None = None) -> Array:
    """1/t for the t largest of n, t = ceil(n / 2) unless given (`rap`).

    >>> rank_average_weights(4)
    array([0.5, 0.5, 0. , 0. ])
    """
    top = -(-n // 2) if t is None else min(t, n)
    return np.array([1 / top if r < top else 0.0 for r in range(n)])


def geometric_weights(n: int, a: float = 0.5) -> Array:
    """Proportional to a (1 - a)^(r - 1) (`rwp`, and `rsp` as probabilities).

    >>> geometric_weights(3) * 7
    array([4., 2., 1.])
    """
    weights = np.array([a * (1 - a) ** r for r in range(n)])
    return weights / weights.sum()


def first_kept_weights(n: int, q: float = 0.5) -> Array:
    """(1 - q) q^(r - 1): the probability that of n, each dropped with probability q, rank r is the first kept.

    >>> first_kept_weights(3)
    array([0.5  , 0.25 , 0.125])
    """
    return np.array([(1 - q) * q**r for r in range(n)])


def rank_draw_pool2d(
    x: Array,
    uniforms: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    weights: Callable[[int], Array],
) -> Array:
    """x(r) for the first rank r whose cumulative weight exceeds the uniform number; 0 where none does.

    >>> rank_draw_pool2d(x, np.full((1, 1, 2, 2), 0.6), 2, weights=first_kept_weights)[0, 0]  # of 1/2, 3/4, 7/8, 15/16
    array([[5., 2.],
           [7., 5.]])
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])))
    for at, positions in windows(x, window):
        values = np.array([x[at[0], at[1], h, w] for h, w in positions])
        above = np.cumsum(weights(len(values))) > uniforms[at]
        drawn = -np.sort(-values)[above.argmax()] if above.any() else 0.0
        y[at] = np.nan if np.isnan(values).any() else drawn
    return y
