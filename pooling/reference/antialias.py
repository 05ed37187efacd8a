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
    return filter2d(x, stride, binomial_row(filter), pad_mode)


def wavelet_row(name: str) -> Array:
    """The low-pass analysis filter of a wavelet, of sum sqrt(2).

    "haar" and "db2" (Daubechies 1988) are orthonormal: the filter's shifts by 2 are at right angles, of length 1.
    "cdf22" (Cohen, Daubechies & Feauveau 1992) is biorthogonal: LeGall's 5/3 filter.

    >>> wavelet_row("db2") * 4 * np.sqrt(2) - np.array([1, 3, 3, 1])
    array([ 1.7321,  1.7321, -1.7321, -1.7321])
    """
    row = {
        "haar": np.array([1, 1]) / 2,
        "db2": np.array([1 + np.sqrt(3), 3 + np.sqrt(3), 3 - np.sqrt(3), 1 - np.sqrt(3)]) / 8,
        "cdf22": np.array([-1, 2, 6, 2, -1]) / 8,
    }[name]
    return row * np.sqrt(2)


def wavelet_pool2d(
    x: Array, stride: tuple[int, int], *, wavelet: str = "haar", normalize: bool = True, pad_mode: str = "reflect"
) -> Array:
    """The low-low band: the wavelet's low-pass filter along both axes, subsampled. `normalize` halves it, so that
    constants stay as they are.

    >>> wavelet_pool2d(x, (2, 2))[0, 0]  # of Haar: the mean of each block
    array([[3.75, 2.25],
           [5.25, 3.75]])
    """
    row = wavelet_row(wavelet)
    return filter2d(x, stride, row / np.sqrt(2) if normalize else row, pad_mode)


def filter2d(x: Array, stride: tuple[int, int], row: Array, pad_mode: str) -> Array:
    """sum_uv f_u f_v x[i s_h + u, j s_w + v], f = row, as `blur_pool2d` centres it."""
    near = (len(row) - 1) // 2
    N, C, H, W = x.shape
    y = np.zeros((N, C, -(-H // stride[0]), -(-W // stride[1])))
    for n, c, i, j in np.ndindex(*y.shape):
        for u, v in np.ndindex(len(row), len(row)):
            h = continued(i * stride[0] + u - near, H, pad_mode)
            w = continued(j * stride[1] + v - near, W, pad_mode)
            if h is not None and w is not None:
                y[n, c, i, j] += row[u] * row[v] * x[n, c, h, w]
    return y
