"""Philox 4x32-10: the published vectors, and the same numbers from PyTorch as from the definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pooling import philox, reference

# From kat_vectors of Random123 (Salmon et al. 2011): counter, key, result.
PUBLISHED = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]

seeds = st.integers(-(2**63), 2**63 - 1)


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize("counter, key, result", PUBLISHED)
def test_the_definition_gives_the_published_vectors(counter: str, key: str, result: str) -> None:
    assert reference.philox(words(counter), words(key)) == words(result)


def test_seed_0_starts_with_the_published_vector_of_zeros() -> None:
    assert tuple(philox.bits(torch.tensor(0), 4).tolist()) == words(PUBLISHED[0][2])


@given(seed=seeds, block=st.integers(0, 2**40), lane=st.integers(0, 3))
def test_bits_are_lanes_of_the_block_at_counter_index_over_4(seed: int, block: int, lane: int) -> None:
    key = seed % 2**32, (seed >> 32) % 2**32
    blocks = [reference.philox(((block + i) % 2**32, (block + i) >> 32, 0, 0), key) for i in range(3)]
    expected = [number for four in blocks for number in four][lane:][:7]
    assert philox.bits(torch.tensor(seed), 7, 4 * block + lane).tolist() == expected


@given(seed=seeds, first=st.integers(0, 2**36), count=st.integers(0, 9))
def test_uniform_is_the_definition_s(seed: int, first: int, count: int) -> None:
    ours = philox.uniform(torch.tensor(seed), count, first)
    assert ours.dtype == torch.float32
    assert ours.tolist() == reference.uniform(seed, count, first).tolist()


@given(seed=seeds, first=st.integers(0, 9), sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_a_draw_in_parts_is_the_draw_in_one(seed: int, first: int, sizes: list[int]) -> None:
    whole = philox.bits(torch.tensor(seed), sum(sizes), first)
    parts = [philox.bits(torch.tensor(seed), n, first + sum(sizes[:i])) for i, n in enumerate(sizes)]
    assert torch.equal(torch.cat(parts), whole)


def test_uniform_fills_the_unit_interval_evenly() -> None:
    numbers = philox.uniform(torch.tensor(7), 64000)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert torch.equal(numbers * 2**24, (numbers * 2**24).round())
    assert chisquare(torch.histc(numbers, 64, 0, 1)).pvalue > 1e-4


def test_the_seed_is_an_int64_scalar_of_torch_s_generator() -> None:
    torch.manual_seed(3)
    first, second = (philox.draw_seed(torch.device("cpu")) for _ in range(2))
    assert first.dtype == torch.int64
    assert first.shape == ()
    assert first != second
    torch.manual_seed(3)
    assert torch.equal(philox.draw_seed(torch.device("cpu")), first)


@pytest.mark.gpu
def test_cuda_gives_the_same_bits() -> None:
    seed = torch.tensor(-(2**60) - 12345)
    assert torch.equal(philox.bits(seed.cuda(), 4099, 5).cpu(), philox.bits(seed, 4099, 5))


def test_blocks_may_come_in_any_order() -> None:
    seed, counters = torch.tensor(9), torch.tensor([[7, 0], [2**33, 7]])
    drawn = philox.blocks(seed, counters)
    assert drawn.shape == (2, 2, 4)
    for counter, block in zip(counters.flatten().tolist(), drawn.view(-1, 4), strict=True):
        assert torch.equal(block, philox.bits(seed, 4, 4 * counter))
