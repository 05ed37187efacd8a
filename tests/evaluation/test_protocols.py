from itertools import product

import pytest
import torch
from scipy import stats
from torch import Tensor

from datamodules.transforms import roll, translate
from evaluation import moves
from evaluation.protocols import PROTOCOLS, Circular, Crop, Grid, Rotation, Scale, Subpixel, Zero
from evaluation.shift import evaluate_shift
from evaluation.views import Batch, offsets
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


def test_smaller_crops_come_from_inside_the_image():
    """Zhang 2019, section 4.2: crops of 224 out of 256 pixels, offsets below 32; here 8 out of 11."""
    N, side = 3000, 11
    images = (torch.arange(side * side) % 251).to(torch.uint8).view(1, 1, side, side).expand(N, -1, -1, -1)
    batch = Batch(images, torch.zeros(N), torch.arange(N), torch.zeros(N, 2))
    protocol = Crop(size=8)
    assert protocol.parameters(side, side) == {
        "name": "crop", "m": 3, "size": 8, "repeats": 5, "fill": "border", "padding": 0,
    }  # fmt: skip
    places = {bytes(images[0, 0, y : y + 8, x : x + 8].flatten()) for y, x in product(range(3), range(3))}
    for view in protocol.views(batch, 0, 0):
        assert {bytes(image.flatten()) for image in view} == places
    Crop(size=8, m=2).check(side, side)
    for wrong in (Crop(size=8, m=4), Crop(size=11), Crop(size=12)):
        with pytest.raises(ValueError, match="of 11x11 images"):
            wrong.check(side, side)


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
    second = Zero(m=2).move(batch, 0, 0)
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
    moves = [torch.tensor(move)[:, None].expand(2, 5) for move in product(range(-2, 3), repeat=2)]
    assert len(views) == 1 + len(moves)
    for view, (dy, dx) in zip(views[1:], moves, strict=True):
        assert torch.equal(view, translate(images, dy, dx))


# Moves by fractions


@pytest.mark.parametrize("H, W", [(8, 8), (7, 9), (6, 5)])
def test_a_fourier_shift_by_whole_pixels_is_a_roll(H, W):
    images = torch.rand(20, 2, H, W, dtype=torch.float64)
    dy, dx = torch.randint(-9, 10, (2, 20))
    torch.testing.assert_close(moves.fourier_shift(images, dy, dx), roll(images, dy, dx))


def test_a_fourier_shift_moves_a_wave_by_any_amount():
    y, x = torch.arange(12.0)[:, None], torch.arange(10.0)

    def wave(dy: float, dx: float) -> Tensor:
        return torch.sin(2 * torch.pi * (2 * (y - dy) / 12 + 3 * (x - dx) / 10))[None, None]

    torch.testing.assert_close(
        moves.fourier_shift(wave(0, 0), torch.tensor([0.3]), torch.tensor([-1.7])), wave(0.3, -1.7)
    )


def test_two_half_pixels_are_one_where_the_side_is_odd():
    images = torch.rand(3, 1, 9, 7, dtype=torch.float64)
    half = torch.full((3,), 0.5, dtype=torch.float64)
    twice = moves.fourier_shift(moves.fourier_shift(images, half, -half), half, -half)
    torch.testing.assert_close(twice, roll(images, torch.ones(3).long(), -torch.ones(3).long()))


def test_the_fourier_derivative_is_the_limit_of_small_shifts():
    images, t, zero = torch.rand(4, 1, 8, 9, dtype=torch.float64), torch.full((4,), 1e-5), torch.zeros(4)
    for axis, (dy, dx) in ((-2, (t, zero)), (-1, (zero, t))):
        difference = (moves.fourier_shift(images, dy, dx) - moves.fourier_shift(images, -dy, -dx)) / 2e-5
        torch.testing.assert_close(moves.fourier_derivative(images, axis), difference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("H, W", [(9, 9), (8, 8)])
def test_a_quarter_turn_is_exact_and_counter_clockwise(H, W):
    images = torch.rand(3, 2, H, W, dtype=torch.float64)
    torch.testing.assert_close(
        moves.turn(images, torch.full((3,), 90.0, dtype=torch.float64)), torch.rot90(images, 1, (-2, -1))
    )


def test_a_turn_of_an_oblong_image_keeps_shapes():
    images = torch.zeros(1, 1, 21, 41)
    images[..., 10, 15:26] = 1  # a bar of 11 pixels across the middle stands upright after a quarter turn
    turned = moves.turn(images, torch.tensor([90.0]))
    expected = torch.zeros_like(images)
    expected[..., 5:16, 20] = 1
    torch.testing.assert_close(turned, expected, atol=1e-4, rtol=0)


def test_a_zoom_by_two_doubles_the_middle():
    images = torch.zeros(1, 1, 16, 16)
    images[..., 6:10, 6:10] = 1
    larger = moves.zoom(images, torch.tensor([2.0]))
    assert (larger[0, 0, 5:11, 5:11] == 1).all()
    assert larger.sum().item() == pytest.approx(4 * 16, rel=0.02)
    torch.testing.assert_close(moves.zoom(images, torch.ones(1)), images)


@pytest.mark.parametrize("protocol", [Subpixel(m=2), Rotation(degrees=30), Scale(percent=50)])
def test_real_moves_are_seeded_by_image(protocol):
    images = torch.randint(256, (40, 1, 12, 12), dtype=torch.uint8)
    whole = Batch(images, torch.zeros(40), torch.arange(40), torch.zeros(40, 2))
    some = torch.tensor([31, 2, 17])
    part = Batch(images[some], torch.zeros(3), some, torch.zeros(3, 2))
    torch.testing.assert_close(protocol.move(part, 4, 1), protocol.move(whole, 4, 1)[some])
    assert not torch.equal(protocol.move(whole, 4, 1), protocol.move(whole, 4, 0))
    assert not torch.equal(protocol.move(whole, 4, 1), protocol.move(whole, 5, 1))


def test_real_offsets_are_uniform():
    batch = Batch(torch.zeros(20_000, 1, 1, 1), torch.zeros(20_000), torch.arange(20_000), torch.zeros(20_000, 2))
    for values in batch.draw_real(Subpixel(), 0, 0):
        assert stats.kstest((values.double().numpy() + 1) / 2, "uniform").pvalue > 1e-4


def test_no_two_protocols_share_random_numbers():
    streams = [cls.stream for cls in PROTOCOLS.values() if cls.stream is not None]
    assert len(set(streams)) == len(streams)
