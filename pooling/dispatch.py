"""Which backend computes an operator, and what every operator checks and keeps."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pooling.geometry import Window
from pooling.kernels import native

BACKENDS = ("auto", "native", "composite")

# The registered operators that run on compiled kernels, at least for their usual options.
NATIVE_OPERATORS = frozenset(
    "max min avg subsample_scaled median lp gem lse soft mixed edscw idw ada "
    "stochastic rap rwp rsp max_dropout ordinal lip s3 fractional blur wavelet aps lps".split()
)

_chosen = ["auto"]


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose the backend inside a `with` block, in all threads.

    "auto": native where it is built and takes the input, otherwise composite. "native": an error where it does not.
    "composite": plain PyTorch.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    before, _chosen[0] = _chosen[0], name
    try:
        yield
    finally:
        _chosen[0] = before


def uses_native(name: str, x: Tensor, supported: bool = True, reducer: str | None = None) -> bool:
    """Whether the compiled operator computes this call; `reducer` tells where it may be a plugin's.

    Raises:
        RuntimeError: the native backend is demanded and does not take it.
    """
    if _chosen[0] == "composite":
        return False
    if supported and native.available(x, reducer):
        return True
    if _chosen[0] == "native":
        reason = native.loaded(reducer).missing.get(
            x.device.type, "it does not take this input, or not under this transform"
        )
        raise RuntimeError(f"{name}: no native operator for {x.dtype} on {x.device.type}: {reason}")
    if not torch.compiler.is_compiling():
        native.loaded(reducer).tell(x.device.type)
    return False


def run(
    name: str,
    composite: Callable[..., Any],
    x: Tensor,
    window: Window,
    *arguments: Any,
    native_call: Mapping[str, Any] | None = None,
    divisor_mode: int = native.MEMBERS,
    supported: bool = True,
) -> Any:
    """One windowed operator: batched, computed in at least float32, the result in x's dtype and memory format.

    Args:
        composite: called with (x, window, *arguments).
        native_call: the arguments of `native.pool2d` beside x and the window.
        divisor_mode: what the compiled operator's mean divides by.
        supported: False where the compiled operator does not cover these arguments.
    """
    size = check(name, x, window)
    if native_call is not None and uses_native(name, x, supported, native_call["reducer"]):
        numbers = native.window_numbers(window, size, 0, divisor_mode)
        if x.dim() == 4:
            return native.pool2d(x=x, window=numbers, **native_call)
        return native.pool2d(x=x.unsqueeze(0), window=numbers, **native_call).squeeze(0)
    return in_plain_torch(composite, x, window, *arguments)


def in_plain_torch(composite: Callable[..., Any], x: Tensor, *arguments: Any, **options: Any) -> Any:
    """Call a composite, which takes (N, C, H, W) in float32 or float64."""
    batch = x.unsqueeze(0) if x.dim() == 3 else x
    wide = batch.float() if x.dtype in (torch.float16, torch.bfloat16) else batch
    result = composite(wide, *arguments, **options)
    if isinstance(result, tuple):
        return tuple(_finish(part, x, part.dtype if part.dtype == torch.int64 else x.dtype) for part in result)
    return _finish(result, x, x.dtype)


def _finish(y: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    y = y.to(dtype)
    y = y.contiguous(memory_format=memory_format(x)) if y.dim() == 4 else y
    return y.squeeze(0) if x.dim() == 3 else y


def check(name: str, x: Tensor, window: Window | None = None) -> tuple[int, int]:
    """H', W'. Raise ValueError or TypeError, naming the operator, for an input of another rank, dtype or too small."""
    shape = x.shape
    if len(shape) not in (3, 4):
        raise ValueError(f"{name}: the input must be (N, C, H, W) or (C, H, W), got shape {tuple(shape)}")
    if not x.is_floating_point():
        raise TypeError(f"{name}: the input must be floating point, got {x.dtype}; convert it with .float()")
    return (0, 0) if window is None else window.output_size(shape[-2], shape[-1], owner=name)


def memory_format(x: Tensor) -> torch.memory_format:
    """channels_last for a 4-D tensor in that format alone, otherwise contiguous."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
