"""Resampling by choosing frequencies, as one real matrix for each axis: y = A x B^T.

Transforming an axis, weighting its frequencies and transforming back at other positions is linear. Where k and -k are
weighted alike it maps real to real:

    A[i, h] = 1/L sum_k w_k cos(2 pi k (t_i - h / L)),   i < H', h < L, t_i the i-th output's place on the circle.

So no complex number is needed, and the symmetry that makes the result real holds to the last bit. For maps of up to
some 200 positions two matrix products also take less time than the transforms. Inputs are (N, C, H, W) in float32 or
float64.
"""

import math

import torch
from torch import Tensor

from pooling.composite import full_precision, widest


def band(length: int, size: int, device: torch.device, hamming: bool = False) -> Tensor:
    """(size, length): the `size` lowest frequencies, back at `size` positions.

    k runs over a centred band of n = min(size, length) frequencies; where n is even, n/2 and -n/2 are one frequency.

    Args:
        hamming: weight them by 0.54 + 0.46 cos(2 pi k / n), which is 1 at k = 0.
    """
    n = min(size, length)
    k = torch.arange(n // 2 + 1, device=device)
    weights = torch.where((k == 0) | (2 * k == n), 1.0, 2.0).to(widest(device))
    if hamming:
        weights = weights * (0.54 + 0.46 * _angle(k, n).cos())
    return _matrix(length, torch.arange(size, device=device), size, weights)


def below_nyquist(length: int, stride: int, device: torch.device) -> Tensor:
    """(ceil(length / stride), length): the frequencies |k| < length / (2 stride), back at every stride-th position."""
    positions = torch.arange(0, length, stride, device=device)
    if stride == 1:
        return torch.eye(length, dtype=widest(device), device=device)
    weights = torch.full((-(-length // (2 * stride)),), 2.0, dtype=widest(device), device=device)
    weights[0] = 1.0
    return _matrix(length, positions, length, weights)


def _matrix(length: int, positions: Tensor, period: int, weights: Tensor) -> Tensor:
    """A for t_i = positions / period and the weights of k = 0, 1, ... (of k and -k together)."""
    k = torch.arange(len(weights), device=weights.device)
    there = _angle(torch.outer(positions, k), period)
    here = _angle(torch.outer(torch.arange(length, device=k.device), k), length)
    return ((there.cos() * weights) @ here.cos().T + (there.sin() * weights) @ here.sin().T) / length


def _angle(numerator: Tensor, denominator: int) -> Tensor:
    """2 pi numerator / denominator, reduced while the numbers are whole."""
    return (numerator % denominator).to(widest(numerator.device)) * (2 * math.pi / denominator)


def resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows x columns^T for each map of (N, C, H, W)."""
    with full_precision(x.device):
        return rows.to(x.dtype) @ (x @ columns.to(x.dtype).T)


def cut(x: Tensor, size: tuple[int, int], hamming: bool) -> Tensor:
    """The real part of the centred band -n/2 .. n/2 - 1 (n even) or -(n-1)/2 .. (n-1)/2, back at H', W' positions.

    The band of an even size holds -n/2 alone. Along one axis the real part makes it the one frequency of `band`; in the
    corner, -n/2 in both, it keeps cos(a + b) where `band` has cos(a) cos(b).
    """
    y = resample(x, *(band(length, n, x.device, hamming) for length, n in zip(x.shape[-2:], size, strict=True)))
    if size[0] % 2 or size[1] % 2:
        return y
    sines = []
    for length, n in zip(x.shape[-2:], size, strict=True):
        at = torch.arange(length, device=x.device)
        sines.append(_angle(at * (n // 2), length).sin() * ((0.08 if hamming else 1.0) / length))
    with full_precision(x.device):
        corner = (x @ sines[1].to(x.dtype)) @ sines[0].to(x.dtype)
    signs = [1.0 - 2.0 * (torch.arange(n, device=x.device) % 2) for n in size]
    return y - corner[..., None, None] * torch.outer(*signs).to(x.dtype)
