"""Image files of any size and mode to square uint8 tensors, in parallel threads (Pillow decodes without the GIL)."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
NAMED = 5  # broken files that a warning names; the rest are counted


def read_image(path: Path, size: int) -> np.ndarray:
    """An image as uint8 (3, size, size): shorter side resized to `size`, centre cut out, grey turned into colour."""
    with Image.open(path) as image:
        # A large JPEG is decoded at a half, a quarter or an eighth of its size, which is still twice ours.
        image.draft("RGB", (2 * size, 2 * size))
        if image.mode.startswith(("I", "F")):
            colour = _eight_bits(np.asarray(image)).convert("RGB")
        elif image.mode == "P":
            # By way of RGBA: a palette with transparency is a warning otherwise.
            colour = image.convert("RGBA").convert("RGB")
        else:
            colour = image.convert("RGB")
    return np.asarray(_square(colour, size, Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def read_mask(path: Path, size: int) -> np.ndarray:
    """A mask as uint8 (size, size); its pixels, or their palette indices, are class numbers."""
    with Image.open(path) as image:
        if image.mode not in ("1", "L", "P"):
            raise ValueError(f"a mask's pixels must be class numbers (modes 1, L, P), not {image.mode}")
        grey = Image.fromarray(np.asarray(image).astype(np.uint8))
    return np.asarray(_square(grey, size, Image.Resampling.NEAREST))


def _square(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), resampling).crop((left, top, left + size, top + size))


def _eight_bits(values: np.ndarray) -> Image.Image:
    """Grey of 16 bits, or of floats in [0, 1] or [0, 255], as 8 bits; Pillow itself would cut off at 255."""
    values = values.astype(np.float64)
    most = values.max(initial=0)
    top = 1 if most <= 1 else 255 if most <= 255 else 65535
    return Image.fromarray(np.clip(values * (255 / top), 0, 255).astype(np.uint8))


def attempt(task: Callable[[int], None], count: int, threads: int) -> dict[int, str]:
    """Call `task(i)` for each i < count in threads; the reason for each that failed, by i."""

    def call(i: int) -> str | None:
        try:
            task(i)
        # A broken file fails in as many ways as there are decoders; each of them means "broken" here.
        except Exception as error:
            return " ".join(str(error).split()) or type(error).__name__
        return None

    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(call, range(count))
        return {i: reason for i, reason in enumerate(results) if reason is not None}


def warn_broken(reasons: Mapping[Path, str], count: int, verdict: str) -> None:
    """One warning that counts the broken ones of `count` files and names the first few."""
    if reasons:
        first = "; ".join(f"{path} ({reason})" for path, reason in list(reasons.items())[:NAMED])
        more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
        log.warning("%d of %d image files cannot be read and %s: %s%s", len(reasons), count, verdict, first, more)


def check_header(path: Path) -> None:
    """Raise unless the file starts like an image; the pixels are not decoded."""
    with Image.open(path):
        pass


class LazyImages:
    """Images that stay in their files: `images[indices]` decodes a batch, uint8 (n, 3, size, size).

    A file that turns out broken only now is logged by name, and black in the batch: better than the end of a long run.
    """

    def __init__(self, paths: Sequence[Path], size: int, threads: int) -> None:
        self.paths, self.size, self.threads = list(paths), size, threads

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.paths), 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Tensor) -> "LazyImages":
        return LazyImages([self.paths[i] for i in indices.tolist()], self.size, self.threads)

    def __getitem__(self, indices: Tensor) -> Tensor:
        chosen = [self.paths[i] for i in indices.tolist()]
        batch = np.zeros((len(chosen), *self.shape[1:]), dtype=np.uint8)

        def read(i: int) -> None:
            batch[i] = read_image(chosen[i], self.size)

        broken = attempt(read, len(chosen), self.threads)
        warn_broken({chosen[i]: reason for i, reason in broken.items()}, len(chosen), "stay black in this batch")
        return torch.from_numpy(batch)


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
