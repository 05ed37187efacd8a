"""Random numbers as a pure function of a seed and an index: Philox 4x32-10."""

import numpy as np

from pooling.reference.windows import Array


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox 4x32-10: four 32-bit numbers from a 128-bit counter and a 64-bit key (Salmon et al. 2011, section 4.2).

    >>> [f"{word:08x}" for word in philox((0, 0, 0, 0), (0, 0))]  # a published vector
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 1 << 32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % (1 << 32), (k1 + 0xBB67AE85) % (1 << 32)
    return c0, c1, c2, c3


def uniform(seed: int, count: int, first: int = 0) -> Array:
    """Uniform numbers in [0, 1), multiples of 2^-24: number i is lane i % 4 of the block at counter i // 4.

    >>> uniform(0, 3) * 2**24
    array([ 6694888., 14772677., 12343212.])
    """
    key = (seed % (1 << 32), (seed >> 32) % (1 << 32))
    numbers = []
    for i in range(first, first + count):
        block = i // 4
        numbers.append(philox((block % (1 << 32), block >> 32, 0, 0), key)[i % 4] >> 8)
    return np.array(numbers, dtype=np.float64) * 2.0**-24
