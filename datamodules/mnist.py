"""MNIST and Fashion-MNIST: 70,000 grey images of 28x28 pixels, 10,000 of them for testing."""

from pathlib import Path

import torch

from datamodules.dataset import Dataset, Split
from datamodules.download import download
from datamodules.idx import read_idx
from datamodules.registry import register

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
GARMENTS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@register("mnist", batch_size=128, random_crop=2)
def mnist(*, root: str = "data") -> Dataset:
    """MNIST: 70,000 handwritten digits, 28x28 (LeCun et al. 1998).

    Args:
        root: torchvision's files are looked for, or put, in `root/MNIST/raw`.
    """
    train, test = _read("mnist", "MNIST", root)
    return Dataset(train, test, tuple("0123456789"), mean=(0.1307,), std=(0.3081,))


@register("fashion_mnist", batch_size=128, random_flip=True)
def fashion_mnist(*, root: str = "data") -> Dataset:
    """Fashion-MNIST: 70,000 garments in 10 classes, 28x28 (Xiao et al. 2017).

    Args:
        root: torchvision's files are looked for, or put, in `root/FashionMNIST/raw`; Debian's package is found, too.
    """
    also = ", or install Debian's package dataset-fashion-mnist"
    train, test = _read("fashion_mnist", "FashionMNIST", root, system=DEBIAN, also=also)
    return Dataset(train, test, GARMENTS, mean=(0.2860,), std=(0.3530,))


def _read(name: str, cls: str, root: str, system: Path | None = None, also: str = "") -> tuple[Split, Split]:
    folder = Path(root).expanduser() / cls / "raw"
    paths = _find(folder) or (_find(system) if system else None)
    if paths is None:

        def fetch() -> None:
            from torchvision import datasets

            getattr(datasets, cls)(folder.parent.parent, download=True)

        download(name, fetch, [f"{file}.gz" for file in FILES], folder, also)
        paths = _find(folder)
        assert paths is not None, f"torchvision left no files of {name} in {folder}"
    train_images, train_labels, test_images, test_labels = map(read_idx, paths)
    return (
        Split(train_images[:, None], train_labels.to(torch.int64)),
        Split(test_images[:, None], test_labels.to(torch.int64)),
    )


def _find(folder: Path) -> list[Path] | None:
    """The four files, gzipped or not, or None unless all are there."""
    found = [path for file in FILES for path in (folder / file, folder / f"{file}.gz") if path.is_file()]
    distinct = {path.name.removesuffix(".gz"): path for path in reversed(found)}
    return [distinct[file] for file in FILES] if len(distinct) == len(FILES) else None
