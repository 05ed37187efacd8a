"""What a data set is: tensors for training and testing, and their facts. N images of C channels, H by W pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

Task = Literal["classification", "segmentation", "detection"]

UNLABELLED = 255  # the mask value that stands for no class, as in PASCAL VOC: losses and metrics leave it out


class DataUnavailable(FileNotFoundError):
    """Files of a data set are not on this machine and could not be downloaded; the message says where to put them."""


class ImageSource(Protocol):
    """Images that are decoded when asked for: `source[indices]` gives a uint8 batch."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    def __getitem__(self, indices: Tensor, /) -> Tensor: ...

    def take(self, indices: Tensor, /) -> "ImageSource": ...


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Attributes:
        images: uint8 (N, C, H, W), in memory or decoded when asked for.
        targets: the classes, int64 (N,), or the masks, uint8 (N, H, W), `UNLABELLED` where a pixel has no class, or
            for detection each object's class, left, top, right and bottom, int64 (N, K, 5).
        masks: class masks, uint8 (N, H, W), where the set has them, whatever its task.
        boxes: int64 (N, K, 4), the objects' boxes as left, top, right, bottom; right and bottom are exclusive.
        box_classes: int64 (N, K).
    """

    images: Tensor | ImageSource
    targets: Tensor
    masks: Tensor | None = None
    boxes: Tensor | None = None
    box_classes: Tensor | None = None

    def __post_init__(self) -> None:
        N, _, H, W = self.images.shape
        if isinstance(self.images, Tensor) and self.images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 (N, C, H, W), got {self.images.dtype}")
        shape = tuple(self.targets.shape)
        if shape not in ((N,), (N, H, W)) and (len(shape) != 3 or (shape[0], shape[2]) != (N, 5)):
            raise ValueError(f"targets must be ({N},), ({N}, {H}, {W}) or ({N}, K, 5), got {shape}")
        for name in ("masks", "boxes", "box_classes"):
            part = getattr(self, name)
            if part is not None and len(part) != N:
                raise ValueError(f"{name} must have one entry for each of the {N} images, got {len(part)}")

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> "Split":
        """The split's images at these indices, in this order, with all that belongs to them."""
        images = self.images[indices] if isinstance(self.images, Tensor) else self.images.take(indices)
        others = {name: getattr(self, name) for name in ("targets", "masks", "boxes", "box_classes")}
        return replace(self, images=images, **{k: part[indices] for k, part in others.items() if part is not None})


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set. `name` and `task` come from its registration, `mean` and `std` are measured, where left out.

    `mean` and `std` are those of each channel of the training images, in [0, 1]. `validation` is there only where the
    set brings its own; otherwise `ImageData` takes it from the training split.
    """

    train: Split
    test: Split
    class_names: tuple[str, ...]
    validation: Split | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    name: str = ""
    task: Task | Literal[""] = ""


def channel_statistics(images: Tensor | ImageSource, most: int | None = None) -> tuple[tuple[float, ...], ...]:
    """(mean, std) of each channel, in [0, 1], exact because pixels are counted by value.

    Args:
        images: uint8 (N, C, H, W).
        most: measure only this many images, evenly spaced.
    """
    N, C = images.shape[:2]
    count = min(N, most or N)
    chosen = torch.arange(count) * N // count
    counts = np.zeros((C, 256))
    for part in chosen.split(256):
        batch = images[part]
        counts += np.stack([torch.bincount(batch[:, c].flatten(), minlength=256).numpy() for c in range(C)])
    weights, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = weights @ values
    std = np.sqrt(weights @ values**2 - mean**2)
    return tuple(mean.tolist()), tuple(std.tolist())


def stratified(targets: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Cut the indices 0..N-1 at random into parts of these sizes (sum <= N), classes in proportion in each.

    The cut is always the same: it knows no seed but its own. Masks (N, H, W) have no class by image: theirs is plain.

    Returns:
        sorted int64 indices, one tensor per part.
    """
    labels = targets.numpy() if targets.dim() == 1 else np.zeros(len(targets), dtype=np.int64)
    # RandomState's stream is frozen by NumPy's policy (NEP 19), so a split outlives NumPy's versions.
    order = np.random.RandomState(0).permutation(len(labels))
    # The j-th of a class of n gets the place (j + 1/2) / n: in order of place, every stretch holds the same mixture.
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    ranked = torch.from_numpy(order[np.argsort(place[order], kind="stable")])
    return [part.sort().values for part in ranked[: sum(sizes)].split(list(sizes))]


def replace_missing(dataset: Dataset, **facts: Any) -> Dataset:
    """The data set with these facts where it states none of its own."""
    return replace(dataset, **{name: fact for name, fact in facts.items() if not getattr(dataset, name)})
