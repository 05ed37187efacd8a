"""Interpolation to a larger size."""

import numpy as np

from pooling.reference.windows import Array, blank


def nearest2d(x: Array, size: tuple[int, int]) -> Array:
    """Row i of H is row floor(i H' / H) of the input's H'; columns alike.

    >>> nearest2d(x[..., :1], (4, 3))[0, 0, 0]
    array([1., 1., 1.])
    """
    y = blank(x, size)
    for i, j in np.ndindex(*size):
        y[:, :, i, j] = x[:, :, i * x.shape[2] // size[0], j * x.shape[3] // size[1]]
    return y


def bilinear2d(x: Array, size: tuple[int, int]) -> Array:
    """Linear along each axis between the centres of positions, constant past the outer ones.

    >>> bilinear2d(x[..., :2, :2], (2, 4))[0, 0, 0]
    array([1. , 1.5, 2.5, 3. ])
    """

    def sources(length: int, count: int) -> list[tuple[int, int, float]]:
        """The two positions that each of `count` lies between, and the share of the second."""
        at = [min(max((i + 0.5) * length / count - 0.5, 0.0), length - 1.0) for i in range(count)]
        return [(int(a), min(int(a) + 1, length - 1), a - int(a)) for a in at]

    y = blank(x, size)
    rows, columns = sources(x.shape[2], size[0]), sources(x.shape[3], size[1])
    for i, j in np.ndindex(*size):
        (h, h2, a), (w, w2, b) = rows[i], columns[j]
        upper = (1 - b) * x[:, :, h, w] + b * x[:, :, h, w2]
        lower = (1 - b) * x[:, :, h2, w] + b * x[:, :, h2, w2]
        y[:, :, i, j] = (1 - a) * upper + a * lower
    return y
