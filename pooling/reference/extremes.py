"""The largest and the smallest value of a window, and the argmax router: where the gradient of a maximum goes."""

import numpy as np
from numpy.typing import NDArray

from pooling.geometry import Pair, Window
from pooling.reference.windows import Array, blank, pool2d, windows


def max_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The largest value of each window.

    >>> max_pool2d(x, 2)[0, 0]
    array([[6., 4.],
           [8., 6.]])
    """
    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), np.max)


def max_pool2d_indices(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> NDArray[np.int64]:
    """Flat index into H*W of each window's largest value, the first in row-major order where tied; a NaN is larger
    than any number and than the NaN before it.

    >>> max_pool2d_indices(x, 2)[0, 0]
    array([[ 5,  3],
           [13, 15]])
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    indices = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])), dtype=np.int64)
    for at, positions in windows(x, window):
        plane = x[at[:2]]
        best = positions[0]
        for position in positions[1:]:
            if plane[position] > plane[best] or np.isnan(plane[position]):
                best = position
        indices[at] = best[0] * x.shape[3] + best[1]
    return indices


def argmax_router(gradient: Array, indices: NDArray[np.int64], size: tuple[int, int]) -> Array:
    """The backward pass of a maximum: each output's gradient goes, whole, to the position that its value came from.

    Where windows overlap a position gets the sum, in the order of the outputs.

    Shape: gradient and indices (N, C, H', W') -> (N, C, H, W), (H, W) = size.

    >>> gradient = np.array([[1.0, 2], [3, 4]])[None, None]
    >>> argmax_router(gradient, max_pool2d_indices(x, 2), (4, 4))[0, 0]
    array([[0., 0., 0., 2.],
           [0., 1., 0., 0.],
           [0., 0., 0., 0.],
           [0., 3., 0., 4.]])
    """
    dx = blank(gradient, size)
    for n, c, i, j in np.ndindex(*gradient.shape):
        h, w = divmod(int(indices[n, c, i, j]), size[1])
        dx[n, c, h, w] += gradient[n, c, i, j]
    return dx


def max_unpool2d(y: Array, indices: NDArray[np.int64], size: tuple[int, int]) -> Array:
    """Each pooled value put back to where it came from, zeros elsewhere (Zeiler & Fergus 2014; torch's max_unpool2d).

    Where two windows share their largest value, it stands there once, unlike the sum of `argmax_router`.

    Shape: y and indices (N, C, H', W') -> (N, C, H, W), (H, W) = size.

    >>> max_unpool2d(max_pool2d(x, 2), max_pool2d_indices(x, 2), (4, 4))[0, 0]
    array([[0., 0., 0., 4.],
           [0., 6., 0., 0.],
           [0., 0., 0., 0.],
           [0., 8., 0., 6.]])
    """
    x = blank(y, size)
    for n, c, i, j in np.ndindex(*y.shape):
        h, w = divmod(int(indices[n, c, i, j]), size[1])
        x[n, c, h, w] = y[n, c, i, j]
    return x


def max_unpool2d_backward(gradient: Array, indices: NDArray[np.int64]) -> Array:
    """The backward pass of `max_unpool2d`: each pooled value's gradient is the one at the place it was put to.

    Shape: gradient (N, C, H, W), indices (N, C, H', W') -> (N, C, H', W').

    >>> max_unpool2d_backward(x, max_pool2d_indices(x, 2))[0, 0]
    array([[6., 4.],
           [8., 6.]])
    """
    dy = blank(gradient, (indices.shape[2], indices.shape[3]))
    for n, c, i, j in np.ndindex(*indices.shape):
        h, w = divmod(int(indices[n, c, i, j]), gradient.shape[3])
        dy[n, c, i, j] = gradient[n, c, h, w]
    return dy


def min_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The smallest value of each window.

    >>> min_pool2d(x, 2)[0, 0]
    array([[1., 1.],
           [2., 1.]])
    """
    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), np.min)
