"""Random and regular choices of rows and columns: where `s3` and `fractional` look along one axis."""

import torch
import torch.nn.functional as F
from torch import Tensor

UNIT = 2**24  # of the whole numbers that stand for uniform ones


def kept(uniform: Tensor, stride: int, keep: int, count: int) -> Tensor:
    """(L,) uniform numbers -> (count,) ascending positions: of each strip of keep * stride, the `keep` of least number.

    The last strip may be shorter; it keeps what is left of `count` = ceil(L / stride).
    """
    length = keep * stride
    strips = -(-len(uniform) // length)
    keys = F.pad(uniform, (0, strips * length - len(uniform)), value=2.0).view(strips, length)
    order = keys.sort(dim=1, stable=True).indices[:, :keep]
    at = order + length * torch.arange(strips, device=order.device).unsqueeze(1)
    number = torch.arange(strips * keep, device=order.device).view(strips, keep)
    return at.masked_fill(number >= count, strips * length).sort(dim=1).values.flatten()[:count]


def pseudo_random_bounds(length: int, count: int, offset: Tensor) -> Tensor:
    """(count + 1,): ceil(a (i + u)) - ceil(a u) with a = length / count, from 0 to length (Graham 2014, section 2.1).

    Args:
        offset: u as a whole number of UNITs, so that nothing is rounded.
    """
    i = torch.arange(count + 1, device=offset.device)
    ceiling = -(-(length * (i * UNIT + offset)) // (count * UNIT))
    return ceiling - ceiling[0]


def random_bounds(length: int, uniform: Tensor) -> Tensor:
    """(count + 1,): increments of floor(a) and ceil(a), a = length / count, in random order: the larger ones where the
    (count,) numbers are least."""
    small, larger = divmod(length, len(uniform))
    rank = uniform.sort(stable=True).indices.sort().indices
    return F.pad((small + (rank < larger).long()).cumsum(dim=0), (1, 0))


def cells(bounds: Tensor, length: int, overlapping: bool) -> Tensor:
    """(count, T): the positions of each cell, its last one repeated.

    Cell i runs from bound i to before bound i + 1, or with `overlapping` to that bound, and has at least one position.
    """
    count = len(bounds) - 1
    first = bounds[:-1].clamp(max=length - 1)
    last = torch.maximum(bounds[1:] - (0 if overlapping else 1), first).clamp(max=length - 1)
    steps = torch.arange(-(-length // count) + overlapping, device=bounds.device)
    return torch.minimum(first.unsqueeze(1) + steps, last.unsqueeze(1))
