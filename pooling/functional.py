"""One function per operator: checks the input, picks the backend, keeps dtype and memory format.

Shapes: `x` is (N, C, H, W) or (C, H, W), floating point; the result has MaxPool2d's H', W' for the same geometry and
x's dtype and memory format. float16 and bfloat16 are computed in float32. `kernel_size` may be a `Window`, which then
holds the whole geometry. Wrong ranks and sizes raise ValueError, other dtypes TypeError.
"""

import math
from typing import Any

import torch
from torch import Tensor

from pooling import composite, philox
from pooling.dispatch import check, in_plain_torch, memory_format, run, uses_native
from pooling.geometry import Pair, Window
from pooling.kernels import native
from pooling.kernels.twice import flat_index


def max_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    return_indices: bool = False,
) -> Any:
    """The largest value of each window; with `return_indices` also its flat index into H*W, as torch's."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="max")
    if not return_indices:
        return run("max", composite.max_pool2d, x, window, native_call={"reducer": "Max"})
    size = check("max", x, window)
    if not uses_native("max", x):
        return in_plain_torch(composite.max_pool2d_with_indices, x, window)
    numbers = native.window_numbers(window, size)
    batch = x if x.dim() == 4 else x.unsqueeze(0)
    y, taps = native.pool2d("Max", batch, numbers, taps=True)
    indices = flat_index(taps, batch.shape, numbers).contiguous(memory_format=memory_format(x))
    return (y, indices) if x.dim() == 4 else (y.squeeze(0), indices.squeeze(0))


def min_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The smallest value of each window."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="min")
    return run("min", composite.min_pool2d, x, window, native_call={"reducer": "Min"})


def avg_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window; `count_include_pad` counts padding as zeros (torch's default)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="avg")
    mode = native.FIXED if divisor_override is not None else native.PADDED if count_include_pad else native.MEMBERS
    call = {"reducer": "Avg", "divisor_mode": mode, "divisor": float(divisor_override or 1)}
    return run("avg", composite.avg_pool2d, x, window, count_include_pad, divisor_override, native_call=call)


def lp_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    p: float | Tensor = 2.0,
    normalize: bool = True,
) -> Tensor:
    """(mean |x|^p)^(1/p) of each window, the sum in place of the mean unless `normalize`.

    A tensor p broadcasts against (N, C, H', W'): shape () or (C, 1, 1).
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="lp")
    call = {"reducer": "Lp", "parameter": p, "divisor_mode": native.MEMBERS if normalize else native.FIXED}
    if not isinstance(p, Tensor) and p == 2:
        call["reducer"] = "Root2"
    supported = native.is_parameter(p, x)
    return run("lp", composite.lp_pool2d, x, window, p, normalize, native_call=call, supported=supported)


def mixed_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    a: float | Tensor = 0.5,
) -> Tensor:
    """a * max + (1 - a) * mean of each window; a tensor a has shape () or (C, 1, 1)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="mixed")
    call = {"reducer": "Mixed", "parameter": a}
    supported = native.is_parameter(a, x)
    return run("mixed", composite.mixed_pool2d, x, window, a, native_call=call, supported=supported)


def soft_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    beta: float = 1.0,
) -> Tensor:
    """Mean of each window weighted by softmax(beta * x) (Stergiou et al. 2021)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="soft")
    return run("soft", composite.soft_pool2d, x, window, beta, native_call={"reducer": "Soft", "parameter": beta})


