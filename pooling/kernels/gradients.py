"""What torch is told of the compiled operators: their gradients, and fake kernels that know shapes alone.

A reducer that is one member's value (max, a draw) saves one byte per output for its backward pass, a linear one
nothing; the others save their input. `mixed` saves the byte of its maximum and, where its share is learned, its slopes.
A backward pass that is itself differentiated runs on `pooling.composite`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pooling import composite
from pooling.geometry import Window
from pooling.kernels import twice

# In the order of POOLZOO_REDUCERS in call.h.
REDUCERS = (
    "Max", "Min", "Avg", "Filter", "ScaledSum", "Mixed", "Root2", "Soft", "WeightedMean",
    "Lp", "Gem", "LogSumExp", "Edscw", "Idw", "Ada",
    "Stochastic", "ShiftedStochastic", "StochasticExpectation", "ShiftedExpectation", "Median", "RankDraw", "RankMean",
)  # fmt: skip
NUMBER = {name: number for number, name in enumerate(REDUCERS)}
INDEXED = frozenset(NUMBER[n] for n in ("Max", "Min", "Stochastic", "ShiftedStochastic", "Median", "RankDraw"))
LINEAR = frozenset(NUMBER[n] for n in ("Avg", "Filter", "ScaledSum"))
BY_TABLE = frozenset(NUMBER[n] for n in ("RankMean", "ScaledSum"))  # has_slopes_by_table in call.h
# What is saved for the backward pass: tap numbers, and slopes by the parameter before them (binding.h).
NOTHING, TAPS, SLOPES = range(3)


def _is_channels_last(x: Tensor) -> bool:
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _like(x: Tensor, shape: Sequence[Any], channels_last: bool, dtype: torch.dtype) -> Tensor:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=memory_format)


def _fake_forward(x, logits, parameter, table, seed, reducer, window, numbers):
    return _like(x, (*x.shape[:2], window[8], window[9]), _is_channels_last(x), x.dtype)


def _fake_pool2d(x, logits, parameter, table, seed, reducer, window, numbers, save):
    y = _fake_forward(x, logits, parameter, table, seed, reducer, window, numbers)
    if save == NOTHING:
        return y, torch.empty((0, *y.shape[1:]), dtype=torch.uint8, device=x.device)
    dtype = torch.int32 if window[0] * window[1] > 255 else torch.uint8
    images = 1 if save == TAPS else 1 + composite.working_dtype(x).itemsize // dtype.itemsize
    return y, _like(x, (images * y.shape[0], *y.shape[1:]), _is_channels_last(x), dtype)


def _fake_backward(
    gradient, x, logits, parameter, table, saved, H, W, channels_last, reducer, window, numbers, parameter_gradient
):
    N, C = gradient.shape[:2]
    dx = _like(gradient, (N, C, H, W), channels_last, gradient.dtype)
    dlogits = _like(gradient, (0 if logits is None else N, C, H, W), channels_last, gradient.dtype)
    by_parameter, by_table = gradient.new_empty(0), gradient.new_empty(0)
    if parameter_gradient and gradient.is_cpu:
        by_parameter = by_parameter if parameter is None else torch.empty_like(parameter)
        by_table = torch.empty_like(table) if table is not None and reducer in BY_TABLE else by_table
    elif parameter_gradient:
        slopes = {NUMBER["RankMean"]: window[0] * window[1], NUMBER["ScaledSum"]: 2}.get(reducer, 1)
        shape = (slopes * N, C, window[8], window[9])
        by_parameter = _like(gradient, shape, channels_last, composite.working_dtype(gradient))
    return dx, dlogits, by_parameter, by_table


def _set_up(ctx, inputs, output) -> None:
    x, logits, parameter, table, _, reducer, window, numbers, save = inputs
    ctx.reducer, ctx.window, ctx.numbers = reducer, window, numbers
    ctx.shape, ctx.channels_last = x.shape, _is_channels_last(x)
    ctx.parameter_gradient = any(t is not None and t.requires_grad for t in (parameter, table))
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # zeros for what is saved would be a tenth of a small call
    if save == TAPS:
        ctx.save_for_backward(None, None, parameter, None, output[1])
    elif reducer in LINEAR and not ctx.parameter_gradient:
        ctx.save_for_backward(None, None, parameter, table, None)
    else:  # x beside slopes: to be read where the gradient is differentiated itself
        ctx.save_for_backward(x, logits, parameter, table, output[1] if save == SLOPES else None)


def _backward(operator, names, composites, ctx, gradient, _):
    if gradient is None:
        return (None,) * 9
    x, logits, parameter, table, saved = ctx.saved_tensors
    nothing = (None,) * 5
    if (torch.is_grad_enabled() and gradient.requires_grad) or (torch.is_grad_enabled() and x is not None):
        name, given = names[ctx.reducer], (x, logits, parameter, table, saved)
        found = twice.backward(name, composites.get(name), gradient, *given, ctx.shape, ctx.window, ctx.numbers)
        return (*found, *nothing)
    dx, dlogits, by_parameter, by_table = operator(
        gradient, x if saved is None else None, logits, parameter, table, saved, ctx.shape[2], ctx.shape[3],
        ctx.channels_last, ctx.reducer, ctx.window, ctx.numbers, ctx.parameter_gradient,
    )  # fmt: skip
    if ctx.parameter_gradient and not gradient.is_cpu:
        by_parameter, by_table = _added_up(by_parameter, parameter, table, ctx.reducer, ctx.shape, ctx.window)
    learned = ctx.parameter_gradient
    return (
        dx,
        None if logits is None else dlogits,
        by_parameter if learned and parameter is not None else None,
        by_table if learned and table is not None and ctx.reducer in BY_TABLE else None,
        *nothing,
    )


def _added_up(
    slopes: Tensor,
    parameter: Tensor | None,
    table: Tensor | None,
    reducer: int,
    shape: Sequence[Any],
    window: Sequence[Any],
) -> tuple[Tensor | None, Tensor | None]:
    """Slopes of outputs, (slopes * N, C, H', W') -> the gradients; the CPU's kernel adds up itself (add_up.h)."""
    if reducer == NUMBER["RankMean"] and table is not None:
        return None, _by_table(slopes, table, shape, window)

    def total(slopes: Tensor, parameter: Tensor) -> Tensor:
        return (slopes.sum() if parameter.numel() == 1 else slopes.sum(dim=(0, 2, 3))).view(parameter.shape)

    N = shape[0]
    by_parameter = None if parameter is None else total(slopes[:N], parameter)
    return by_parameter, None if table is None or reducer not in BY_TABLE else total(slopes[N:], table)


