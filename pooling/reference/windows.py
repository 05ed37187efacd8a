"""Windows: which positions of a map are pooled together, and what a position outside of it stands for."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pooling.geometry import Window

Array = NDArray[np.floating[Any]]

# The map of the worked examples, which they call x.
EXAMPLE: Array = np.array([[1, 3, 2, 4], [5, 6, 1, 2], [7, 2, 3, 1], [4, 8, 5, 6]], dtype=np.float64)[None, None]


def windows(x: Array, window: Window) -> Iterator[tuple[tuple[int, int, int, int], list[tuple[int, int]]]]:
    """Each output index (n, c, i, j) with the input positions of its window's members, row-major.

    >>> list(windows(x, Window.of(2)))[1]
    ((0, 0, 0, 1), [(0, 2), (0, 3), (1, 2), (1, 3)])
    >>> next(windows(x, Window.of(2, padding=1)))  # padding is never a member
    ((0, 0, 0, 0), [(0, 0)])
    """
    N, C, H, W = x.shape
    out_h, out_w = window.output_size(H, W)
    (sh, sw), (ph, pw) = window.stride, window.padding
    for n, c, i, j in np.ndindex(N, C, out_h, out_w):
        positions = [(i * sh - ph + di, j * sw - pw + dj) for di, dj in window.taps()]
        yield (n, c, i, j), [(h, w) for h, w in positions if 0 <= h < H and 0 <= w < W]


def blank(x: Array, size: tuple[int, int]) -> Array:
    """Zeros (N, C, *size) of x's precision: float32 stays float32, everything else is float64."""
    return np.zeros((*x.shape[:2], *size), dtype=np.float32 if x.dtype == np.float32 else np.float64)


def pool2d(x: Array, window: Window, reduce: Callable[[Array], float]) -> Array:
    """Any fixed reducer: `reduce` of each window's member values.

    >>> pool2d(x, Window.of(2), np.ptp)[0, 0]  # largest less smallest
    array([[5., 3.],
           [6., 5.]])
    """
    y = blank(x, window.output_size(*x.shape[2:]))
    for at, positions in windows(x, window):
        n, c = at[:2]
        y[at] = reduce(np.array([x[n, c, h, w] for h, w in positions]))
    return y


def continued(index: int, length: int, mode: str) -> int | None:
    """The position inside [0, length) that a position outside stands for; None where padding is zero.

    >>> [continued(index, 4, "reflect") for index in range(-2, 6)]
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if 0 <= index < length:
        return index
    if mode == "circular":
        return index % length
    if mode == "edge":
        return min(max(index, 0), length - 1)
    if mode == "reflect":
        while length > 1 and not 0 <= index < length:
            index = -index if index < 0 else 2 * (length - 1) - index
        return index if length > 1 else 0
    return None
