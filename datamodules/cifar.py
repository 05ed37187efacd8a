"""CIFAR-10 and CIFAR-100: 60,000 colour photographs of 32x32 pixels, 10,000 of them for testing (Krizhevsky 2009)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.dataset import Dataset, Split
from datamodules.download import download
from datamodules.registry import register


@register("cifar10", batch_size=128, random_crop=4, random_flip=True)
def cifar10(*, root: str = "data") -> Dataset:
    """CIFAR-10: 60,000 photographs in 10 classes, 32x32 (Krizhevsky 2009).

    Args:
        root: torchvision's files are looked for, or put, in this folder.
    """
    train, test, classes = _read("cifar10", "CIFAR10", root)
    return Dataset(train, test, classes, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))


@register("cifar100", batch_size=128, random_crop=4, random_flip=True)
def cifar100(*, root: str = "data") -> Dataset:
    """CIFAR-100: 60,000 photographs in 100 classes, 32x32 (Krizhevsky 2009).

    Args:
        root: torchvision's files are looked for, or put, in this folder.
    """
    train, test, classes = _read("cifar100", "CIFAR100", root)
    return Dataset(train, test, classes, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))


def _read(name: str, torchvision_name: str, root: str) -> tuple[Split, Split, tuple[str, ...]]:
    from torchvision import datasets

    folder = Path(root).expanduser()
    cls = getattr(datasets, torchvision_name)
    # torchvision compares checksums first: what is there and whole is not downloaded, and nothing else is unpickled.
    fetch = lambda: [cls(folder, train=train, download=True) for train in (True, False)]  # noqa: E731
    parts = download(name, fetch, [cls.filename], folder)
    train, test = (Split(_channels_first(part.data), torch.tensor(part.targets)) for part in parts)
    return train, test, tuple(parts[0].classes)


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
