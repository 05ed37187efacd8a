"""Folders as people have them: mixed sizes and modes, broken files, none at all."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

import datamodules
from datamodules.decode import LazyImages, read_image, read_mask

COLOURS = {"red": (200, 10, 20), "blue": (30, 40, 220)}


def save(path, colour, size=(20, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


@pytest.fixture
def classes(tmp_path):
    """Ten red and ten blue pictures of different sizes, in class folders."""
    for name, colour in COLOURS.items():
        for i in range(10):
            save(tmp_path / name / f"{i}.png", colour, (20 + i, 30 - i))
    return tmp_path


@pytest.fixture
def masked(tmp_path):
    """Eight grey pictures with palette masks: class 1 in the left half, 2 in the right, unlabelled on top."""
    for i in range(8):
        save(tmp_path / "images" / f"{i}.png", (10 * i,) * 3, (40, 32))
        mask = np.full((32, 40), 1, dtype=np.uint8)
        mask[:, 20:] = 2
        mask[:4] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        picture = Image.fromarray(mask)
        picture.putpalette(list(range(256)) * 3)
        picture.save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def load(root, **options):
    return datamodules.load("image_folder", root=str(root), **{"size": 16} | options)


def test_class_folders_are_cut_70_15_15_by_class(classes):
    dataset = load(classes)
    assert dataset.class_names == ("blue", "red")
    assert dataset.validation is not None
    parts = dataset.train, dataset.validation, dataset.test
    assert [len(part) for part in parts] == [14, 3, 3]
    for part in parts:
        assert part.targets.bincount().tolist() == pytest.approx([len(part) / 2] * 2, abs=0.5)
        for image, label in zip(part.images, part.targets, strict=True):
            assert image[:, 8, 8].tolist() == list(COLOURS[dataset.class_names[label]])
    assert all(torch.equal(a.images, b.images) for a, b in zip(parts, split_parts(load(classes)), strict=True))


def split_parts(dataset):
    return dataset.train, dataset.validation, dataset.test


@pytest.mark.parametrize(("extra", "sizes"), [(["test"], (None, 4)), (["val"], (None, 4)), (["val", "test"], (4, 4))])
def test_folders_that_are_split_already_stay_so(tmp_path, extra, sizes):
    for part, count in {"train": 6, **dict.fromkeys(extra, 2)}.items():
        for name, colour in COLOURS.items():
            for i in range(count):
                save(tmp_path / part / name / f"{i}.jpg", colour)
    dataset = load(tmp_path)
    assert len(dataset.train) == 12
    assert (dataset.validation and len(dataset.validation), len(dataset.test)) == sizes
    module = datamodules.create("image_folder", root=str(tmp_path), size=16)
    assert module.sizes["val"] == (4 if "val" in extra and "test" in extra else 1)


def test_masks_are_classes_and_stay_aligned(masked):
    dataset = load(masked)
    assert (dataset.task, len(dataset.class_names)) == ("segmentation", 3)
    assert [len(part) for part in split_parts(dataset)] == [6, 1, 1]
    mask = dataset.train.targets[0]
    assert (mask.dtype, tuple(mask.shape)) == (torch.uint8, (16, 16))
    # 40x32 becomes 20x16, of which the middle 16 columns stay: the border between the halves is in the middle.
    assert mask[0].eq(255).all()
    assert mask[4:, :8].eq(1).all()
    assert mask[4:, 8:].eq(2).all()


def test_masks_in_colour_are_broken_ones(masked, caplog):
    save(masked / "masks/3.png", (255, 0, 0), (40, 32))
    assert sum(len(part) for part in split_parts(load(masked))) == 7
    assert "a mask's pixels must be class numbers (modes 1, L, P), not RGB" in caplog.text


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I", "F", "I;16"])
def test_every_mode_becomes_rgb_of_eight_bits(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode in ("CMYK", "F", "I") else "x.png")
    if mode == "I;16":
        Image.fromarray(np.full((20, 20), 200 * 257, dtype=np.uint16)).save(path)
    else:
        save(path, (200,) * 3 if mode != "1" else (255,) * 3, mode=mode)
    pixels = read_image(path, 8)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (3, 8, 8))
    assert abs(int(pixels[0, 4, 4]) - (255 if mode == "1" else 200)) <= 1
    assert (pixels[0] == pixels[2]).all() or mode == "P"


def test_the_shorter_side_is_resized_and_the_centre_cut_out(tmp_path):
    columns = np.tile(np.arange(200, dtype=np.uint8)[None], (100, 1))
    Image.fromarray(columns).save(tmp_path / "wide.png")
    pixels = read_image(tmp_path / "wide.png", 50)[0].astype(float)
    # 100x200 becomes 50x100, of which columns 25..74 stay; column c shows 2c and 2c + 1.
    assert np.abs(pixels[10, 1:-1] - (2 * np.arange(26, 74) + 0.5)).max() <= 1
    Image.fromarray(columns % 7).save(tmp_path / "mask.png")
    assert set(read_mask(tmp_path / "mask.png", 50).flat) <= set(range(7))


def test_broken_files_are_counted_named_and_left_out(classes, caplog):
    (classes / "red/0.png").write_bytes(b"")
    (classes / "red/1.png").write_bytes((classes / "red/2.png").read_bytes()[:60])
    (classes / "blue/notes.txt").write_text("not an image, and not meant to be one")
    with caplog.at_level(logging.WARNING):
        dataset = load(classes)
    assert sum(len(part) for part in split_parts(dataset)) == 18
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "2 of 20 image files cannot be read and are left out" in message
    assert str(classes / "red/0.png") in message
    assert str(classes / "red/1.png") in message


def test_of_many_broken_files_a_few_are_named(classes, caplog):
    for i in range(8):
        (classes / f"blue/bad{i}.png").write_bytes(b"\x89PNG")
    load(classes)
    assert "8 of 28 image files" in caplog.text
    assert "; and 3 more" in caplog.text


def empty(root): ...


def class_folders_without_images(root):
    (root / "a").mkdir()


def training_without_test(root):
    save(root / "train/a/0.png", (0, 0, 0))


def masks_of_other_names(root):
    save(root / "images/a.png", (0, 0, 0))
    save(root / "masks/b.png", (0, 0, 0), mode="L")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, "has no class folders"),
        (class_folders_without_images, "hold no images"),
        (training_without_test, "has train/, but neither test/ nor val/"),
        (masks_of_other_names, "has a mask of the same name"),
    ],
)
def test_a_folder_without_images_says_what_layout_is_expected(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(FileNotFoundError, match=message) as caught:
        load(tmp_path)
    assert "expected ROOT/train/CLASS/*.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; expected ROOT/train/CLASS"):
        load(tmp_path / "nowhere")


def test_a_folder_of_broken_files_only_is_an_error(tmp_path):
    for i in range(5):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / f"a/{i}.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"none of the 5 image files in .* can be read, first .*a/\d.png"):
        load(tmp_path)


def test_too_few_images_are_an_error(tmp_path):
    save(tmp_path / "a/0.png", (0, 0, 0))
    with pytest.raises(ValueError, match="has 1 image files, too few"):
        load(tmp_path)


def test_a_class_that_only_the_test_folder_has_is_an_error(tmp_path):
    for place in ("train/a", "test/a", "test/b"):
        save(tmp_path / place / "0.png", (0, 0, 0))
    with pytest.raises(ValueError, match="class folders that train/ has not: b"):
        load(tmp_path)


def test_what_does_not_fit_in_memory_is_decoded_batch_by_batch(classes):
    (classes / "red/0.png").write_bytes(b"broken from the start")
    whole, lazy = load(classes), load(classes, memory_gb=0, num_workers=2)
    assert isinstance(lazy.train.images, LazyImages)
    assert (whole.mean, whole.std) == (lazy.mean, lazy.std)
    for a, b in zip(split_parts(whole), split_parts(lazy), strict=True):
        assert a.images.shape == b.images.shape
        assert torch.equal(a.targets, b.targets)
        assert torch.equal(a.images, b.images[torch.arange(len(b))])


def test_lazy_batches_equal_those_in_memory(classes):
    options = {"root": str(classes), "size": 16, "batch_size": 4}
    modules = [datamodules.create("image_folder", **options, memory_gb=m) for m in (4, 0)]
    for a, b in zip(*(m.train_dataloader() for m in modules), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    whole, lazy = (module.split("test") for module in modules)
    assert isinstance(lazy.images, LazyImages)
    assert torch.equal(lazy.images[torch.arange(len(lazy))], whole.images)
    assert torch.equal(lazy.targets, whole.targets)


def test_a_file_that_breaks_later_is_logged_and_black(classes, caplog):
    lazy = load(classes, memory_gb=0).train.images
    assert isinstance(lazy, LazyImages)
    caplog.clear()
    lazy.paths[1].write_bytes(b"broken since")
    batch = lazy[torch.tensor([0, 1])]
    assert batch[0].any()
    assert not batch[1].any()
    assert str(lazy.paths[1]) in caplog.text
