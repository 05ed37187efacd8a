"""Any folder of images: class folders for classification, `images/` and `masks/` for segmentation."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from datamodules.dataset import UNLABELLED, Dataset, Split, stratified
from datamodules.registry import register
from pooling.options import Range

log = logging.getLogger(__name__)

LAYOUT = (
    "expected ROOT/train/CLASS/*.png with ROOT/test/CLASS (or val), or ROOT/CLASS/*.png, "
    "or ROOT/images/*.png with ROOT/masks/*.png of the same names"
)
VALIDATION_SHARE = TEST_SHARE = 0.15  # of a folder that is not split yet


@dataclass(frozen=True)
class Part:
    """Files of one part of the data set, each with its class number, or with its mask."""

    images: Sequence[Path]
    labels: Sequence[int] | None = None
    masks: Sequence[Path] | None = None

    def take(self, indices: Sequence[int]) -> "Part":
        parts = (self.images, self.labels, self.masks)
        return Part(*(None if part is None else [part[i] for i in indices] for part in parts))  # pyright: ignore


@register("image_folder", batch_size=32, random_flip=True)
def image_folder(
    *,
    root: str,
    size: Annotated[int, Range(least=8, most=4096)] = 224,
    memory_gb: Annotated[float, Range(least=0)] = 4.0,
    num_workers: Annotated[int, Range(least=1)] | None = None,
) -> Dataset:
    """Your own pictures: folders of classes, or `images/` and `masks/` for segmentation.

    Layouts: `root/train/CLASS/*` with `root/test/CLASS/*`, and `root/val/CLASS/*` for validation (without `test`,
    `val` is the test split, as with ImageNet); or `root/CLASS/*`, cut 70/15/15 by class, always alike; or
    `root/images/*` with `root/masks/*` of the same stems, whose pixels (or palette indices) are class numbers, 255 for
    none, cut 70/15/15, too.
    Sizes, formats and colour modes may be mixed; files that cannot be read are named in a warning and left out.

    Args:
        root: the folder.
        size: side of the square images: the shorter side is resized to it, the centre cut out.
        memory_gb: sets that need more than this stay in their files and are decoded batch by batch.
        num_workers: threads that decode; null: one per core.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"image_folder: there is no folder {root}; {LAYOUT}")
    if (folder / "images").is_dir() and (folder / "masks").is_dir():
        parts, classes = _cut(_pairs(folder), folder), None
    elif (folder / "train").is_dir():
        classes = _class_names(folder / "train")
        names = ["train", *(name for name in ("val", "test") if (folder / name).is_dir())]
        if len(names) == 1:
            raise FileNotFoundError(f"image_folder: {folder} has train/, but neither test/ nor val/; {LAYOUT}")
        parts = [_labelled(folder / name, classes) for name in names]
    else:
        classes = _class_names(folder)
        parts = _cut(_labelled(folder, classes), folder)

    train, *between, test = _read(parts, folder, size, memory_gb, num_workers)
    validation = between[0] if between else None
    if classes is not None:
        return Dataset(train, test, classes, validation, task="classification")
    highest = max(int(torch.where(s.targets == UNLABELLED, 0, s.targets).max()) for s in (train, *between, test))
    if highest == 0:
        raise ValueError(
            f"image_folder: the masks in {folder / 'masks'} hold no class but 0 (and {UNLABELLED}, which means "
            "unlabelled); a mask's pixels are class indices: write the object as 1"
        )
    return Dataset(train, test, tuple(str(i) for i in range(highest + 1)), validation, task="segmentation")


def _cut(whole: Part, folder: Path) -> list[Part]:
    """Training, validation and test files of a folder that is not split: a function of the list of files alone."""
    N = len(whole.images)
    if N < 3:
        raise ValueError(f"image_folder: {folder} has {N} image files, too few for training, validation and test")
    test, validation = (max(1, round(N * share)) for share in (TEST_SHARE, VALIDATION_SHARE))
    labels = torch.zeros(N) if whole.labels is None else torch.tensor(whole.labels)
    parts = stratified(labels, (N - validation - test, validation, test))
    return [whole.take(part.tolist()) for part in parts]


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"image_folder: {folder} has no class folders; {LAYOUT}")
    return tuple(names)


