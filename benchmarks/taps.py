"""The members of all windows in plain PyTorch, as benchmarks.alternatives combines them.

Shapes: x is (N, C, H, W); the taps of all windows are (K, N, C, H', W') or a list of K of (N, C, H', W').
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pooling.geometry import Window

Program = Callable[..., Any]


def padded(x: Tensor, window: Window, fill: float) -> Tensor:
    (ph, pw) = window.padding
    return F.pad(x, (pw, pw, ph, ph), value=fill) if ph or pw else x


def slices(x: Tensor, window: Window, fill: float = 0.0) -> list[Tensor]:
    (kh, kw), (sh, sw) = window.kernel_size, window.stride
    out_h, out_w = window.output_size(x.shape[-2], x.shape[-1])
    rows, columns = (out_h - 1) * sh + 1, (out_w - 1) * sw + 1
    x = padded(x, window, fill)
    return [x[..., i : i + rows : sh, j : j + columns : sw] for i in range(kh) for j in range(kw)]


def stacked(x: Tensor, window: Window, fill: float = 0.0) -> Tensor:
    return torch.stack(slices(x, window, fill))


def unfolded(x: Tensor, window: Window, fill: float = 0.0) -> Tensor:
    size = window.output_size(x.shape[-2], x.shape[-1])
    columns = F.unfold(padded(x, window, fill), window.kernel_size, stride=window.stride)
    return columns.view(*x.shape[:2], -1, *size).movedim(2, 0)


def tensors(formula: Program) -> dict[str, Program]:
    """The programs of a formula of (gather, x, window, *extra), whose `gather` gives all taps as one tensor."""
    return {"stack": partial(formula, stacked), "unfold": partial(formula, unfolded)}


def members(x: Tensor, window: Window) -> list[Tensor]:
    """For each tap (1, 1, H', W'): 1 inside the input, 0 past its border."""
    return slices(x.new_ones(1, 1, *x.shape[-2:]), window)


def counts(x: Tensor, window: Window) -> Tensor:
    """(1, 1, H', W'): the members of each window."""
    return reduce(torch.add, members(x, window))
