from itertools import product

import pytest
import torch
from scipy import stats
from torch import Tensor

from datamodules.transforms import translate
from evaluation.protocols import Batch, Circular, Crop, Grid, Zero, offsets
from evaluation.shift import evaluate_shift
from tests.evaluation.networks import batches, columns_bright, one_pixel

# Offsets


@pytest.mark.parametrize("count", [2, 7, 8, 65])
def test_offsets_are_uniform_and_independent(count):
    N = 200_000
    drawn = offsets(0, 5, torch.arange(N), 0, count)
    again = offsets(0, 5, torch.arange(N), 1, count)
    other = offsets(1, 5, torch.arange(N), 0, count)
    assert drawn.shape == (4, N)
    assert drawn.min() == 0
    assert drawn.max() == count - 1
    for values in drawn:
        assert stats.chisquare(torch.bincount(values, minlength=count)).pvalue > 1e-4
    if count < 10:
        neighbours = drawn[0].roll(1)
        for first, second in ((drawn[0], drawn[1]), (drawn[0], drawn[2]), (drawn[1], drawn[3]), (drawn[0], neighbours),
                              (drawn[0], again[0]), (drawn[0], other[0])):  # fmt: skip
            pairs = torch.bincount(first * count + second, minlength=count**2)
            assert stats.chisquare(pairs).pvalue > 1e-4


def test_offsets_are_a_function_of_seed_index_and_repeat():
    all_of_them = offsets(1, 3, torch.arange(1000), 2, 7)
    some = torch.tensor([999, 4, 17, 4])
    assert torch.equal(offsets(1, 3, some, 2, 7), all_of_them[:, some])
    for stream, seed, repeat in ((0, 3, 2), (1, 4, 2), (1, 3, 1), (1, -3, 2)):
        assert not torch.equal(offsets(stream, seed, torch.arange(1000), repeat, 7), all_of_them)


def test_negative_indices_are_refused():
    with pytest.raises(ValueError, match=">= 0"):
        offsets(0, 0, torch.tensor([3, -1]), 0, 7)


# Views


def test_crops_show_every_place_of_the_padded_image():
    N, side = 3000, 8
    images = (torch.arange(side * side) % 251).to(torch.uint8).view(1, 1, side, side).expand(N, -1, -1, -1)
    batch = Batch(images, torch.zeros(N), torch.arange(N), torch.zeros(N, 2))
    first, second = Crop(m=4).views(batch, 0, 0)
    assert first.shape == second.shape == images.shape
    padded = torch.nn.functional.pad(images[:1].float(), (2, 2, 2, 2), mode="replicate")[0, 0].to(torch.uint8)
    places = {bytes(padded[y : y + side, x : x + side].flatten()) for y, x in product(range(4), range(4))}
    for view in (first, second):
        assert {bytes(image.flatten()) for image in view} == places


def test_crop_of_a_side_that_four_does_not_divide_stays_in_the_image():
    images = torch.randint(256, (500, 1, 7, 30), dtype=torch.uint8)
    for m in (None, 1, 3, 5):
        batch = Batch(images, torch.zeros(500), torch.arange(500), torch.zeros(500, 2))
        assert Crop(m=m).views(batch, 0, 0)[0].shape == images.shape


def test_rolls_reach_both_ends():
    images = columns_bright(3000, 9, [4])
    batch = Batch(images, torch.zeros(3000), torch.arange(3000), torch.zeros(3000, 2))
    for view in Circular(m=3).views(batch, 0, 0):
        assert set(view[:, 0, 0].argmax(1).tolist()) == set(range(1, 8))


def test_translates_enter_with_zeros():
    images = torch.full((100, 3, 6, 6), 200, dtype=torch.uint8)
    batch = Batch(images, torch.zeros(100), torch.arange(100), torch.zeros(100, 2))
    first, second = Zero(m=2).views(batch, 0, 0)
    assert torch.equal(first, images)
    dy, dx = batch.draw(Zero(), 0, 0, 5)[:2] - 2
    kept = (6 - dy.abs()) * (6 - dx.abs())
    assert torch.equal((second == 200).sum((1, 2, 3)), 3 * kept)
    assert second.dtype == torch.uint8


def test_the_grids_views_are_the_translates():
    images = torch.randint(256, (5, 2, 9, 6), dtype=torch.uint8)
    views: list[Tensor] = []

    def predict(x: Tensor) -> Tensor:
        views.append(x.clone())
        return one_pixel(x)

    evaluate_shift(predict, batches(images, torch.zeros(5).long()), [Grid(m=2)])
    moves = [torch.tensor(move)[:, None].expand(2, 5) for move in product(range(2, -3, -1), repeat=2)]
    assert len(views) == 1 + len(moves)
    for view, (dy, dx) in zip(views[1:], moves, strict=True):
        assert torch.equal(view, translate(images, dy, dx))
