"""The compiled operators in Python: `pool2d`, which all reducers share, and those that are no window and reducer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pooling import composite
from pooling.geometry import Window
from pooling.kernels import gradients, library, toolchain, twice
from pooling.kernels.gradients import DIFFERENTIABLE, FORWARD, INDEXED, NOTHING, NUMBER, REDUCERS, SLOPES, TAPS

RANKED = frozenset(("Median", "RankDraw", "RankMean"))
MOST_RANKED = 64  # kMostRanked in rank.h
# What the average divides by, and how a filter sees past the border: the enums Divisor and Border.
MEMBERS, PADDED, FIXED = range(3)
BORDERS = {name: number for number, name in enumerate(twice.BORDER_NAMES)}
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

LOADED = library.load()


@dataclass(frozen=True)
class Plugin:
    """A reducer from a user's header: where its library is, and its number there."""

    header: Path
    namespace: str
    number: int
    loaded: library.Loaded


PLUGINS: dict[str, Plugin] = {}


def add(header: str | Path, **composites: gradients.Composite) -> None:
    """Take the reducers of a header beside our own: `pool2d` knows their names from here on.

    Args:
        header: has a struct for each reducer, as in reducers.h, and POOLZOO_REDUCER(Name) after it. It is built by
            `python -m pooling.kernels.build --plugins HEADER`; until then plain PyTorch computes.
        composites: for each of them the same in plain PyTorch: (x, window, parameter) -> y, for a backward pass that
            is itself differentiated.

    Raises:
        ValueError: a name that is taken, or composites for other reducers than the header's.
    """
    header = Path(header).resolve()
    try:
        names = toolchain.reducers_in(header)
    except toolchain.BuildError as error:
        raise ValueError(str(error)) from error
    if set(names) != set(composites):
        raise ValueError(
            f"{str(header)!r} names {', '.join(names)}, composites are for {', '.join(composites) or 'none'}"
        )
    taken = [name for name in names if name in NUMBER or (name in PLUGINS and PLUGINS[name].header != header)]
    if taken:
        raise ValueError(f"{str(header)!r}: there is a reducer {taken[0]} already; choose another name")
    namespace = toolchain.namespace(header)
    if all(name in PLUGINS and PLUGINS[name].namespace == namespace for name in names):
        return
    loaded = library.load(header)
    for number, name in enumerate(names, start=len(REDUCERS)):
        PLUGINS[name] = Plugin(header, namespace, number, loaded)
    if loaded.variants:
        gradients.register(namespace, (*REDUCERS, *names), composites)


def loaded(reducer: str | None = None) -> library.Loaded:
    """The libraries that hold a reducer: a plugin's or, without one, our own."""
    return PLUGINS[reducer].loaded if reducer in PLUGINS else LOADED


