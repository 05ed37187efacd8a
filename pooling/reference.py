"""The specification: every definition in NumPy float64, as plain loops.

Slow on purpose. Each function is read beside its paper, and the fast implementations are tested against it. Inputs are
(N, C, H, W); `R` stands for a window's members, in row-major order; padding is never a member.

The worked example of this page, 2x2 windows at stride 2:

    x = [[1, 3, 2, 4],        max = [[6, 4],     avg = [[3.75, 2.25],
         [5, 6, 1, 2],               [8, 6]]            [5.25, 3.75]]
         [7, 2, 3, 1],
         [4, 8, 5, 6]]

>>> x = np.array([[1, 3, 2, 4], [5, 6, 1, 2], [7, 2, 3, 1], [4, 8, 5, 6]], dtype=float)[None, None]
>>> max_pool2d(x, 2)[0, 0].tolist(), avg_pool2d(x, 2)[0, 0].tolist()
([[6.0, 4.0], [8.0, 6.0]], [[3.75, 2.25], [5.25, 3.75]])
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pooling.geometry import Pair, Window

Array = NDArray[np.float64]


def windows(x: Array, window: Window) -> Iterator[tuple[tuple[int, int, int, int], list[tuple[int, int]]]]:
    """Each output index (n, c, i, j) with the input positions of its window's members, row-major."""
    N, C, H, W = x.shape
    out_h, out_w = window.output_size(H, W)
    (sh, sw), (ph, pw) = window.stride, window.padding
    for n, c, i, j in np.ndindex(N, C, out_h, out_w):
        positions = [(i * sh - ph + di, j * sw - pw + dj) for di, dj in window.taps()]
        yield (n, c, i, j), [(h, w) for h, w in positions if 0 <= h < H and 0 <= w < W]


def pool2d(x: Array, window: Window, reduce: Callable[[Array], float]) -> Array:
    """Any fixed reducer: `reduce` of each window's member values."""
    y = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])))
    for at, positions in windows(x, window):
        n, c = at[:2]
        y[at] = reduce(np.array([x[n, c, h, w] for h, w in positions]))
    return y


def max_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The largest value of each window."""
    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), np.max)


def max_pool2d_indices(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> NDArray[np.int64]:
    """Flat index into H*W of each window's largest value, the first in row-major order where tied."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    indices = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])), dtype=np.int64)
    for at, positions in windows(x, window):
        n, c = at[:2]
        h, w = max(positions, key=lambda position: x[n, c, position[0], position[1]])
        indices[at] = h * x.shape[3] + w
    return indices


def min_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The smallest value of each window."""
    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), np.min)


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
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    (H, W), (ph, pw), (sh, sw) = x.shape[2:], window.padding, window.stride
    y = np.zeros((*x.shape[:2], *window.output_size(H, W)))
    for at, positions in windows(x, window):
        n, c, i, j = at
        reached = [(i * sh - ph + di, j * sw - pw + dj) for di, dj in window.taps()]
        padded = sum(1 for h, w in reached if h < H + ph and w < W + pw)
        divisor = divisor_override or (padded if count_include_pad else len(positions))
        y[at] = sum(x[n, c, h, w] for h, w in positions) / divisor
    return y


def lp_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    p: float = 2.0,
    normalize: bool = True,
) -> Array:
    """(mean |x_i|^p)^(1/p); the sum in place of the mean unless `normalize`."""

    def reduce(values: Array) -> float:
        powers = np.abs(values) ** p
        return float((powers.mean() if normalize else powers.sum()) ** (1 / p))

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def mixed_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    a: float = 0.5,
) -> Array:
    """a max_R x + (1 - a) mean_R x."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    return pool2d(x, window, lambda values: a * values.max() + (1 - a) * values.mean())


