"""Random rows, columns and cells: one draw for all images and channels."""

import itertools
import math
from fractions import Fraction

import numpy as np

from pooling.geometry import Pair, Window
from pooling.reference.windows import Array, blank


def s3_pool2d(
    x: Array,
    uniforms: Array | None,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    keep: int = 2,
) -> Array:
    """Stochastic spatial sampling (Zhai et al. 2017): the max at every position, H1 x W1 of them, then random rows and
    columns of that.

    Args:
        uniforms: H1 + W1 numbers in [0, 1) or more, the rows' first. Of each strip of keep * stride rows the `keep`
            with the least numbers stay, in their order; of a shorter last one, its length over stride, rounded up.
            None gives the evaluation rule: the mean of each stride x stride block.

    >>> s3_pool2d(x, np.array([0.9, 0.1, 0.5, 0.3, 0.2, 0.6]), 2, keep=1)[0, 0]  # rows 1, 2; columns 1, 2
    array([[6., 3.],
           [8., 6.]])
    >>> s3_pool2d(x, None, 2)[0, 0]
    array([[6.25, 3.5 ],
           [8.  , 6.  ]])
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    dense = _dense_max(x, window)
    lengths, steps = dense.shape[2:], window.stride
    blocks = [[range(i, min(i + s, n)) for i in range(0, n, s)] for n, s in zip(lengths, steps, strict=True)]
    y = blank(x, (len(blocks[0]), len(blocks[1])))
    if uniforms is None:
        for i, j in np.ndindex(*y.shape[2:]):
            y[:, :, i, j] = dense[:, :, blocks[0][i]][:, :, :, blocks[1][j]].mean(axis=(2, 3))
        return y
    rows = kept(uniforms[: lengths[0]], steps[0], keep)
    columns = kept(uniforms[lengths[0] : sum(lengths)], steps[1], keep)
    return dense[:, :, rows][:, :, :, columns]


def kept(uniforms: Array, stride: int, keep: int) -> list[int]:
    """The positions that stay of an axis with one number each.

    >>> kept(np.array([0.9, 0.1, 0.5, 0.3, 0.2]), 2, keep=2)  # of four 1 and 3, of the last one itself
    [1, 3, 4]
    """
    positions: list[int] = []
    for start in range(0, len(uniforms), keep * stride):
        strip = range(start, min(start + keep * stride, len(uniforms)))
        positions += sorted(sorted(strip, key=lambda at: uniforms[at])[: -(-len(strip) // stride)])
    return positions


def _dense_max(x: Array, window: Window) -> Array:
    """The max at all positions up to the padded input's end or the last strided window, whichever is further."""
    (H, W), (ph, pw), (eh, ew), (sh, sw) = x.shape[2:], window.padding, window.extent, window.stride
    out_h, out_w = window.output_size(H, W)
    size = max(H + 2 * ph - eh + 1, (out_h - 1) * sh + 1), max(W + 2 * pw - ew + 1, (out_w - 1) * sw + 1)
    y = blank(x, size)
    for n, c, i, j in np.ndindex(*y.shape):
        positions = [(i - ph + di, j - pw + dj) for di, dj in window.taps()]
        y[n, c, i, j] = max(x[n, c, h, w] for h, w in positions if 0 <= h < H and 0 <= w < W)
    return y


def pseudo_random_bounds(length: int, count: int, u: float) -> list[int]:
    """ceil(a (i + u)) - ceil(a u) for i = 0 .. count, a = length / count (Graham 2014, section 2.1).

    >>> pseudo_random_bounds(7, 4, 0.0), pseudo_random_bounds(7, 4, 0.5)
    ([0, 2, 4, 6, 7], [0, 2, 4, 6, 7])
    >>> pseudo_random_bounds(7, 4, 0.25)
    [0, 2, 3, 5, 7]
    """
    ratio = Fraction(length, count)
    bounds = [math.ceil(ratio * (i + Fraction(u))) for i in range(count + 1)]
    return [bound - bounds[0] for bound in bounds]


def random_bounds(length: int, uniforms: Array) -> list[int]:
    """Steps of floor(a) and ceil(a), a = length / count, the larger ones where the `count` numbers are least.

    >>> random_bounds(7, np.array([0.3, 0.9, 0.1, 0.2]))  # three steps of 2, the one of 1 second
    [0, 2, 3, 5, 7]
    """
    small, larger = divmod(length, len(uniforms))
    steps = np.full(len(uniforms), small)
    steps[np.argsort(uniforms, kind="stable")[:larger]] += 1
    return [0, *np.cumsum(steps).tolist()]


def fractional_pool2d(x: Array, rows: list[int], columns: list[int], *, overlapping: bool = True) -> Array:
    """The max of each cell (Graham 2014): from a bound up to the next, that one included where they overlap.

    A cell never leaves the map and has at least one position.

    >>> fractional_pool2d(x, [0, 2, 4], [0, 1, 4])[0, 0]
    array([[7., 6.],
           [8., 8.]])
    >>> fractional_pool2d(x, [0, 2, 4], [0, 1, 4], overlapping=False)[0, 0]
    array([[5., 6.],
           [7., 8.]])
    """

    def cells(bounds: list[int], length: int) -> list[range]:
        found = []
        for start, end in itertools.pairwise(bounds):
            first = min(start, length - 1)
            found.append(range(first, min(max(end + overlapping, first + 1), length)))
        return found

    y = blank(x, (len(rows) - 1, len(columns) - 1))
    of_rows, of_columns = cells(rows, x.shape[2]), cells(columns, x.shape[3])
    for i, j in np.ndindex(*y.shape[2:]):
        y[:, :, i, j] = x[:, :, of_rows[i]][:, :, :, of_columns[j]].max(axis=(2, 3))
    return y
