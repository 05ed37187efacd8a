"""Generalised means: norms, exponentials and weighted averages of a window's members, and LeNet-5's scaled sum."""

import numpy as np

from pooling.geometry import Pair, Window
from pooling.reference.windows import Array, pool2d, windows


def lp_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    p: float = 2.0,
    normalize: bool = True,
) -> Array:
    """(mean |x_i|^p)^(1/p); the sum in place of the mean unless `normalize`.

    >>> lp_pool2d(x, 2, p=1)[0, 0], lp_pool2d(x, 2, p=2, normalize=False)[0, 0, 0] ** 2
    (array([[3.75, 2.25],
           [5.25, 3.75]]), array([71., 25.]))
    """

    def reduce(values: Array) -> float:
        powers = np.abs(values) ** p
        return float((powers.mean() if normalize else powers.sum()) ** (1 / p))

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def gem_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    p: float = 3.0,
    eps: float = 1e-6,
) -> Array:
    """(mean max(x, eps)^p)^(1/p).

    >>> gem_pool2d(x, 2, p=1)[0, 0], gem_pool2d(x, 2, p=3)[0, 0]
    (array([[3.75, 2.25],
           [5.25, 3.75]]), array([[4.5184, 2.7257],
           [6.1424, 4.5184]]))
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    return pool2d(x, window, lambda values: float((np.maximum(values, eps) ** p).mean() ** (1 / p)))


def lse_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    r: float = 1.0,
) -> Array:
    """(1/r) log mean e^(r x); the mean at r = 0.

    >>> lse_pool2d(x, 2)[0, 0], lse_pool2d(x, 2, r=100)[0, 0, 0]
    (array([[4.9675, 2.8917],
           [6.9421, 4.9675]]), array([5.9861, 3.9861]))
    """

    def reduce(values: Array) -> float:
        top = (r * values).max()
        if r == 0:
            return float(values.mean())
        # log1p and expm1 keep the places that log(exp(z)) loses where z is tiny.
        return float(top / r if np.isinf(top) else (top + np.log1p(np.expm1(r * values - top).mean())) / r)

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def mixed_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    a: float = 0.5,
) -> Array:
    """a max_R x + (1 - a) mean_R x.

    >>> mixed_pool2d(x, 2, a=0.5)[0, 0]
    array([[4.875, 3.125],
           [6.625, 4.875]])
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    return pool2d(x, window, lambda values: a * values.max() + (1 - a) * values.mean())


def soft_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    beta: float = 1.0,
) -> Array:
    """sum_i w_i x_i with w = softmax(beta x) over the window.

    >>> soft_pool2d(x, 2)[0, 0]
    array([[5.6132, 3.4769],
           [7.6716, 5.6132]])
    """

    def reduce(values: Array) -> float:
        weights = np.exp(beta * (values - values.max()))
        return float((weights * values).sum() / weights.sum())

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def edscw_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    eps: float = 1e-6,
) -> Array:
    """Weights softmax(d), d_i = 2 |x_i m| / (x_i^2 + m^2 + eps), m = mean.

    >>> edscw_pool2d(x, 2)[0, 0]
    array([[3.9932, 2.264 ],
           [5.4414, 3.9932]])
    """

    def reduce(values: Array) -> float:
        m = values.mean()
        weights = np.exp(2 * np.abs(values * m) / (values**2 + m**2 + eps))
        return float((weights * values).sum() / weights.sum())

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def idw_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    eps: float = 1e-6,
) -> Array:
    """Weights 1 / (|x_i - m| + eps), normalised, m = mean.

    >>> idw_pool2d(x, 2)[0, 0]
    array([[3.75  , 2.0366],
           [5.25  , 3.75  ]])
    """

    def reduce(values: Array) -> float:
        weights = 1 / (np.abs(values - values.mean()) + eps)
        return float((weights * values).sum() / weights.sum())

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def weighted_mean_pool2d(
    x: Array,
    logits: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """sum e^l x / sum e^l over each window.

    >>> weighted_mean_pool2d(x, np.log(x), 2)[0, 0, 0, :1]  # 71 / 15 = (1 + 9 + 25 + 36) / (1 + 3 + 5 + 6)
    array([4.7333])
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])))
    for at, positions in windows(x, window):
        values = np.array([x[at[0], at[1], h, w] for h, w in positions])
        given = np.array([logits[at[0], at[1], h, w] for h, w in positions])
        weights = np.exp(given - given.max())
        y[at] = (weights * values).sum() / weights.sum()
    return y


def subsample_scaled2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    scale: Array,
    bias: Array,
) -> Array:
    """LeNet-5's subsampling: (sum_R x) * scale_c + bias_c.

    >>> subsample_scaled2d(x, 2, scale=np.array([0.5]), bias=np.array([1.0]))[0, 0]
    array([[ 8.5,  5.5],
           [11.5,  8.5]])
    """
    total = pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), np.sum)
    return total * scale[:, None, None] + bias[:, None, None]