def stochastic_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    training: bool = True,
    seed: Tensor | None = None,
    negatives: str = "relu",
    eval: str = "weighted",
) -> Tensor:
    """Training: one tap drawn with probability a_i / sum a, a = max(x, 0); else sum a^2 / sum a (Zeiler & Fergus 2013).

    Args:
        seed: int64 scalar on x's device; drawn from torch's generator where None. The same seed gives the same sample.
        negatives: a_i of negative inputs: "relu" (0), "shift" (x less the window's minimum, which is added back) or
            "error" (a ValueError; it waits for the device).
        eval: what stands in for the draw outside training: "weighted", "max" or "avg".
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="stochastic")
    check("stochastic", x)
    if negatives == "error" and bool((x < 0).any()):
        raise ValueError(f"stochastic: the input must not be negative with negatives='error', got {x.min().item():g}")
    if training and seed is None:
        seed = philox.draw_seed(x.device)
    drawn_from = seed if training else None
    shift = negatives == "shift"
    if training:
        call = {"reducer": "ShiftedStochastic" if shift else "Stochastic", "seed": seed}
    else:
        call = {"reducer": "ShiftedExpectation" if shift else "StochasticExpectation"}
    supported = training or eval == "weighted"
    return run(
        "stochastic", composite.stochastic_pool2d, x, window, drawn_from, negatives, eval,
        native_call=call, supported=supported,
    )  # fmt: skip


def gem_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    p: float | Tensor = 3.0,
    eps: float = 1e-6,
) -> Tensor:
    """(mean max(x, eps)^p)^(1/p) of each window (Radenovic et al. 2018); a tensor p has shape () or (C, 1, 1)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="gem")
    call = {"reducer": "Gem", "parameter": p, "eps": eps}
    return run("gem", composite.gem_pool2d, x, window, p, eps, native_call=call, supported=native.is_parameter(p, x))


def lse_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    r: float | Tensor = 1.0,
) -> Tensor:
    """(1/r) log mean e^(r x) of each window, the mean at r = 0 (Pinheiro & Collobert 2015).

    A tensor r has shape () or (C, 1, 1).
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="lse")
    call = {"reducer": "LogSumExp", "parameter": r}
    return run("lse", composite.lse_pool2d, x, window, r, native_call=call, supported=native.is_parameter(r, x))


def edscw_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    eps: float = 1e-6,
) -> Tensor:
    """Mean weighted by softmax of 2 |x m| / (x^2 + m^2 + eps), m the window's mean (Stergiou & Poppe 2022)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="edscw")
    return run("edscw", composite.edscw_pool2d, x, window, eps, native_call={"reducer": "Edscw", "eps": eps})


def idw_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    eps: float = 1e-6,
) -> Tensor:
    """Mean weighted by 1 / (|x - m| + eps), m the window's mean (Stergiou & Poppe 2022)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="idw")
    return run("idw", composite.idw_pool2d, x, window, eps, native_call={"reducer": "Idw", "eps": eps})


def ada_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    b: float | Tensor = 0.5,
    eps: float = 1e-6,
) -> Tensor:
    """b * edscw + (1 - b) * soft (Stergiou & Poppe 2022); a tensor b has shape () or (C, 1, 1)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="ada")
    call = {"reducer": "Ada", "parameter": b, "eps": eps}
    return run("ada", composite.ada_pool2d, x, window, b, eps, native_call=call, supported=native.is_parameter(b, x))


def weighted_mean_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    logits: Tensor,
) -> Tensor:
    """Mean of each window weighted by softmax(logits), logits of x's shape (Gao et al. 2019)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="weighted_mean")
    check("weighted_mean", x, window)
    if logits.shape != x.shape:
        raise ValueError(
            f"weighted_mean: logits must have the input's shape {tuple(x.shape)}, got {tuple(logits.shape)}"
        )
    logits = logits.to(x.dtype)
    batch = logits if x.dim() == 4 else logits.unsqueeze(0)
    call = {"reducer": "WeightedMean", "logits": batch}
    return run("weighted_mean", composite.weighted_mean_pool2d, x, window, batch, native_call=call)


def median_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The lower median of each window, as `torch.median`; of equal values the later tap counts as the smaller."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="median")
    call, supported = {"reducer": "Median"}, native.can_rank(window)
    return run("median", composite.median_pool2d, x, window, native_call=call, supported=supported)


def ranked_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    table: Tensor,
    owner: str = "ranked",
) -> Tensor:
    """sum_r w_r x(r) of each window's members in descending order.

    Args:
        table: (K + 1, K) or, for each channel, (C, K + 1, K): the weights by number of members and rank; see
            `pooling.ranks`.
        owner: the operator's name in errors.
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner=owner)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    table = table.to(device=x.device, dtype=wide).contiguous()
    call = {"reducer": "RankMean", "table": table}
    supported = native.can_rank(window)
    return run(owner, composite.ranked_pool2d, x, window, table, native_call=call, supported=supported)


