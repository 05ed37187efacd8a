"""What every shift protocol is made of: seeded offsets, batches, and the interface of a protocol.

Letters: N images of a batch, K classes, (H, W) the images' size, m a protocol's range in pixels.

An image's offsets are a pure function of (seed, image index, repeat, protocol): figures do not depend on batch size,
order, worker count or device count.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from evaluation.metrics import Counts, Kind
from pooling import philox

Predict = Callable[[Tensor], Tensor]


def offsets(stream: int, seed: int, indices: Tensor, repeat: int, count: int) -> Tensor:
    """Four independent integers for each image, uniform in [0, count), in one draw for the whole batch.

    Philox: seed, stream and repeat give the key, and an image's index is the counter of its block of four numbers.

    Shape: indices (N,) -> (4, N), on the CPU
    """
    low, high = philox.bits(torch.tensor(seed), 2, first=2 * (16 * repeat + stream))
    if int(indices.min()) < 0:
        raise ValueError(f"image indices must be >= 0, got {int(indices.min())}")
    # Exact, unlike a product of floats; the bias is below count * 2^-32.
    return (philox.blocks(low | high << 32, indices) * count >> 32).T


@dataclass(frozen=True)
class Batch:
    """Images (N, C, H, W), targets (N,) or (N, H, W), indices (N,), the plain images' logits (N, K) or (N, K, H, W).

    Targets are on the logits' device, indices on the CPU.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    logits: Tensor

    def draw(self, protocol: "Protocol", seed: int, repeat: int, count: int) -> Tensor:
        """`offsets` of the batch's images, (4, N), on the images' device."""
        assert protocol.stream is not None
        return offsets(protocol.stream, seed, self.indices, repeat, count).to(self.images.device, non_blocking=True)

    def draw_real(self, protocol: "Protocol", seed: int, repeat: int) -> Tensor:
        """Multiples of 2^-23, uniform in [-1, 1), (4, N), on the images' device."""
        return self.draw(protocol, seed, repeat, 2**24).float() * 2.0**-23 - 1

    def first(self, limit: int) -> "Batch":
        """Its images with an index below `limit`."""
        kept = self.indices < limit
        if bool(kept.all()):
            return self
        on_images, on_logits = kept.to(self.images.device), kept.to(self.logits.device)
        return Batch(
            self.images[on_images], self.targets[on_logits], self.indices[kept], self.logits[on_logits]
        )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What a protocol found on a batch: hits and trials of each figure for the images with these indices, and details.

    details: for pictures, by name, one row for each image.
    """

    indices: Tensor
    counts: dict[str, Counts]
    details: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """How views of an image are made, and which figures they give."""

    name: ClassVar[str]
    stream: ClassVar[int | None] = None  # keeps its random numbers apart from other protocols'; None: it has none
    fill: ClassVar[str | None] = None  # what enters where an image has moved away
    words: ClassVar[tuple[str, ...]] = ()  # its settings that are not integers
    segments: ClassVar[bool] = False  # whether it has a figure for segmentation

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            if setting.name in self.words or (value is None and setting.default is None):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"protocol {self.name!r}: {setting.name} must be an integer >= 1, got {value!r}")

    def check(self, H: int, W: int) -> None:
        """Raise ValueError if images of this size are too small."""

    def parameters(self, H: int, W: int) -> dict[str, Any]:
        """What a reader needs, beside the seed, to make the same views of images of this size."""
        return {"name": self.name, **dataclasses.asdict(self)} | ({"fill": self.fill} if self.fill else {})

    def passes(self, images: int, segmentation: bool = False) -> int:
        """How many images the network sees beside the plain ones."""
        raise NotImplementedError

    def figures(self, segmentation: bool) -> dict[str, Kind]:
        """What it measures: the kind of each figure, by the figure's name."""
        raise NotImplementedError

    def measure(self, predict: Predict, batch: Batch, seed: int) -> Measured:
        raise NotImplementedError


def floating(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floating ones as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def check_larger(protocol: Protocol, m: int, H: int, W: int) -> None:
    """Raise ValueError unless shifts of m pixels leave something of the images."""
    if m >= min(H, W):
        raise ValueError(f"protocol {protocol.name!r}: shifts of up to {m} pixels leave nothing of {H}x{W} images")
