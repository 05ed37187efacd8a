"""One function per operator: checks the input, picks the backend, keeps dtype and memory format.

Shapes: `x` is (N, C, H, W) or (C, H, W), floating point; the result has MaxPool2d's H', W' for the same geometry and
x's dtype and memory format. float16 and bfloat16 are computed in float32. `kernel_size` may be a `Window`, which then
holds the whole geometry. Wrong ranks and sizes raise ValueError, other dtypes TypeError.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pooling import composite, philox
from pooling.geometry import Pair, Window


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
    function = composite.max_pool2d_with_indices if return_indices else composite.max_pool2d
    return _run("max", function, x, window)


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
    return _run("min", composite.min_pool2d, x, window)


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
    return _run(
        "avg", composite.avg_pool2d, x, window, count_include_pad=count_include_pad, divisor_override=divisor_override
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
    return _run("lp", composite.lp_pool2d, x, window, p=p, normalize=normalize)


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
    return _run("mixed", composite.mixed_pool2d, x, window, a=a)


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
    return _run("soft", composite.soft_pool2d, x, window, beta=beta)


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
    return _run(
        "stochastic", composite.stochastic_pool2d, x, window, seed=drawn_from, negatives=negatives, evaluate=eval
    )


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
    return _run("subsample_scaled", composite.subsample_scaled2d, x, window, scale=scale, bias=bias)


def binomial_row(length: int) -> Tensor:
    """Row `length - 1` of Pascal's triangle over its sum, as float64: (1, 2, 1) / 4 for length 3."""
    row = torch.ones(1, dtype=torch.float64)
    for _ in range(length - 1):
        row = (torch.nn.functional.pad(row, (0, 1)) + torch.nn.functional.pad(row, (1, 0))) / 2
    return row


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
    near = ((len(row) - 1) // 2,) * 2 if before is None else (before, before) if isinstance(before, int) else before
    check("blur", x)
    size = size or (-(-x.shape[-2] // step[0]), -(-x.shape[-1] // step[1]))
    return _run("blur", composite.blur2d, x, row, stride=step, before=near, size=size, pad_mode=pad_mode)


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
    components = composite.polyphase(x, (stride, stride) if isinstance(stride, int) else stride, far_mode)
    if phase is None:
        phase = composite.polyphase_norms(components, norm).argmax(dim=1)
    chosen = components[torch.arange(len(x), device=x.device), phase]
    return chosen.contiguous(memory_format=memory_format(x)), phase


def _run(name: str, function: Callable[..., Any], x: Tensor, *arguments: Any, **options: Any) -> Any:
    """Call a composite: batched, in at least float32, the result in x's dtype and memory format."""
    check(name, x, arguments[0] if isinstance(arguments[0], Window) else None)
    batch = x.unsqueeze(0) if x.dim() == 3 else x
    wide = batch.float() if x.dtype in (torch.float16, torch.bfloat16) else batch
    result = function(wide, *arguments, **options)
    if isinstance(result, tuple):
        return tuple(_finish(part, x, part.dtype if part.dtype == torch.int64 else x.dtype) for part in result)
    return _finish(result, x, x.dtype)


def _finish(y: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    y = y.to(dtype).contiguous(memory_format=memory_format(x))
    return y.squeeze(0) if x.dim() == 3 else y


def check(name: str, x: Tensor, window: Window | None = None) -> None:
    """Raise ValueError or TypeError, naming the operator, for an input of another rank, dtype or too small a size."""
    if x.dim() not in (3, 4):
        raise ValueError(f"{name}: the input must be (N, C, H, W) or (C, H, W), got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"{name}: the input must be floating point, got {x.dtype}; convert it with .float()")
    if window is not None:
        window.output_size(x.shape[-2], x.shape[-1], owner=name)


def memory_format(x: Tensor) -> torch.memory_format:
    """channels_last for a 4-D tensor in that format alone, otherwise contiguous."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
