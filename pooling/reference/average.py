"""The mean of a window, and the uniform splitter: where the gradient of a mean goes.

Sums run in row-major order, as torch's do, so that float32 gives torch's result byte for byte.
"""

from collections.abc import Iterator

from pooling.geometry import Pair, Window
from pooling.reference.windows import Array, blank, windows


def avg_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The sum of each window over its divisor.

    The divisor is the number of members or, with `count_include_pad`, of positions inside the padded input; a window
    that `ceil_mode` lets reach past the padding never counts what lies there.

    >>> avg_pool2d(x, 2)[0, 0]
    array([[3.75, 2.25],
           [5.25, 3.75]])
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    y = blank(x, window.output_size(*x.shape[2:]))
    for at, positions, divisor in _divided(x, window, count_include_pad, divisor_override):
        n, c = at[:2]
        for h, w in positions:
            y[at] += x[n, c, h, w]
        y[at] /= divisor
    return y


def uniform_splitter(
    gradient: Array,
    size: tuple[int, int],
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The backward pass of `avg_pool2d`: each output's gradient goes to its window's members in equal parts.

    What falls on padding is lost. Shape: gradient (N, C, H', W') -> (N, C, H, W), (H, W) = size.

    >>> uniform_splitter(np.array([[4.0, 8], [12, 16]])[None, None], (4, 4), 2)[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]])
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    dx = blank(gradient, size)
    for at, positions, divisor in _divided(dx, window, count_include_pad, divisor_override):
        n, c = at[:2]
        for h, w in positions:
            dx[n, c, h, w] += gradient[at] / dx.dtype.type(divisor)
    return dx


def _divided(
    x: Array, window: Window, count_include_pad: bool, divisor_override: int | None
) -> Iterator[tuple[tuple[int, int, int, int], list[tuple[int, int]], int]]:
    """`windows`, each with what its sum is divided by."""
    (H, W), (ph, pw), (sh, sw) = x.shape[2:], window.padding, window.stride
    for at, positions in windows(x, window):
        reached = [(at[2] * sh - ph + di, at[3] * sw - pw + dj) for di, dj in window.taps()]
        padded = sum(1 for h, w in reached if h < H + ph and w < W + pw)
        yield at, positions, divisor_override or (padded if count_include_pad else len(positions))