def _by_table(slopes: Tensor, table: Tensor, shape: Sequence[Any], window: Sequence[Any]) -> Tensor:
    """Slopes (K * N, C, H', W') by each rank's weight -> the gradient by the table's rows, one for each count."""
    K = table.shape[-1]
    by_rank = slopes.view(K, -1, *slopes.shape[1:])
    by_position = by_rank.sum(dim=(1, 2) if table.dim() == 2 else 1).flatten(-2).movedim(-1, 0)  # (H' * W', K[, C])
    rows = by_position.new_zeros(K + 1, *by_position.shape[1:])
    # In a fixed order on a GPU too, unlike index_add.
    rows = rows.index_put((_counts(shape, window, slopes.device),), by_position, accumulate=True)
    return rows if table.dim() == 2 else rows.movedim(-1, 0)


def _counts(shape: Sequence[Any], window: Sequence[Any], device: torch.device) -> Tensor:
    """(H' * W',) int64: the members of each window."""
    (kh, kw, sh, sw, ph, pw, dh, dw, out_h, out_w), (H, W) = window[:10], shape[2:]

    def members(taps, stride, padding, dilation, outputs, length):
        start = torch.arange(outputs, device=device).unsqueeze(1) * stride - padding
        at = start + torch.arange(taps, device=device) * dilation
        return ((at >= 0) & (at < length)).sum(dim=1)

    return torch.outer(members(kh, sh, ph, dh, out_h, H), members(kw, sw, pw, dw, out_w, W)).flatten()


def _fake_flat_index(taps, window, H, W):
    return _like(taps, taps.shape, _is_channels_last(taps), torch.int64)


def _fake_max_with_indices(x, window):
    y = _like(x, (*x.shape[:2], window[8], window[9]), _is_channels_last(x), x.dtype)
    return y, _like(x, y.shape, _is_channels_last(x), torch.int64)


def _fake_norms(x, stride, border, order):
    return x.new_empty((x.shape[0], stride[0] * stride[1]), dtype=torch.float64)