def _files(folder: Path) -> list[Path]:
    from datamodules.decode import SUFFIXES

    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))


def _labelled(folder: Path, classes: Sequence[str]) -> Part:
    if strange := [name for name in _class_names(folder) if name not in classes]:
        raise ValueError(f"image_folder: {folder} has class folders that train/ has not: {', '.join(strange)}")
    files = [(path, label) for label, name in enumerate(classes) for path in _files(folder / name)]
    if not files:
        raise FileNotFoundError(f"image_folder: the class folders of {folder} hold no images; {LAYOUT}")
    return Part([path for path, _ in files], labels=[label for _, label in files])


def _pairs(folder: Path) -> Part:
    images, masks = (_by_name(folder / part) for part in ("images", "masks"))
    both = [name for name in images if name in masks]
    if not both:
        raise FileNotFoundError(f"image_folder: no file in {folder / 'images'} has a mask of the same name; {LAYOUT}")
    for part, files, others in (("images", images, masks), ("masks", masks, images)):
        if alone := [name for name in files if name not in others]:
            first = ", ".join(alone[:3])
            log.warning("image_folder: %d %s have no partner and are left out (%s ...)", len(alone), part, first)
    return Part([images[name] for name in both], masks=[masks[name] for name in both])


def _by_name(folder: Path) -> dict[str, Path]:
    """The files below a folder by their path in it, without the suffix."""
    named: dict[str, Path] = {}
    for path in _files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in named:
            raise ValueError(f"image_folder: {named[name]} and {path} have the same name; keep one of them")
        named[name] = path
    return named


def _read(parts: list[Part], folder: Path, size: int, memory_gb: float, num_workers: int | None) -> list[Split]:
    """Decode all parts, into memory if they fit together; broken files are left out, with one warning for all parts."""
    from datamodules.decode import available_cores, warn_broken

    files = [path for part in parts for path in part.images]
    lazy = len(files) * 3 * size**2 > memory_gb * 2**30
    splits, broken = [], {}
    for part in parts:
        split, reasons = _read_part(part, size, lazy, num_workers or available_cores())
        splits.append(split)
        broken |= reasons
    warn_broken(broken, len(files), "are left out")
    for part, split in zip(parts, splits, strict=True):
        if not len(split):
            path, reason = next(iter(broken.items()))
            which = f"none of the {len(files)}" if len(broken) == len(files) else f"none of {len(part.images)}"
            raise ValueError(f"image_folder: {which} image files in {folder} can be read, first {path} ({reason})")
    return splits


def _read_part(part: Part, size: int, lazy: bool, threads: int) -> tuple[Split, dict[Path, str]]:
    from datamodules.decode import LazyImages, attempt, check_header, read_image, read_mask

    N = len(part.images)
    pixels = np.zeros((0 if lazy else N, 3, size, size), dtype=np.uint8)
    masks = np.zeros((N if part.masks else 0, size, size), dtype=np.uint8)

    def read(i: int) -> None:
        if lazy:
            check_header(part.images[i])
        else:
            pixels[i] = read_image(part.images[i], size)
        if part.masks:
            masks[i] = read_mask(part.masks[i], size)

    reasons = attempt(read, N, threads)
    kept = [i for i in range(N) if i not in reasons]
    images, targets = torch.from_numpy(pixels), torch.from_numpy(masks) if part.masks else torch.tensor(part.labels)
    if reasons:  # indexing copies, which a large set should not pay for nothing
        targets = targets[kept]
        images = images if lazy else images[kept]
    if lazy:
        images = LazyImages([part.images[i] for i in kept], size, threads)
    split = Split(images, targets, masks=targets if part.masks else None)
    return split, {part.images[i]: reason for i, reason in reasons.items()}
