"""A low-pass filter before subsampling."""

import numpy as np

from pooling.reference.windows import Array, continued


def binomial_row(length: int) -> Array:
    """C(length - 1, k) / 2^(length - 1) for k = 0 .. length - 1.

    >>> binomial_row(5) * 16
    array([1., 4., 6., 4., 1.])
    """
    row = [1]
    for _ in range(length - 1):
        row = [a + b for a, b in zip([0, *row], [*row, 0], strict=True)]
    return np.array(row) / sum(row)


def blur_pool2d(x: Array, stride: tuple[int, int], *, filter: int = 3, pad_mode: str = "reflect") -> Array:
    """y[i, j] = sum_uv f_u f_v x[i s_h + u, j s_w + v], f the binomial filter, centred (an even one reaches one further
    at the far side); ceil(H / s) outputs.

    >>> blur_pool2d(x, (2, 2))[0, 0]
    array([[3.75 , 2.625],
           [5.125, 3.25 ]])
    """
    row = binomial_row(filter)
    near = (filter - 1) // 2
    N, C, H, W = x.shape
    y = np.zeros((N, C, -(-H // stride[0]), -(-W // stride[1])))
    for n, c, i, j in np.ndindex(*y.shape):
        for u, v in np.ndindex(filter, filter):
            h = continued(i * stride[0] + u - near, H, pad_mode)
            w = continued(j * stride[1] + v - near, W, pad_mode)
            if h is not None and w is not None:
                y[n, c, i, j] += row[u] * row[v] * x[n, c, h, w]
    return y