def _fake_gather(x, phase, stride, border):
    (N, C, H, W), (sh, sw) = x.shape, stride
    return _like(x, (N, C, (H + sh - 1) // sh, (W + sw - 1) // sw), _is_channels_last(x), x.dtype)


def _fake_polyphase_pool(x, stride, border, order):
    return _fake_gather(x, None, stride, border), x.new_empty((x.shape[0],), dtype=torch.int64)


def _fake_scatter(gradient, phase, H, W, channels_last, stride, border):
    return _like(gradient, (*gradient.shape[:2], H, W), channels_last, gradient.dtype)


def _set_up_gather(ctx, inputs, output) -> None:
    x, phase, ctx.stride, ctx.border = inputs
    ctx.size, ctx.channels_last = x.shape[2:], _is_channels_last(x)
    ctx.save_for_backward(phase)


def _set_up_polyphase_pool(ctx, inputs, output) -> None:
    x, ctx.stride, ctx.border, _ = inputs
    ctx.size, ctx.channels_last = x.shape[2:], _is_channels_last(x)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def _gather_backward(ctx, gradient, *_):
    if gradient is None:
        return (None,) * 4
    (phase,) = ctx.saved_tensors
    scatter = DIFFERENTIABLE["poolzoo", "polyphase_scatter"]
    return scatter(gradient, phase, *ctx.size, ctx.channels_last, ctx.stride, ctx.border), None, None, None


def _set_up_scatter(ctx, inputs, output) -> None:
    _, phase, _, _, _, ctx.stride, ctx.border = inputs
    ctx.save_for_backward(phase)


def _scatter_backward(ctx, gradient):
    (phase,) = ctx.saved_tensors
    gather = DIFFERENTIABLE["poolzoo", "polyphase_gather"]
    return gather(gradient, phase, ctx.stride, ctx.border), *(None,) * 6


def _fake_max_blur(x, row, numbers):
    return _like(x, (*x.shape[:2], *numbers[11:13]), _is_channels_last(x), x.dtype)


def _fake_max_blur_backward(gradient, x, row, numbers):
    return _like(x, x.shape, _is_channels_last(x), x.dtype)


def _set_up_max_blur(ctx, inputs, output) -> None:
    x, row, ctx.numbers = inputs
    ctx.save_for_backward(x, row)


def _max_blur_backward(ctx, gradient):
    x, row = ctx.saved_tensors
    if torch.is_grad_enabled():
        return twice.max_blur_backward(gradient, x, row, ctx.numbers), None, None
    return torch.ops.poolzoo.max_blur_backward.default(gradient, x, row, ctx.numbers), None, None


Composite = Callable[[Tensor, Window, Any], Tensor]

# The operators, by namespace: looking them up in torch.ops takes a tenth of what calling them does.
FORWARD: dict[str, Callable[..., Tensor]] = {}
# Operators with a gradient, by namespace and name, as they are called.
DIFFERENTIABLE: dict[tuple[str, str], Callable[..., Any]] = {}


def _register_autograd(
    namespace: str,
    name: str,
    backward: Callable[..., Any],
    set_up: Callable[[Any, Any, Any], None],
    plain: Callable[..., Any] | None = None,
) -> None:
    """An operator's gradient: for torch.compile by torch.library, by which a small eager call takes twice as long.

    Args:
        plain: the same operator under a name that has no gradient, whose call takes less.
    """
    torch.library.register_autograd(f"{namespace}::{name}", backward, setup_context=set_up)
    operator = getattr(getattr(torch.ops, namespace), name).default

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            with torch._C._AutoDispatchBelowAutograd():
                output = operator(*inputs)
            set_up(ctx, inputs, output)
            return output

    Eager.backward = staticmethod(backward)

    def call(*inputs):
        if torch.compiler.is_compiling():
            return operator(*inputs)
        if torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in inputs):
            return Eager.apply(*inputs)
        if plain is not None:
            return plain(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*inputs)

    DIFFERENTIABLE[namespace, name] = call


def register(namespace: str, names: Sequence[str], composites: Mapping[str, Composite]) -> None:
    """Fake kernels and gradients for a library's operators.

    Args:
        names: of its reducers, in the order of their numbers.
        composites: those of a plugin's reducers in plain PyTorch.
    """
    torch.library.register_fake(f"{namespace}::pool2d", _fake_pool2d)
    torch.library.register_fake(f"{namespace}::pool2d_forward", _fake_forward)
    torch.library.register_fake(f"{namespace}::pool2d_backward", _fake_backward)
    FORWARD[namespace] = getattr(torch.ops, namespace).pool2d_forward.default
    backward = functools.partial(_backward, getattr(torch.ops, namespace).pool2d_backward.default, names, composites)
    _register_autograd(namespace, "pool2d", backward, _set_up)


def register_others() -> None:
    """The same for the operators that are our own library's alone."""
    torch.library.register_fake("poolzoo::flat_index", _fake_flat_index)
    torch.library.register_fake("poolzoo::max_with_indices", _fake_max_with_indices)
    torch.library.register_fake("poolzoo::polyphase_norms", _fake_norms)
    torch.library.register_fake("poolzoo::polyphase_pool", _fake_polyphase_pool)
    torch.library.register_fake("poolzoo::polyphase_pool_forward", _fake_polyphase_pool)
    torch.library.register_fake("poolzoo::polyphase_gather", _fake_gather)
    torch.library.register_fake("poolzoo::polyphase_scatter", _fake_scatter)
    torch.library.register_fake("poolzoo::max_blur", _fake_max_blur)
    torch.library.register_fake("poolzoo::max_blur_forward", _fake_max_blur)
    torch.library.register_fake("poolzoo::max_blur_backward", _fake_max_blur_backward)
    _register_autograd("poolzoo", "polyphase_gather", _gather_backward, _set_up_gather)
    pool = torch.ops.poolzoo.polyphase_pool_forward.default
    _register_autograd("poolzoo", "polyphase_pool", _gather_backward, _set_up_polyphase_pool, pool)
    _register_autograd("poolzoo", "polyphase_scatter", _scatter_backward, _set_up_scatter)
    max_blur = torch.ops.poolzoo.max_blur_forward.default
    _register_autograd("poolzoo", "max_blur", _max_blur_backward, _set_up_max_blur, max_blur)