def rank_draw_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    table: Tensor,
    seed: Tensor | None = None,
    owner: str = "rank_draw",
) -> Tensor:
    """x(r) of each window, the rank drawn from the cumulative probabilities `table` (K + 1, K); 0 past the last."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner=owner)
    check(owner, x, window)
    seed = philox.draw_seed(x.device) if seed is None else seed
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    table = table.to(device=x.device, dtype=wide).contiguous()
    call = {"reducer": "RankDraw", "table": table, "seed": seed}
    supported = native.can_rank(window)
    return run(owner, composite.rank_draw_pool2d, x, window, table, seed, native_call=call, supported=supported)


def subsample_scaled2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    scale: Tensor,
    bias: Tensor,
) -> Tensor:
    """The sum of each window times `scale` plus `bias`, both of shape (C,) (LeCun et al. 1998, section II.B)."""
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="subsample_scaled")
    check("subsample_scaled", x, window)
    if uses_native("subsample_scaled", x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        total = avg_pool2d(wide, window, divisor_override=1)
        return (total * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)).to(x.dtype)
    return run("subsample_scaled", composite.subsample_scaled2d, x, window, scale, bias)


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
        filter: a binomial filter's length, or any row of weights; its outer product is the filter.
        before: rows and columns by which the first window reaches past the near border; the default keeps the
            filter centred, an even one reaching one further at the far side.
        size: H', W'; ceil(H / stride) by default.
        pad_mode: "reflect", "zeros" or "circular".
    """
    row = binomial_row(filter).to(x.device) if isinstance(filter, int) else filter
    step = (stride, stride) if isinstance(stride, int) else stride
    before = (len(row) - 1) // 2 if before is None else before
    near = (before, before) if isinstance(before, int) else before
    check("blur", x)
    size = size or (-(-x.shape[-2] // step[0]), -(-x.shape[-1] // step[1]))
    if uses_native("blur", x, supported=not row.requires_grad):
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        table = torch.outer(row, row).to(wide).contiguous()
        window = Window((len(row), len(row)), step, near)
        numbers = native.window_numbers(window, size, native.BORDERS[pad_mode])
        y = native.pool2d("Filter", x if x.dim() == 4 else x.unsqueeze(0), numbers, table=table)
        return y if x.dim() == 4 else y.squeeze(0)
    return in_plain_torch(composite.filter2d, x, torch.outer(row, row), step, near, size, pad_mode)


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
    (H, W), (ph, pw), (eh, ew) = x.shape[-2:], window.padding, window.extent
    if more is None:
        far = window.overhang(H, W)
        more = max(0, far[0] - ph), max(0, far[1] - pw)
    maxima, size = (H + 2 * ph - eh + 1 + more[0], W + 2 * pw - ew + 1 + more[1]), size or own
    row = binomial_row(filter).to(x.device) if isinstance(filter, int) else filter
    before = (len(row) - 1) // 2
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
        phase: (N,) int64, i * s_w + j of the component that starts at row i, column j: chosen elsewhere, not here.
        far_mode: how sides that the stride does not divide are continued: "edge", "circular" or "zeros".

    Returns:
        (N, C, ceil(H / s), ceil(W / s)) and the phase, (N,).
    """
    check("aps", x)
    if x.dim() == 3:
        y, phase = polyphase_pool2d(x.unsqueeze(0), stride, norm=norm, phase=phase, far_mode=far_mode)
        return y.squeeze(0), phase
    step = (stride, stride) if isinstance(stride, int) else stride
    if uses_native("aps", x, supported=norm in native.ORDERS):
        if phase is None:
            phase = native.polyphase_norms(x, step, far_mode, norm).argmax(dim=1)
        return native.polyphase_gather(x, phase.to(x.device), step, far_mode), phase
    components = composite.polyphase(x, step, far_mode)
    if phase is None:
        phase = composite.polyphase_norms(components, norm).argmax(dim=1)
    chosen = components[torch.arange(len(x), device=x.device), phase]
    return chosen.contiguous(memory_format=memory_format(x)), phase
