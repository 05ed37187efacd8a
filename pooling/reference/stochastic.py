"""Stochastic pooling: one member drawn in proportion to its activation."""

import numpy as np

from pooling.geometry import Pair, Window
from pooling.reference.windows import Array, windows


def stochastic_pool2d(
    x: Array,
    uniforms: Array | None,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    negatives: str = "relu",
    eval: str = "weighted",
) -> Array:
    """Stochastic pooling (Zeiler & Fergus 2013): a tap drawn with p_i = a_i / sum a, a_i = max(x_i, 0).

    Args:
        uniforms: one number in [0, 1) per output, of the output's shape: the draw is the first tap whose running sum
            of a exceeds uniform * sum a. None gives the evaluation rule.
        negatives: "shift" takes a_i = x_i - min_R x and adds the minimum back.
        eval: "weighted": sum p_i a_i; "max": max a; "avg": mean a.

    >>> stochastic_pool2d(x, np.full((1, 1, 2, 2), 0.5), 2)[0, 0]  # the first window's running sum: 1, 4, 9, 15
    array([[5., 4.],
           [4., 5.]])
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])))
    for at, positions in windows(x, window):
        n, c = at[:2]
        values = np.array([x[n, c, h, w] for h, w in positions])
        floor = values.min() if negatives == "shift" else 0.0
        activation = np.maximum(values - floor, 0.0)
        total = activation.sum()
        if np.isnan(total):
            y[at] = np.nan
        elif total == 0:
            y[at] = floor
        elif uniforms is not None:
            running = np.cumsum(activation)
            drawn = np.argmax((running > uniforms[at] * total) | np.isinf(running))
            y[at] = floor + activation[drawn]
        elif eval == "weighted":
            y[at] = floor + (activation**2).sum() / total
        else:
            y[at] = floor + (activation.max() if eval == "max" else activation.mean())
    return y
