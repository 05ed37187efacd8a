"""The functions of `pooling.functional` that subsample a dense map: filters, polyphase components, spectra, cells.

Shapes: `x` is (N, C, H, W) or (C, H, W), floating point; the result keeps x's dtype and memory format. float16 and
bfloat16 are computed in float32.
"""

import math

import torch
from torch import Tensor

from pooling import composite, philox, sampling, spectral
from pooling.dispatch import check, in_plain_torch, memory_format, run, uses_native
from pooling.geometry import Pair, Window, pair
from pooling.kernels import native


def binomial_row(length: int) -> Tensor:
    """Row `length - 1` of Pascal's triangle over its sum, as float64: (1, 2, 1) / 4 for length 3."""
    return torch.tensor([math.comb(length - 1, k) / 2 ** (length - 1) for k in range(length)], dtype=torch.float64)


def blur_pool2d(
    x: Tensor,
    stride: Pair,
    *,
    filter: int | Tensor = 3,
    before: Pair | None = None,
    size: tuple[int, int] | None = None,
    pad_mode: str = "reflect",
) -> Tensor:
    """A separable low-pass filter at every stride-th position (Zhang 2019).

    Args:
        filter: a binomial filter's length, or any row of weights, whose outer product is the filter, or that product.
        before: rows and columns by which the first window reaches past the near border; the default keeps the
            filter centred, an even one reaching one further at the far side.
        size: H', W'; ceil(H / stride) by default.
        pad_mode: "reflect", "zeros" or "circular".
    """
    weights = binomial_row(filter).to(x.device) if isinstance(filter, int) else filter
    weights = torch.outer(weights, weights) if weights.dim() == 1 else weights
    if weights.dim() != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(
            f"blur: filter must be a length, a row of weights or a square, got shape {tuple(weights.shape)}"
        )
    step, length = (stride, stride) if isinstance(stride, int) else stride, weights.shape[0]
    before = (length - 1) // 2 if before is None else before
    near = (before, before) if isinstance(before, int) else before
    check("blur", x)
    size = size or (-(-x.size(-2) // step[0]), -(-x.size(-1) // step[1]))
    if uses_native("blur", x, supported=not weights.requires_grad):
        numbers = [length, length, *step, *near, 1, 1, *size, native.BORDERS[pad_mode], native.MEMBERS]
        y = native.pool2d("Filter", x if x.dim() == 4 else x.unsqueeze(0), numbers, table=weights)
        return y if x.dim() == 4 else y.squeeze(0)
    return in_plain_torch(composite.filter2d, x, weights, step, near, size, pad_mode)


def max_blur_pool2d(
    x: Tensor,
    window: Window,
    *,
    filter: int | Tensor = 3,
    more: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    pad_mode: str = "reflect",
) -> Tensor:
    """The window's max at every position, then a low-pass filter at every stride-th (MaxBlurPool, Zhang 2019).

    Args:
        window: of the max; its stride is the filter's.
        filter: a binomial filter's length, or any row of weights; its outer product is the filter.
        more: rows and columns of maxima past those of the padded input, at the far side; by default as many as a
            `ceil_mode` window reaches.
        size: H', W'; the window's own by default.
        pad_mode: how the filter sees past the border of the maxima: "reflect", "zeros" or "circular".
    """
    own = check("blur", x, window)
    H, W, (ph, pw), (eh, ew) = x.size(-2), x.size(-1), window.padding, window.extent
    more = window.beyond_padding(H, W) if more is None else more
    maxima, size = (H + 2 * ph - eh + 1 + more[0], W + 2 * pw - ew + 1 + more[1]), size or own
    row = binomial_row(filter).to(x.device) if isinstance(filter, int) else filter
    before = (row.shape[0] - 1) // 2
    if uses_native("blur", x, supported=not row.requires_grad):
        dense = (*window.kernel_size, ph, pw, *window.dilation)
        numbers = [*dense, *maxima, *window.stride, before, *size, native.BORDERS[pad_mode]]
        y = native.max_blur(x if x.dim() == 4 else x.unsqueeze(0), row, numbers)
        return y if x.dim() == 4 else y.squeeze(0)
    return in_plain_torch(
        composite.max_blur_pool2d, x, window.dense(), maxima, row, window.stride, before, size, pad_mode
    )


def polyphase_pool2d(
    x: Tensor, stride: Pair, *, norm: float = 2.0, phase: Tensor | None = None, far_mode: str = "edge"
) -> tuple[Tensor, Tensor]:
    """The polyphase component of largest norm, for each image (Chaman & Dokmanic 2021), and its phase.

    Args:
        norm: the order of the norm: 1, 2 or inf; ties go to the lowest phase.
        phase: chosen elsewhere, not here: (N,) int64, i * s_w + j of the component that starts at row i, column j; or
            (N, S) floating point, weights of the S = s_h * s_w components, which are then added up.
        far_mode: how sides that the stride does not divide are continued: "edge", "circular" or "zeros".

    Returns:
        (N, C, ceil(H / s), ceil(W / s)) and the phase, (N,).
    """
    check("aps", x)
    if x.dim() == 3:
        y, phase = polyphase_pool2d(x.unsqueeze(0), stride, norm=norm, phase=phase, far_mode=far_mode)
        return y.squeeze(0), phase
    steps, weighted = pair(stride), phase is not None and phase.is_floating_point()
    if uses_native("aps", x, supported=norm in native.ORDERS and not weighted):
        if phase is None:
            return native.polyphase_pool(x, steps, far_mode, norm)
        return native.polyphase_gather(x, phase.to(x.device), steps, far_mode), phase
    components = composite.polyphase(x, steps, far_mode)
    if phase is None:
        phase = composite.polyphase_norms(components, norm).argmax(dim=1)
    if phase.is_floating_point():
        chosen = (phase[:, :, None, None, None] * components).sum(dim=1).to(x.dtype)
    else:
        chosen = components[torch.arange(len(x), device=x.device), phase]
    return chosen.contiguous(memory_format=memory_format(x)), phase


def wavelet_row(name: str) -> Tensor:
    """The low-pass analysis filter of an orthonormal or biorthogonal wavelet, float64; it sums to sqrt(2).

    "haar", "db2" (Daubechies 1988, two vanishing moments), "cdf22" (Cohen, Daubechies & Feauveau 1992; LeGall's 5/3).
    """
    root = 3**0.5
    rows = {
        "haar": [1.0, 1.0],
        "db2": [1 + root, 3 + root, 3 - root, 1 - root],
        "cdf22": [-1.0, 2.0, 6.0, 2.0, -1.0],
    }
    row = torch.tensor(rows[name], dtype=torch.float64)
    return row / row.sum() * 2**0.5


def ideal_pool2d(x: Tensor, stride: Pair) -> Tensor:
    """Every stride-th position after removing all frequencies that this would alias, |k| >= H / (2 stride).

    The map is taken as periodic. At stride 1 along an axis nothing is removed.
    """
    check("ideal", x)
    steps = zip(x.shape[-2:], pair(stride), strict=True)
    matrices = (spectral.below_nyquist(length, step, x.device) for length, step in steps)
    return in_plain_torch(spectral.resample, x, *matrices)


def flc_pool2d(x: Tensor, size: Pair) -> Tensor:
    """The centred spectrum of the (periodic) map cut to H' x W' frequencies (Grabinski et al. 2022), the real part."""
    check("flc", x)
    return in_plain_torch(spectral.cut, x, pair(size), False)


def asap_pool2d(x: Tensor, size: Pair) -> Tensor:
    """`flc_pool2d` under a Hamming window, 0.54 + 0.46 cos(2 pi k / H') along each axis (Grabinski et al. 2023)."""
    check("asap", x)
    return in_plain_torch(spectral.cut, x, pair(size), True)


def spectral_pool2d(x: Tensor, size: Pair) -> Tensor:
    """The spectrum of the (periodic) map cut, or filled up with zeros, to any size (Rippel et al. 2015).

    Of an even size's highest frequency both signs are kept, so that the spectrum stays that of a real map.
    """
    check("spectral", x)
    axes = zip(x.shape[-2:], pair(size), strict=True)
    return in_plain_torch(spectral.resample, x, *(spectral.band(length, n, x.device) for length, n in axes))


def fractional_pool2d(
    x: Tensor,
    size: Pair,
    *,
    method: str = "pseudo",
    overlapping: bool = True,
    training: bool = True,
    seed: Tensor | None = None,
) -> Tensor:
    """The max of each of H' x W' cells with random bounds (Graham 2014, arXiv:1412.6071, section 2).

    All images and channels have the same cells. `pooling.sampling` says where the bounds lie; "pseudo" takes uniform
    number 0 for the rows and 1 for the columns, "random" the first H' for the rows and the next W' for the columns.

    Args:
        size: H', W', at least 1.
        method: "pseudo" or "random".
        overlapping: a cell has the first row and column of its next neighbours too.
        training: outside training the bounds are ceil(i H / H'), ceil(j W / W').
        seed: int64 scalar on x's device; drawn from torch's generator where None.
    """
    check("fractional", x)
    count = pair(size)
    (H, W), (rows, columns) = x.shape[-2:], count
    if training and method == "random":
        uniform = philox.uniform(philox.draw_seed(x.device) if seed is None else seed, rows + columns)
        bounds = sampling.random_bounds(H, uniform[:rows]), sampling.random_bounds(W, uniform[rows:])
    else:
        offset = torch.zeros(2, dtype=torch.int64, device=x.device)
        if training:
            offset = philox.bits(philox.draw_seed(x.device) if seed is None else seed, 2) >> 8
        bounds = [sampling.pseudo_random_bounds(n, m, u) for n, m, u in zip((H, W), count, offset, strict=True)]
    at = [sampling.cells(bound, length, overlapping) for bound, length in zip(bounds, (H, W), strict=True)]
    # Each cell's rows and columns side by side, so that cells become windows.
    side_by_side = x.index_select(-1, at[1].flatten()).index_select(-2, at[0].flatten())
    kernel = at[0].shape[1], at[1].shape[1]
    y = run("fractional", composite.max_pool2d, side_by_side, Window(kernel, kernel), native_call={"reducer": "Max"})
    return y.contiguous(memory_format=memory_format(x))
