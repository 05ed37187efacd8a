"""One function per operator: checks the input, picks the backend, keeps dtype and memory format.

Shapes: `x` is (N, C, H, W) or (C, H, W), floating point; the result has MaxPool2d's H', W' for the same geometry and
x's dtype and memory format. float16 and bfloat16 are computed in float32. `kernel_size` may be a `Window`, which then
holds the whole geometry. Wrong ranks and sizes raise ValueError, other dtypes TypeError.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pooling import composite, philox, sampling
from pooling.dispatch import check, in_plain_torch, memory_format, run, uses_native
from pooling.downsampling import (  # noqa: F401 (functions of this page too)
    asap_pool2d,
    binomial_row,
    blur_pool2d,
    flc_pool2d,
    fractional_pool2d,
    ideal_pool2d,
    max_blur_pool2d,
    polyphase_pool2d,
    spectral_pool2d,
    wavelet_row,
)
from pooling.geometry import Pair, Window
from pooling.kernels import native
from pooling.upsampling import max_unpool2d, polyphase_unpool2d  # noqa: F401 (functions of this page too)


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
    y, indices = native.max_with_indices(batch, numbers)
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
    call = {"reducer": "Avg", "divisor": float(divisor_override or 1)}
    return run(
        "avg", composite.avg_pool2d, x, window, count_include_pad, divisor_override, native_call=call, divisor_mode=mode
    )


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
    call = {"reducer": "Root2" if not isinstance(p, Tensor) and p == 2 else "Lp", "parameter": p}
    return run(
        "lp", composite.lp_pool2d, x, window, p, normalize, native_call=call,
        divisor_mode=native.MEMBERS if normalize else native.FIXED, supported=native.is_parameter(p, x),
    )  # fmt: skip


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
    table = table if table.device == x.device else table.to(x.device)
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
    seed = philox.draw_seed(x.device) if seed is None else seed
    table = table if table.device == x.device else table.to(x.device)
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
    check("subsample_scaled", x)
    channels = x.size(-3)
    for name, given in (("scale", scale), ("bias", bias)):
        if given.dim() != 1 or given.size(0) != channels:
            raise ValueError(
                f"subsample_scaled: {name} must have one number for each of the input's {channels} channels, "
                f"got shape {tuple(given.shape)}"
            )
    call = {"reducer": "ScaledSum", "parameter": scale, "table": bias}
    return run("subsample_scaled", composite.subsample_scaled2d, x, window, scale, bias, native_call=call)


def s3_pool2d(
    x: Tensor,
    kernel_size: Pair | Window,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    keep: int = 2,
    training: bool = True,
    seed: Tensor | None = None,
) -> Tensor:
    """Max at every position, then of each strip of keep * stride rows, and columns, `keep` random ones (Zhai 2017).

    Outside training, the mean of each stride x stride block of the dense max. All images and channels keep the same
    rows: uniform numbers 0 .. H1 - 1 are for the H1 rows of the dense max, the next W1 for its columns.

    Args:
        seed: int64 scalar on x's device; drawn from torch's generator where None.
    """
    window = Window.of(kernel_size, stride, padding, dilation, ceil_mode, owner="s3")
    size, (ph, pw), (sh, sw) = check("s3", x, window), window.padding, window.stride
    far, layout = window.overhang(x.shape[-2], x.shape[-1]), memory_format(x)
    if far[0] > ph or far[1] > pw:
        # The last strided window reaches further than dense ones do.
        x, ph, pw = F.pad(x, (pw, max(pw, far[1]), ph, max(ph, far[0])), value=-torch.inf), 0, 0
    dense = max_pool2d(x, Window(window.kernel_size, (1, 1), (ph, pw), window.dilation))
    if not training:
        y = avg_pool2d(dense, window.stride, ceil_mode=True, count_include_pad=False)
        return y.contiguous(memory_format=layout)
    H1, W1 = dense.shape[-2:]
    uniform = philox.uniform(philox.draw_seed(x.device) if seed is None else seed, H1 + W1)
    rows, columns = sampling.kept(uniform[:H1], sh, keep, size[0]), sampling.kept(uniform[H1:], sw, keep, size[1])
    return dense.index_select(-2, rows).index_select(-1, columns).contiguous(memory_format=layout)


def covariance_pool2d(x: Tensor, *, iterations: int = 5) -> Tensor:
    """The root of the channels' covariance matrix: (N, C, H, W) -> (N, C (C + 1) / 2) (Li et al. 2018, section 3.2).

    `iterations` of Newton and Schulz; the upper triangle in row-major order.
    """
    check("covariance", x)
    return in_plain_torch(composite.covariance_pool2d, x, iterations)
