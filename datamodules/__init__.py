"""Data sets and the one Lightning data module that drives them all. A data set is a function that returns tensors.

`names()`, `info(name)`, `load(name, **options)`, `create(name, **options)`. A new data set is one file with one
function, decorated with `@register`, and its name in the list of imports below.
"""

from typing import TYPE_CHECKING, Any

from datamodules import cifar, digit_scenes, digits, image_folder, mnist  # noqa: F401  (they register themselves)
from datamodules.dataset import UNLABELLED, Dataset, DataUnavailable, Split
from datamodules.registry import DataInfo, info, load, names, register

if TYPE_CHECKING:
    from datamodules.module import ImageData

__all__ = [
    "UNLABELLED",
    "DataInfo",
    "DataUnavailable",
    "Dataset",
    "Split",
    "create",
    "info",
    "load",
    "names",
    "register",
]


def create(name: str, **options: Any) -> "ImageData":
    """A Lightning data module for the data set of this name; its options are in `info(name).options`."""
    from datamodules.module import ImageData

    return ImageData(name, **options)
