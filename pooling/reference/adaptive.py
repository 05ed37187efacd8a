"""Adaptive pooling: the output's size is given, and the bins follow from it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pooling.reference.windows import Array, blank


def adaptive_bins(length: int, bins: int) -> list[range]:
    """Bin i of an axis covers floor(i L / b) .. ceil((i + 1) L / b) - 1; neighbours may overlap, none is empty.

    >>> adaptive_bins(5, 2)
    [range(0, 3), range(2, 5)]
    """
    return [range(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]


def adaptive_pool2d(x: Array, size: tuple[int, int], reduce: Callable[[Array], float]) -> Array:
    """`reduce` (np.max, np.mean) of each adaptive bin.

    >>> adaptive_pool2d(x, (2, 2), np.max)[0, 0]
    array([[6., 4.],
           [8., 6.]])
    """
    rows, columns = adaptive_bins(x.shape[2], size[0]), adaptive_bins(x.shape[3], size[1])
    y = blank(x, size)
    for n, c, i, j in np.ndindex(*y.shape):
        y[n, c, i, j] = reduce(np.array([x[n, c, h, w] for h in rows[i] for w in columns[j]]))
    return y


def adaptive_max_pool2d_indices(x: Array, size: tuple[int, int]) -> NDArray[np.int64]:
    """Flat index into H*W of each bin's largest value, the first where tied; `argmax_router` takes the gradient there.

    >>> adaptive_max_pool2d_indices(x, (1, 3))[0, 0]  # columns 0 and 1, 1 and 2, 2 and 3
    array([[13, 13, 15]])
    """
    N, C, H, W = x.shape
    rows, columns = adaptive_bins(H, size[0]), adaptive_bins(W, size[1])
    indices = np.empty((N, C, *size), dtype=np.int64)
    for n, c, i, j in np.ndindex(*indices.shape):
        best = (rows[i][0], columns[j][0])
        for position in ((h, w) for h in rows[i] for w in columns[j]):
            if x[n, c][position] > x[n, c][best] or np.isnan(x[n, c][position]):
                best = position
        indices[n, c, i, j] = best[0] * W + best[1]
    return indices


def adaptive_avg_pool2d(x: Array, size: tuple[int, int]) -> Array:
    """The mean of each bin: its sum in row-major order, divided by its rows and then by its columns, as torch does.

    >>> adaptive_avg_pool2d(x, (1, 3))[0, 0]
    array([[4.5 , 3.75, 3.  ]])
    """
    rows, columns = adaptive_bins(x.shape[2], size[0]), adaptive_bins(x.shape[3], size[1])
    y = blank(x, size)
    for n, c, i, j in np.ndindex(*y.shape):
        for h in rows[i]:
            for w in columns[j]:
                y[n, c, i, j] += x[n, c, h, w]
        y[n, c, i, j] /= len(rows[i])
        y[n, c, i, j] /= len(columns[j])
    return y


def adaptive_avg_pool2d_backward(gradient: Array, size: tuple[int, int]) -> Array:
    """The backward pass of `adaptive_avg_pool2d`: each bin's gradient in equal parts; where bins overlap, the sum.

    Shape: gradient (N, C, h, w) -> (N, C, H, W), (H, W) = size.

    >>> adaptive_avg_pool2d_backward(np.array([[8.0, 16, 24]])[None, None], (4, 4))[0, 0, 0]
    array([1., 3., 5., 3.])
    """
    rows, columns = adaptive_bins(size[0], gradient.shape[2]), adaptive_bins(size[1], gradient.shape[3])
    dx = blank(gradient, size)
    number = dx.dtype.type
    for n, c, i, j in np.ndindex(*gradient.shape):
        part = gradient[n, c, i, j] / number(len(rows[i])) / number(len(columns[j]))
        for h in rows[i]:
            for w in columns[j]:
                dx[n, c, h, w] += part
    return dx


def spatial_pyramid(x: Array, levels: tuple[int, ...] = (1, 2, 4)) -> Array:
    """(N, C, H, W) -> (N, C * sum of squares of levels): max of each adaptive bin, level after level (He 2014).

    >>> spatial_pyramid(x, (1, 2))
    array([[8., 6., 4., 8., 6.]])
    """
    return np.concatenate([adaptive_pool2d(x, (b, b), np.max).reshape(len(x), -1) for b in levels], axis=1)
