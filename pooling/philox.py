"""Philox 4x32-10 in plain PyTorch: random bits as a pure function of a seed and an index.

Element i of a draw is lane i % 4 of the block at counter i // 4, so a sample does not depend on the device, the
memory format, the number of threads or the order of evaluation (Salmon et al. 2011, "Parallel random numbers: as easy
as 1, 2, 3"). `pooling.reference.philox` is the same in NumPy, checked against the published vectors.
"""

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def draw_seed(device: torch.device) -> Tensor:
    """A 64-bit seed from torch's generator for the device: an int64 scalar on that device, without synchronising."""
    return torch.randint(-(2**63), 2**63 - 1, (), device=device)  # int64


def blocks(seed: Tensor, counters: Tensor) -> Tensor:
    """Four numbers of 32 random bits for each counter, as int64 in [0, 2^32). Shape: (...) -> (..., 4)

    Args:
        seed: int64 scalar; its low and high halves are the key.
        counters: int64, >= 0, in any order.
    """
    zero = torch.zeros_like(counters)
    c0, c1, c2, c3 = counters & MASK, counters >> 32, zero, zero
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    for _ in range(ROUNDS):
        # The products' low 64 bits are exact in wrapped int64 arithmetic; the mask drops the sign that >> brings in.
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return torch.stack((c0, c1, c2, c3), dim=-1)


def bits(seed: Tensor, count: int, first: int = 0) -> Tensor:
    """32 random bits for each element first .. first + count - 1, as int64 in [0, 2^32).

    Args:
        seed: int64 scalar; its low and high halves are the key.
    """
    counters = torch.arange(first // 4, (first + count + 3) // 4, device=seed.device)
    return blocks(seed, counters).flatten()[first % 4 :][:count]


def uniform(seed: Tensor, count: int, first: int = 0) -> Tensor:
    """Uniform float32 numbers in [0, 1), multiples of 2^-24."""
    return (bits(seed, count, first) >> 8).to(torch.float32) * 2.0**-24
