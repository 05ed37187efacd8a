"""The choice among the polyphase components, and the way back."""

import numpy as np
from numpy.typing import NDArray

from pooling.reference.windows import Array, blank, continued


def polyphase_pool2d(
    x: Array, stride: tuple[int, int], *, norm: float = 2.0, far_mode: str = "edge"
) -> tuple[Array, NDArray[np.int64]]:
    """Of the s_h * s_w subsampled grids of each image, the one of largest norm over (C, H', W'), ties to the lowest.

    Sides that the stride does not divide are first continued at the far end. Also returns the phase chosen, (N,).

    >>> polyphase_pool2d(x, (2, 2))
    (array([[[[6., 2.],
             [8., 6.]]]]), array([3]))
    """
    (sh, sw), (N, C, H, W) = stride, x.shape
    out_h, out_w = -(-H // sh), -(-W // sw)
    y, phases = np.empty((N, C, out_h, out_w)), np.empty(N, dtype=np.int64)
    for n in range(N):
        best = -1.0
        for a, b in np.ndindex(sh, sw):
            part = np.zeros((C, out_h, out_w))
            for c, i, j in np.ndindex(C, out_h, out_w):
                h, w = continued(a + i * sh, H, far_mode), continued(b + j * sw, W, far_mode)
                part[c, i, j] = 0.0 if h is None or w is None else x[n, c, h, w]
            size = np.linalg.norm(part.ravel(), norm)
            if size > best:
                best, y[n], phases[n] = size, part, a * sw + b
    return y, phases


def polyphase_unpool2d(y: Array, phase: NDArray[np.int64], stride: tuple[int, int], size: tuple[int, int]) -> Array:
    """Each image's values put back on the grid that they were taken from, zeros elsewhere (Chaman & Dokmanic 2021).

    Shape: y (N, C, H', W') and phase (N,) -> (N, C, H, W), (H, W) = size; what lies past it is left out.

    >>> polyphase_unpool2d(*polyphase_pool2d(x, (2, 2)), (2, 2), (4, 4))[0, 0]
    array([[0., 0., 0., 0.],
           [0., 6., 0., 2.],
           [0., 0., 0., 0.],
           [0., 8., 0., 6.]])
    """
    x = blank(y, size)
    for n, c, i, j in np.ndindex(*y.shape):
        a, b = divmod(int(phase[n]), stride[1])
        h, w = a + i * stride[0], b + j * stride[1]
        if h < size[0] and w < size[1]:
            x[n, c, h, w] = y[n, c, i, j]
    return x