def available(x: Tensor, reducer: str | None = None) -> bool:
    """Whether a compiled operator takes this input as things stand."""
    device = "cpu" if x.is_cpu else x.device.type
    return (
        device in loaded(reducer).variants
        and x.dtype in DTYPES
        and not torch.compiler.is_exporting()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def window_numbers(window: Window, size: tuple[int, int], border: int = 0, divisor: int = MEMBERS) -> list[int]:
    """kh, kw, sh, sw, ph, pw, dh, dw, H', W', border, divisor."""
    return [*window.kernel_size, *window.stride, *window.padding, *window.dilation, *size, border, divisor]


def is_parameter(value: float | Tensor, x: Tensor) -> bool:
    """Whether a parameter is one the kernels take: a number, or a tensor of shape () or (C, 1, 1)."""
    return not isinstance(value, Tensor) or value.numel() == 1 or value.shape == (x.shape[-3], 1, 1)


def can_rank(window: Window) -> bool:
    return window.kernel_size[0] * window.kernel_size[1] <= MOST_RANKED


def pool2d(
    reducer: str,
    x: Tensor,
    window: Sequence[int],
    *,
    logits: Tensor | None = None,
    parameter: float | Tensor = 0.0,
    table: Tensor | None = None,
    seed: Tensor | None = None,
    divisor: float = 1.0,
    eps: float = 0.0,
    taps: bool = False,
) -> Any:
    """(N, C, H, W) -> (N, C, H', W') by a reducer of REDUCERS or PLUGINS; with `taps` also each output's tap number.

    Args:
        window: as `window_numbers` gives it.
        parameter: a number or a tensor of shape () or (C, 1, 1).
            Only reducers with a `parameter_slope` have gradients by their parameter and table.
        table: weights by tap (Filter) or by number of members and rank, or biases (ScaledSum).
        divisor: what `FIXED` divides by.

    Raises:
        ValueError: a tensor is on another device than x.
    """
    learned = None
    if isinstance(parameter, Tensor):
        learned, parameter = _wide(parameter, x), 0.0
    if table is not None:
        table = _wide(table, x)
    for other in (logits, learned, table, seed):
        if other is not None and other.device != x.device:
            raise _elsewhere(x, other)
    numbers = [divisor, eps, float(parameter)]
    plugin = PLUGINS.get(reducer)
    number = NUMBER[reducer] if plugin is None else plugin.number
    differentiable = torch.is_grad_enabled() and (
        x.requires_grad
        or (logits is not None and logits.requires_grad)
        or (learned is not None and learned.requires_grad)
        or (table is not None and table.requires_grad)
    )
    if not (differentiable or taps):
        forward = FORWARD["poolzoo" if plugin is None else plugin.namespace]
        return forward(x, logits, learned, table, seed, number, window, numbers)
    # Mixed too has all it needs in the tap of its maximum, and in its slopes where its share is learned.
    saved = TAPS if taps or number in INDEXED else NOTHING
    if reducer == "Mixed":
        saved = SLOPES if learned is not None and learned.requires_grad else TAPS
    pool = DIFFERENTIABLE["poolzoo" if plugin is None else plugin.namespace, "pool2d"]
    y, kept = pool(x, logits, learned, table, seed, number, window, numbers, saved)
    if not taps:
        return y
    return y, kept if saved == TAPS else kept.narrow(0, kept.shape[0] - x.shape[0], x.shape[0])


def _wide(parameter: Tensor, x: Tensor) -> Tensor:
    """As the kernels take it: contiguous, in the type that x is computed in."""
    wide = composite.working_dtype(x)
    return parameter if parameter.dtype == wide and parameter.is_contiguous() else parameter.to(wide).contiguous()


def _elsewhere(x: Tensor, other: Tensor) -> ValueError:
    """A kernel would read foreign memory; and beside a tensor on the meta device only shapes would be computed."""
    what = f"the input is on {x.device}, a filter, parameter, table or seed on {other.device}"
    return ValueError(f"{what}; build the operator on the input's device, or move it there with .to()")


def max_with_indices(x: Tensor, window: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) -> the maxima and their flat indices into H * W, int64, as torch's max pooling gives them."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return torch.ops.poolzoo.max_with_indices.default(x, window)
    y, taps = pool2d("Max", x, window, taps=True)
    return y, torch.ops.poolzoo.flat_index.default(taps, window, *x.shape[2:])


# The norms that `polyphase_pool` compares, by their order.
ORDERS = {1.0: 1, 2.0: 2, float("inf"): 0}


def polyphase_pool(x: Tensor, stride: tuple[int, int], border: str, norm: float) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) -> each image's component of largest norm, as `polyphase_gather`, and which it is, (N,) int64."""
    return DIFFERENTIABLE["poolzoo", "polyphase_pool"](x, stride, BORDERS[border], ORDERS[norm])


def polyphase_gather(x: Tensor, phase: Tensor, stride: tuple[int, int], border: str) -> Tensor:
    """(N, C, H, W) -> (N, C, ceil(H / s), ceil(W / s)): each image's component `phase`, (N,) int64."""
    return DIFFERENTIABLE["poolzoo", "polyphase_gather"](x, phase, stride, BORDERS[border])


def max_blur(x: Tensor, row: Tensor, numbers: Sequence[int]) -> Tensor:
    """(N, C, H, W) -> (N, C, H', W'): a dense max, then the filter `row` at every stride-th position.

    Args:
        numbers: kh, kw, ph, pw, dh, dw of the max; H1, W1, the maxima; sh, sw, the filter's `before`, H', W', border.
    """
    if row.device != x.device:
        raise _elsewhere(x, row)
    return DIFFERENTIABLE["poolzoo", "max_blur"](x, _wide(row, x), numbers)


if LOADED.variants:
    gradients.register("poolzoo", REDUCERS, {})
    gradients.register_others()
