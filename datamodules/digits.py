"""The 1,797 real handwritten digits that ship inside scikit-learn: nothing to download."""

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.dataset import Dataset, Split, stratified
from datamodules.registry import register

CLASSES = tuple("0123456789")
TEST_IMAGES = 540


@register("digits", batch_size=64, random_crop=2, val_fraction=0.15)
def digits() -> Dataset:
    """1,797 handwritten digits from scikit-learn, enlarged to 32x32; needs no download.

    Alpaydin & Kaynak 1998: 8x8 counts of inked pixels, 0..16, of the 13 writers in the test part of UCI's "Optical
    Recognition of Handwritten Digits". Here 24x24 by bicubic interpolation, centred on a 32x32 canvas: a margin of 4
    pixels keeps a shifted digit whole. 1,257 digits are for training and validation, 540 for testing, by class in
    proportion and always the same ones; a writer's digits are on both sides, as the file does not name writers.
    """
    train, test = digit_splits()
    return Dataset(train, test, CLASSES, mean=(0.1753,), std=(0.3095,))


def digit_splits() -> tuple[Split, Split]:
    """The digits for training and those for testing."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    whole = Split(_enlarge(torch.tensor(values).view(-1, 8, 8).float()), torch.tensor(labels).long())
    test, train = stratified(whole.targets, (TEST_IMAGES, len(whole) - TEST_IMAGES))
    return whole.take(train), whole.take(test)


def _enlarge(values: Tensor) -> Tensor:
    """Counts 0..16, (N, 8, 8), to uint8 images (N, 1, 32, 32)."""
    grey = F.interpolate(values[:, None] * (255 / 16), size=(24, 24), mode="bicubic", align_corners=False)
    return F.pad(grey.clamp(0, 255).round().to(torch.uint8), (4, 4, 4, 4))
