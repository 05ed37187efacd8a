"""The functions of `pooling.functional` that put a pooled map back: to the places that a pool chose, zeros elsewhere.

Shapes: `x` is (N, C, H', W') or (C, H', W'), floating point; the result is (N, C, H, W) in x's dtype and memory format.
"""

import torch
from torch import Tensor

from pooling import composite
from pooling.dispatch import check, in_plain_torch, memory_format
from pooling.geometry import Pair, pair


def max_unpool2d(x: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
    """Each value put to its flat index into H*W, (H, W) = size (Zeiler & Fergus 2014; torch's max_unpool2d).

    Args:
        indices: int64 of x's shape, as `max` gives with `return_indices`; a place named twice keeps one of its values.
    """
    check("max_unpool", x)
    if indices.shape != x.shape or indices.dtype != torch.int64:
        raise ValueError(
            f"max_unpool: indices must be int64 of the input's shape {tuple(x.shape)}, got {indices.dtype} of "
            f"{tuple(indices.shape)}"
        )
    places = x.new_zeros((*x.shape[:-2], size[0] * size[1]))
    y = places.scatter(-1, indices.flatten(-2), x.flatten(-2)).unflatten(-1, size)
    return y.contiguous(memory_format=memory_format(x))


def polyphase_unpool2d(x: Tensor, phase: Tensor, stride: Pair, size: tuple[int, int] | None = None) -> Tensor:
    """Each image put back on the grid that it was taken from (Chaman & Dokmanic 2021, arXiv:2105.04040).

    Args:
        phase: (N,) int64, i * s_w + j for the grid that starts at row i, column j; or (N, s_h * s_w), the share that
            each grid gets.
        size: H, W; what lies past it is left out. H' s_h, W' s_w by default.
    """
    check("polyphase_unpool", x)
    step = pair(stride)
    count, grids = (len(x) if x.dim() == 4 else 1), step[0] * step[1]
    if phase.shape not in ((count,), (count, grids)):
        allowed = f"{(count,)}, or {(count, grids)} for shares"
        raise ValueError(f"polyphase_unpool: phase must have shape {allowed}, got {tuple(phase.shape)}")
    return in_plain_torch(composite.polyphase_unpool2d, x, phase, step, size)
