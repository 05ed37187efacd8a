"""Each transform equals a plain NumPy loop over images and pixels, in every dtype and memory format."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.augment import augment
from datamodules.transforms import crop, flip, normalise, pad_border, roll, translate

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@st.composite
def batches(draw):
    """Images of random shape, dtype and memory format, or masks, and a generator for offsets."""
    N, C, H, W = (draw(st.integers(1, most)) for most in (4, 3, 7, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = torch.from_numpy(rng.integers(0, 256, (N, C, H, W)))
    images = values.to(draw(st.sampled_from([torch.uint8, torch.int64, torch.float32])))
    kind = draw(st.sampled_from([*FORMATS, "masks"]))
    return (images[:, 0] if kind == "masks" else images.contiguous(memory_format=FORMATS[kind])), rng


def offsets(rng, N, least, most):
    """Two offsets per image, both ends included."""
    return (torch.from_numpy(rng.integers(least, most + 1, N)) for _ in range(2))


def by_pixel(images, shape, source, fill=0):
    """The loop that every move is checked against: `source(n, y, x)` is the pixel to copy, or None for `fill`."""
    old = images.numpy()
    new = np.full((*old.shape[:-2], *shape), fill, dtype=old.dtype)
    for n in range(len(old)):
        for y in range(shape[0]):
            for x in range(shape[1]):
                if (place := source(n, y, x)) is not None:
                    new[n, ..., y, x] = old[n, ..., place[0], place[1]]
    return torch.from_numpy(new)


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert torch.equal(actual, expected)


@given(batches(), st.data())
def test_crop(batch, data):
    images, rng = batch
    N, H, W = len(images), *images.shape[-2:]
    h, w = data.draw(st.integers(1, H)), data.draw(st.integers(1, W))
    top, left = (torch.from_numpy(rng.integers(0, most + 1, N)) for most in (H - h, W - w))
    expected = by_pixel(images, (h, w), lambda n, y, x: (y + int(top[n]), x + int(left[n])))
    assert_same(crop(images, top, left, (h, w)), expected)


@given(batches())
def test_roll(batch):
    images, rng = batch
    H, W = images.shape[-2:]
    dy, dx = offsets(rng, len(images), -12, 12)
    expected = by_pixel(images, (H, W), lambda n, y, x: ((y - int(dy[n])) % H, (x - int(dx[n])) % W))
    assert_same(roll(images, dy, dx), expected)


@given(batches(), st.integers(0, 255))
def test_translate(batch, fill):
    images, rng = batch
    H, W = images.shape[-2:]
    dy, dx = offsets(rng, len(images), -12, 12)

    def source(n, y, x):
        y, x = y - int(dy[n]), x - int(dx[n])
        return (y, x) if 0 <= y < H and 0 <= x < W else None

    assert_same(translate(images, dy, dx, fill), by_pixel(images, (H, W), source, fill))


@given(batches(), st.integers(0, 5))
def test_pad_border(batch, p):
    images, _ = batch
    H, W = images.shape[-2:]
    expected = by_pixel(
        images, (H + 2 * p, W + 2 * p), lambda n, y, x: (min(max(y - p, 0), H - 1), min(max(x - p, 0), W - 1))
    )
    assert_same(pad_border(images, p), expected)


@given(batches())
def test_flip(batch):
    images, rng = batch
    H, W = images.shape[-2:]
    mask = torch.from_numpy(rng.integers(0, 2, len(images)).astype(bool))
    assert_same(flip(images, mask), by_pixel(images, (H, W), lambda n, y, x: (y, W - 1 - x if mask[n] else x)))


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    "move",
    [
        lambda x, n: crop(x, n, n, 3),
        lambda x, n: roll(x, n, n),
        lambda x, n: translate(x, n, n),
        lambda x, n: pad_border(x, 2),
        lambda x, n: flip(x, n > 0),
        lambda x, n: normalise(x, (0.5,) * 3, (0.2,) * 3),
        lambda x, n: augment(x, key=(0,), random_crop=2, random_flip=True)[0],
    ],
    ids=["crop", "roll", "translate", "pad_border", "flip", "normalise", "augment"],
)
def test_memory_format_is_kept(move, fmt):
    images = torch.randint(0, 256, (2, 3, 6, 5), dtype=torch.uint8).contiguous(memory_format=fmt)
    assert move(images, torch.tensor([0, 1])).is_contiguous(memory_format=fmt)


def test_a_crop_beyond_the_image_fails():
    with pytest.raises(IndexError):
        crop(torch.zeros(1, 1, 4, 4), torch.tensor([2]), torch.tensor([0]), 3)


def test_normalised_training_images_have_mean_zero_and_deviation_one():
    images = torch.randint(0, 256, (50, 2, 8, 8), dtype=torch.uint8)
    values = images.double() / 255
    mean, std = values.mean((0, 2, 3)), values.std((0, 2, 3), correction=0)
    result = normalise(images, mean.tolist(), std.tolist())
    assert result.dtype == torch.float32
    assert result.mean((0, 2, 3)).abs().max() < 1e-5
    assert (result.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_normalise_takes_floats_in_0_1_as_the_same_image():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    facts = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    assert torch.equal(normalise(images, *facts), normalise(images.float() / 255, *facts))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(0, 3), st.booleans())
def test_augmentation_moves_a_mask_with_its_image(seed, random_crop, random_flip):
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    moved, masks = augment(images, images[:, 0], key=(seed,), random_crop=random_crop, random_flip=random_flip)
    assert masks is not None
    assert torch.equal(moved[:, 0], masks)


def test_augmentation_reaches_every_offset_and_both_sides():
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(4000, -1, -1, -1)
    moved, _ = augment(image, key=(1,), random_crop=1, random_flip=True)
    kinds, counts = torch.unique(moved.flatten(1), dim=0, return_counts=True)
    assert len(kinds) == 3 * 3 * 2
    assert counts.min() > 4000 / 18 / 1.5


def test_augmentation_off_leaves_images_alone():
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(augment(images, key=(0,))[0], images)


def test_augmentation_is_a_function_of_its_key():
    images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8)
    once, again, other = (augment(images, key=key, random_crop=2)[0] for key in ((1, 2), (1, 2), (2, 1)))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.gpu
def test_augmentation_is_the_same_on_every_device():
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    moved = [
        augment(images.to(device), images[:, 0].to(device), key=(4, 2), random_crop=2, random_flip=True)
        for device in ("cpu", "cuda")
    ]
    for here, there in zip(*moved, strict=True):
        assert there.is_cuda
        assert torch.equal(here, there.cpu())
