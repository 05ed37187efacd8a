"""The backward pass as plain PyTorch, for when it is differentiated itself."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from pooling import composite
from pooling.geometry import Window

BORDER_NAMES = ("zeros", "reflect", "circular", "edge")  # the enum Border


def backward(
    reducer: str,
    plugin: Callable[[Tensor, Window, Any], Tensor] | None,
    gradient: Tensor,
    x: Tensor | None,
    logits: Tensor | None,
    parameter: Tensor | None,
    table: Tensor | None,
    taps: Tensor | None,
    shape: Sequence[int],
    window: Sequence[int],
    numbers: Sequence[float],
) -> tuple[Tensor | None, ...]:
    """The gradients by x, logits, parameter and table, as functions that autograd can follow.

    Args:
        plugin: the definition in plain PyTorch of a reducer that is not one of ours.
    """
    if x is None and taps is not None and reducer != "Mixed":
        return _scatter(gradient, taps, shape, window), None, None, None
    if x is None and taps is not None:
        share: Any = numbers[2] if parameter is None else parameter
        zeros = gradient.new_zeros(tuple(shape)).requires_grad_()
        mean = composite.avg_pool2d(zeros, _window(window, shape), False, None)
        (by_mean,) = torch.autograd.grad(mean, zeros, (1 - share) * gradient, create_graph=True)
        return _scatter(share * gradient, taps, shape, window) + by_mean, None, None, None
    if x is None:  # linear in x, whose value is then of no account
        x = gradient.new_zeros(tuple(shape)).requires_grad_()
    wide = composite.working_dtype(x)
    given: Any = numbers[2] if parameter is None else parameter
    if plugin is not None:
        y = plugin(x.to(wide), _window(window, shape), given)
    else:
        y = _composite(reducer, _window(window, shape), window, numbers, table)(x.to(wide), logits, given)
    inputs = (x, logits, parameter, table)
    sources = [t for t in inputs if t is not None and t.requires_grad]
    found = torch.autograd.grad(y.to(x.dtype), sources, gradient, create_graph=True, allow_unused=True)
    by_source = {id(source): g for source, g in zip(sources, found, strict=True)}
    return tuple(None if t is None else by_source.get(id(t)) for t in inputs)


def max_blur_backward(gradient: Tensor, x: Tensor, row: Tensor, numbers: Sequence[int]) -> Tensor:
    """The gradient of the dense max and filter by x."""
    kh, kw, ph, pw, dh, dw, rows, columns, sh, sw, before, out_h, out_w, border = numbers
    window = Window((kh, kw), (1, 1), (ph, pw), (dh, dw))
    wide = x.to(row.dtype)
    y = composite.max_blur_pool2d(
        wide, window, (rows, columns), row, (sh, sw), before, (out_h, out_w), BORDER_NAMES[border]
    )
    (by_x,) = torch.autograd.grad(y.to(x.dtype), x, gradient, create_graph=True)
    return by_x


def _window(numbers: Sequence[int], shape: Sequence[int]) -> Window:
    kh, kw, sh, sw, ph, pw, dh, dw, out_h, out_w = numbers[:10]
    window = Window((kh, kw), (sh, sw), (ph, pw), (dh, dw))
    if numbers[10] == 0 and (out_h, out_w) != window.output_size(shape[2], shape[3]):
        return Window((kh, kw), (sh, sw), (ph, pw), (dh, dw), ceil_mode=True)
    return window


def _scatter(gradient: Tensor, taps: Tensor, shape: Sequence[int], window: Sequence[int]) -> Tensor:
    """Each output's gradient to its tap; tap 255 stands for none."""
    at = _flat_index(taps, shape, window)
    none = at < 0
    zeros = gradient.new_zeros((*shape[:2], shape[2] * shape[3]))
    parts = gradient.masked_fill(none, 0).flatten(2)
    return zeros.scatter_add(2, at.clamp(min=0).flatten(2), parts).view(tuple(shape))


def _flat_index(taps: Tensor, shape: Sequence[int], window: Sequence[int]) -> Tensor:
    """Tap numbers (N, C, H', W') -> flat index into H*W, int64; -1 where there is no tap."""
    _, kw, sh, sw, ph, pw, dh, dw, out_h, out_w = window[:10]
    none = (taps == 255) if taps.dtype == torch.uint8 else (taps < 0)
    tap = taps.to(torch.int64)
    row = tap.div(kw, rounding_mode="floor")
    i = torch.arange(out_h, device=taps.device).unsqueeze(1) * sh - ph
    j = torch.arange(out_w, device=taps.device) * sw - pw
    at = (i + row * dh) * shape[3] + j + (tap - row * kw) * dw
    return at.masked_fill(none, -1)


def _composite(
    reducer: str, window: Window, numbers: Sequence[int], given: Sequence[float], table: Tensor | None
) -> Callable[[Tensor, Tensor | None, Any], Tensor]:
    divisor, eps, _ = given
    mode = numbers[11]
    functions: dict[str, Callable[..., Tensor]] = {
        "Avg": lambda x, logits, p: (
            composite.avg_pool2d(x, window, mode == 1, None)
            if mode != 2
            else composite.avg_pool2d(x, window, True, 1) / divisor
        ),
        "Filter": lambda x, logits, p: _filter(x, table, numbers),
        "ScaledSum": lambda x, logits, p: composite.subsample_scaled2d(x, window, p, cast(Tensor, table)),
        "Mixed": lambda x, logits, p: composite.mixed_pool2d(x, window, p),
        "Lp": lambda x, logits, p: composite.lp_pool2d(x, window, p, mode != 2),
        "Root2": lambda x, logits, p: composite.lp_pool2d(x, window, 2.0, mode != 2),
        "Gem": lambda x, logits, p: composite.gem_pool2d(x, window, p, eps),
        "LogSumExp": lambda x, logits, p: composite.lse_pool2d(x, window, p),
        "Soft": lambda x, logits, p: composite.soft_pool2d(x, window, p),
        "WeightedMean": lambda x, logits, p: composite.weighted_mean_pool2d(x, window, logits.to(x.dtype)),
        "Edscw": lambda x, logits, p: composite.edscw_pool2d(x, window, eps),
        "Idw": lambda x, logits, p: composite.idw_pool2d(x, window, eps),
        "Ada": lambda x, logits, p: composite.ada_pool2d(x, window, p, eps),
        "StochasticExpectation": lambda x, logits, p: composite.stochastic_pool2d(x, window, None, "relu", "weighted"),
        "ShiftedExpectation": lambda x, logits, p: composite.stochastic_pool2d(x, window, None, "shift", "weighted"),
        "RankMean": lambda x, logits, p: composite.ranked_pool2d(x, window, cast(Tensor, table)),
    }
    return functions[reducer]


def _filter(x: Tensor, table: Tensor | None, numbers: Sequence[int]) -> Tensor:
    assert table is not None
    kh, kw, sh, sw, ph, pw, _, _, out_h, out_w, border = numbers[:11]
    size = (out_h, out_w)
    return composite.filter2d(x, table.view(kh, kw), (sh, sw), (ph, pw), size, BORDER_NAMES[border])