def soft_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    beta: float = 1.0,
) -> Array:
    """sum_i w_i x_i with w = softmax(beta x) over the window."""

    def reduce(values: Array) -> float:
        weights = np.exp(beta * (values - values.max()))
        return float((weights * values).sum() / weights.sum())

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def stochastic_pool2d(
    x: Array,
    uniforms: Array | None,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    negatives: str = "relu",
    eval: str = "weighted",
) -> Array:
    """Stochastic pooling (Zeiler & Fergus 2013): a tap drawn with p_i = a_i / sum a, a_i = max(x_i, 0).

    Args:
        uniforms: one number in [0, 1) per output, of the output's shape: the draw is the first tap whose running sum
            of a exceeds uniform * sum a. None gives the evaluation rule.
        negatives: "shift" takes a_i = x_i - min_R x and adds the minimum back.
        eval: "weighted": sum p_i a_i; "max": max a; "avg": mean a.
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])))
    for at, positions in windows(x, window):
        n, c = at[:2]
        values = np.array([x[n, c, h, w] for h, w in positions])
        floor = values.min() if negatives == "shift" else 0.0
        activation = np.maximum(values - floor, 0.0)
        total = activation.sum()
        if np.isnan(total):
            y[at] = np.nan
        elif total == 0:
            y[at] = floor
        elif uniforms is not None:
            running = np.cumsum(activation)
            drawn = np.argmax((running > uniforms[at] * total) | np.isinf(running))
            y[at] = floor + activation[drawn]
        elif eval == "weighted":
            y[at] = floor + (activation**2).sum() / total
        else:
            y[at] = floor + (activation.max() if eval == "max" else activation.mean())
    return y


def median_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The lower median: the ((n - 1) // 2)-th smallest, counted from 0."""

    def reduce(values: Array) -> float:
        return float(np.nan if np.isnan(values).any() else np.sort(values)[(len(values) - 1) // 2])

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def gem_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    p: float = 3.0,
    eps: float = 1e-6,
) -> Array:
    """(mean max(x, eps)^p)^(1/p)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    return pool2d(x, window, lambda values: float((np.maximum(values, eps) ** p).mean() ** (1 / p)))


def lse_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    r: float = 1.0,
) -> Array:
    """(1/r) log mean e^(r x); the mean at r = 0."""

    def reduce(values: Array) -> float:
        top = (r * values).max()
        if r == 0:
            return float(values.mean())
        # log1p and expm1 keep the places that log(exp(z)) loses where z is tiny.
        return float(top / r if np.isinf(top) else (top + np.log1p(np.expm1(r * values - top).mean())) / r)

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def edscw_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    eps: float = 1e-6,
) -> Array:
    """Weights softmax(d), d_i = 2 |x_i m| / (x_i^2 + m^2 + eps), m = mean."""

    def reduce(values: Array) -> float:
        m = values.mean()
        weights = np.exp(2 * np.abs(values * m) / (values**2 + m**2 + eps))
        return float((weights * values).sum() / weights.sum())

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def idw_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    eps: float = 1e-6,
) -> Array:
    """Weights 1 / (|x_i - m| + eps), normalised, m = mean."""

    def reduce(values: Array) -> float:
        weights = 1 / (np.abs(values - values.mean()) + eps)
        return float((weights * values).sum() / weights.sum())

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def ranked_pool2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    weights: Callable[[int], Array],
) -> Array:
    """sum_r w_r x(r) over the members in descending order; `weights(n)` gives w_1 .. w_n for n members."""

    def reduce(values: Array) -> float:
        if np.isnan(values).any():
            return float(np.nan)
        kept = weights(len(values))
        return float(sum(w * v for w, v in zip(kept, -np.sort(-values), strict=True) if w != 0))

    return pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), reduce)


def rank_average_weights(n: int, t: int | None = None) -> Array:
    """1/t for the t largest of n, t = ceil(n / 2) unless given (`rap`)."""
    top = -(-n // 2) if t is None else min(t, n)
    return np.array([1 / top if r < top else 0.0 for r in range(n)])


def geometric_weights(n: int, a: float = 0.5) -> Array:
    """Proportional to a (1 - a)^(r - 1) (`rwp`, and `rsp` as probabilities)."""
    weights = np.array([a * (1 - a) ** r for r in range(n)])
    return weights / weights.sum()


def first_kept_weights(n: int, q: float = 0.5) -> Array:
    """(1 - q) q^(r - 1): the probability that of n, each dropped with probability q, rank r is the first kept."""
    return np.array([(1 - q) * q**r for r in range(n)])


def rank_draw_pool2d(
    x: Array,
    uniforms: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    weights: Callable[[int], Array],
) -> Array:
    """x(r) for the first rank r whose cumulative weight exceeds the uniform number; 0 where none does."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])))
    for at, positions in windows(x, window):
        values = np.array([x[at[0], at[1], h, w] for h, w in positions])
        above = np.cumsum(weights(len(values))) > uniforms[at]
        drawn = -np.sort(-values)[above.argmax()] if above.any() else 0.0
        y[at] = np.nan if np.isnan(values).any() else drawn
    return y


def weighted_mean_pool2d(
    x: Array,
    logits: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """sum e^l x / sum e^l over each window."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode)
    y = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])))
    for at, positions in windows(x, window):
        values = np.array([x[at[0], at[1], h, w] for h, w in positions])
        given = np.array([logits[at[0], at[1], h, w] for h, w in positions])
        weights = np.exp(given - given.max())
        y[at] = (weights * values).sum() / weights.sum()
    return y


def subsample_scaled2d(
    x: Array,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    scale: Array,
    bias: Array,
) -> Array:
    """LeNet-5's subsampling: (sum_R x) * scale_c + bias_c."""
    total = pool2d(x, Window.of(kernel_size, stride, padding, dilation, ceil_mode), np.sum)
    return total * scale[:, None, None] + bias[:, None, None]


def binomial_row(length: int) -> Array:
    """C(length - 1, k) / 2^(length - 1) for k = 0 .. length - 1."""
    row = [1]
    for _ in range(length - 1):
        row = [a + b for a, b in zip([0, *row], [*row, 0], strict=True)]
    return np.array(row) / sum(row)


def continued(index: int, length: int, mode: str) -> int | None:
    """The position inside [0, length) that a position outside stands for; None where padding is zero."""
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


def blur_pool2d(x: Array, stride: tuple[int, int], *, filter: int = 3, pad_mode: str = "reflect") -> Array:
    """y[i, j] = sum_uv f_u f_v x[i s_h + u, j s_w + v], f the binomial filter, centred (an even one reaches one further
    at the far side); ceil(H / s) outputs."""
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


def polyphase_pool2d(
    x: Array, stride: tuple[int, int], *, norm: float = 2.0, far_mode: str = "edge"
) -> tuple[Array, NDArray[np.int64]]:
    """Of the s_h * s_w subsampled grids of each image, the one of largest norm over (C, H', W'), ties to the lowest.

    Sides that the stride does not divide are first continued at the far end. Also returns the phase chosen, (N,).
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


def adaptive_bins(length: int, bins: int) -> list[range]:
    """Bin i of an axis covers floor(i L / b) .. ceil((i + 1) L / b) - 1; neighbours may overlap, none is empty."""
    return [range(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]


def adaptive_pool2d(x: Array, size: tuple[int, int], reduce: Callable[[Array], float]) -> Array:
    """`reduce` (np.max, np.mean) of each adaptive bin."""
    N, C, H, W = x.shape
    rows, columns = adaptive_bins(H, size[0]), adaptive_bins(W, size[1])
    y = np.empty((N, C, *size))
    for n, c, i, j in np.ndindex(*y.shape):
        y[n, c, i, j] = reduce(np.array([x[n, c, h, w] for h in rows[i] for w in columns[j]]))
    return y


def spatial_pyramid(x: Array, levels: tuple[int, ...] = (1, 2, 4)) -> Array:
    """(N, C, H, W) -> (N, C * sum of squares of levels): max of each adaptive bin, level after level (He 2014)."""
    return np.concatenate([adaptive_pool2d(x, (b, b), np.max).reshape(len(x), -1) for b in levels], axis=1)


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox 4x32-10: four 32-bit numbers from a 128-bit counter and a 64-bit key (Salmon et al. 2011, section 4.2)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 1 << 32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % (1 << 32), (k1 + 0xBB67AE85) % (1 << 32)
    return c0, c1, c2, c3


def uniform(seed: int, count: int, first: int = 0) -> Array:
    """Uniform numbers in [0, 1), multiples of 2^-24: number i is lane i % 4 of the block at counter i // 4."""
    key = (seed % (1 << 32), (seed >> 32) % (1 << 32))
    numbers = []
    for i in range(first, first + count):
        block = i // 4
        numbers.append(philox((block % (1 << 32), block >> 32, 0, 0), key)[i % 4] >> 8)
    return np.array(numbers, dtype=np.float64) * 2.0**-24
