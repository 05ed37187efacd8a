"""Weights and probabilities by rank: tables (K + 1, K) whose row n holds those of a window with n members.

A window at the border has fewer members than taps, so each row is a distribution of its own over the first n ranks.
"""

import torch
from torch import Tensor


def _rows(taps: int) -> tuple[Tensor, Tensor]:
    """n = 0 .. K as a column, r = 0 .. K - 1 as a row."""
    return torch.arange(taps + 1, dtype=torch.float64).unsqueeze(1), torch.arange(taps, dtype=torch.float64)


def largest(taps: int, t: int | None = None) -> Tensor:
    """The mean of the t largest: 1/t for each, t = ceil(n / 2) unless given, and never more than n (Shi 2016)."""
    n, r = _rows(taps)
    top = torch.ceil(n / 2) if t is None else n.clamp(max=t)
    return torch.where(r < top, 1 / top.clamp(min=1), 0.0)


def geometric(taps: int, a: float) -> Tensor:
    """p_r proportional to a (1 - a)^(r - 1) over the n ranks (Shi 2016)."""
    n, r = _rows(taps)
    weights = torch.where(r < n, (1 - a) ** r, 0.0)
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def first_kept(taps: int, q: float) -> Tensor:
    """(1 - q) q^(r - 1): the probability that rank r is the largest not dropped; q^n is left (Wu & Gu 2015)."""
    n, r = _rows(taps)
    return torch.where(r < n, (1 - q) * q**r, 0.0)


def beyond(taps: int) -> Tensor:
    """(K + 1, K): -inf for the ranks that a window of n members lacks, n = 1 .. K, otherwise 0."""
    return torch.full((taps + 1, taps), -torch.inf).triu().index_fill(0, torch.tensor([0]), 0.0)


def softmax(theta: Tensor, beyond: Tensor) -> Tensor:
    """(K,) or (C, K) -> (K + 1, K) or (C, K + 1, K): row n is the softmax over the first n ranks.

    Row 0, of windows without members, which there are not, is the softmax over all.
    """
    return ((theta if theta.dim() == 1 else theta.unsqueeze(-2)) + beyond).softmax(dim=-1)


def cumulative(table: Tensor, certain: bool) -> Tensor:
    """Running sums along the ranks; with `certain` the n-th is infinite, so that no rounding leaves a draw out."""
    running = table.cumsum(dim=1)
    if certain:
        n, r = _rows(table.shape[1])
        running = running.masked_fill((r >= n - 1).to(table.device), torch.inf)
    return running
