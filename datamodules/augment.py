"""Augmentation of whole batches on the device. What is drawn depends on a key alone: a resumed run repeats it."""

import numpy as np
import torch
from torch import Tensor

from datamodules.transforms import crop, flip, pad_border

SHUFFLE, AUGMENT, SCENES = range(3)  # uses of randomness; the first part of every key


def generator(*key: int) -> torch.Generator:
    """A CPU generator whose stream is a function of the key (integers >= 0), unrelated to those of other keys."""
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(seed)


def augment(
    images: Tensor,
    masks: Tensor | None = None,
    *,
    key: tuple[int, ...],
    random_crop: int = 0,
    random_flip: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Move and mirror a batch at random; masks, if given, move with their images.

    Shape: (N, C, H, W), (N, H, W) -> the same
    Args:
        key: (seed, epoch, batch index, process): equal keys give equal batches on every device.
        random_crop: p > 0 pads each image by p pixels with its border and cuts the old size out anywhere.
        random_flip: mirror each image left to right with probability 1/2.
    """
    N, H, W = len(images), *images.shape[-2:]
    draw = generator(AUGMENT, *key)
    if random_crop:
        # One transfer for both offsets; non_blocking, or each batch would wait for the device.
        corner = torch.randint(0, 2 * random_crop + 1, (2, N), generator=draw).to(images.device, non_blocking=True)
        images = crop(pad_border(images, random_crop), corner[0], corner[1], (H, W))
        if masks is not None:
            masks = crop(pad_border(masks, random_crop), corner[0], corner[1], (H, W))
    if random_flip:
        mirrored = (torch.rand(N, generator=draw) < 0.5).to(images.device, non_blocking=True)
        images = flip(images, mirrored)
        masks = None if masks is None else flip(masks, mirrored)
    return images, masks
