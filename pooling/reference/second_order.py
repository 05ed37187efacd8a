"""Second-order statistics of a map."""

import numpy as np

from pooling.reference.windows import Array


def covariance_pool2d(x: Array, iterations: int = 5) -> Array:
    """The square root of the covariance matrix of the channels by Newton and Schulz (Li et al. 2018, section 3.2).

    The covariance over its trace, A, has eigenvalues in [0, 1]; from Y = A and Z = I the steps Y <- Y (3 I - Z Y) / 2
    and Z <- (3 I - Z Y) Z / 2 lead to Y = A^(1/2), which is multiplied by the root of the trace. A map without any
    variance gives 0.

    Shape: (N, C, H, W) -> (N, C (C + 1) / 2): the upper triangle, row-major.

    >>> covariance_pool2d(x, iterations=30)  # of one channel: its standard deviation
    array([[2.1651]])
    """
    N, C = x.shape[:2]
    y = np.zeros((N, C * (C + 1) // 2))
    for n in range(N):
        values = x[n].reshape(C, -1)
        centred = values - values.mean(axis=1, keepdims=True)
        covariance = centred @ centred.T / values.shape[1]
        trace = np.trace(covariance)
        if trace == 0:
            continue
        Y, Z = covariance / trace, np.eye(C)
        for _ in range(iterations):
            step = (3 * np.eye(C) - Z @ Y) / 2
            Y, Z = Y @ step, step @ Z
        y[n] = (Y * np.sqrt(trace))[np.triu_indices(C)]
    return y
