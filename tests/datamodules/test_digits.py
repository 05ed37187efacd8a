"""The embedded digits and the scenes made of them."""

import time
from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits

import datamodules
from datamodules.dataset import channel_statistics
from datamodules.digits import digit_splits


def fingerprints(images):
    return {image.numpy().tobytes() for image in images}


@pytest.fixture(scope="module")
def digits():
    return datamodules.load("digits")


@pytest.fixture(scope="module", params=[False, True], ids=["many", "main"])
def scenes(request):
    return datamodules.load("digit_scenes", scenes=200, main=request.param, digits_per_scene=4)


def test_digits_are_all_there_once(digits):
    assert (len(digits.train), len(digits.test)) == (1257, 540)
    classes = torch.cat((digits.train.targets, digits.test.targets)).bincount()
    assert classes.tolist() == torch.tensor(load_digits()["target"]).bincount().tolist()
    assert digits.train.images.shape == (1257, 1, 32, 32)


def test_digits_classes_are_in_proportion(digits):
    shares = digits.test.targets.bincount() / (digits.train.targets.bincount() + digits.test.targets.bincount())
    assert (shares - 540 / 1797).abs().max() < 0.01


def test_no_digit_is_on_both_sides(digits):
    values, labels = load_digits(return_X_y=True)
    assert len({v.tobytes() for v in values}) == len(labels)
    assert not fingerprints(digits.train.images) & fingerprints(digits.test.images)


def test_digits_split_is_the_one_that_earlier_figures_used(digits):
    # The split is part of the results: another one would make figures incomparable.
    assert digits.test.targets[:20].tolist() == [1, 2, 4, 5, 6, 9, 4, 7, 8, 9, 2, 7, 9, 6, 9, 9, 1, 3, 1, 0]


def test_a_digit_has_a_margin_and_keeps_its_ink(digits):
    inner = digits.train.images[:, :, 4:-4, 4:-4]
    assert int(digits.train.images.long().sum()) == int(inner.long().sum()) > 0
    values = load_digits()["data"]
    ink = torch.cat((digits.train.images, digits.test.images)).double().mean() * 32**2 / 24**2 / 255 * 16
    assert abs(ink - values.mean()) < 0.1


def test_stated_mean_and_std_are_those_of_the_training_images(digits):
    mean, std = channel_statistics(digits.train.images)
    values = digits.train.images.double() / 255
    assert mean == pytest.approx((float(values.mean()),))
    assert std == pytest.approx((float(values.std(correction=0)),))
    assert digits.mean == pytest.approx(mean, abs=6e-5)
    assert digits.std == pytest.approx(std, abs=6e-5)


def test_boxes_hold_their_masks_exactly(scenes):
    for split in (scenes.train, scenes.test):
        covered = torch.zeros_like(split.masks)
        for n in range(len(split)):
            for box, label in zip(split.boxes[n], split.box_classes[n], strict=True):
                left, top, right, bottom = box.tolist()
                cut = split.masks[n, top:bottom, left:right] == 1 + label
                # No row or column at the box's edge is free of the digit ...
                assert all(edge.any() for edge in (cut[0], cut[-1], cut[:, 0], cut[:, -1]))
                covered[n, top:bottom, left:right] += cut
        # ... and no inked pixel is outside of its box, or in two.
        assert torch.equal(covered > 0, split.masks > 0)
        assert covered.max() == 1


def test_masks_name_the_classes_that_are_there(scenes):
    for n, mask in enumerate(scenes.train.masks):
        assert set(mask.unique().tolist()) == {0, *(1 + scenes.train.box_classes[n]).tolist()}


def test_digits_are_brighter_than_what_lies_below(scenes):
    inked = scenes.train.masks > 0
    images = scenes.train.images[:, 0].float()
    assert images[inked].mean() > 2.5 * images[~inked].mean()


def test_scenes_are_always_the_same_and_training_differs_from_test():
    once, again = (datamodules.load("digit_scenes", scenes=40) for _ in range(2))
    assert torch.equal(once.train.images, again.train.images)
    assert torch.equal(once.test.masks, again.test.masks)
    assert not torch.equal(once.train.images[:10], once.test.images)


def test_test_scenes_hold_test_digits_only(monkeypatch):
    """With all-black digits for training, training scenes hold no ink, and test scenes are what they were."""
    from datamodules import digit_scenes

    before = datamodules.load("digit_scenes", scenes=40)
    train, test = digit_splits()
    monkeypatch.setattr(digit_scenes, "digit_splits", lambda: (replace(train, images=train.images * 0), test))
    after = datamodules.load("digit_scenes", scenes=40)
    assert not after.train.masks.any()
    assert torch.equal(before.test.images, after.test.images)


def test_the_main_digit_is_the_largest_and_alone_in_its_class():
    dataset = datamodules.load("digit_scenes", task="classification", scenes=100)
    split = dataset.train
    assert (dataset.task, len(dataset.class_names)) == ("classification", 10)
    assert torch.equal(split.targets, split.box_classes[:, 0])
    assert (split.box_classes[:, 1:] != split.targets[:, None]).all()
    heights = split.boxes[..., 3] - split.boxes[..., 1]
    assert (heights[:, 0] > heights[:, 1:].max(1).values).all()
    left, top = split.boxes[:, 0, :2].unbind(1)
    main = split.masks == 1 + split.targets[:, None, None]
    assert torch.equal(main.any(1).to(torch.uint8).argmax(1), left)
    assert torch.equal(main.any(2).to(torch.uint8).argmax(1), top)


def test_as_many_digits_as_allowed_find_room():
    dataset = datamodules.load("digit_scenes", scenes=500, digits_per_scene=6, main=True)
    boxes = dataset.train.boxes
    assert (boxes[..., 3] - boxes[..., 1]).min() >= 7  # rows of ink


def test_default_scenes_are_made_quickly():
    start = time.perf_counter()
    datamodules.load("digit_scenes")
    assert time.perf_counter() - start < 10  # 0.8 s on two free cores; this allows for busy ones
