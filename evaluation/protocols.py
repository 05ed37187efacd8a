"""Shift protocols: how the views of an image are made, and which figures they give.

Letters: N images of a batch, K classes, (H, W) the images' size, m the protocol's range in pixels.

An image's offsets are a pure function of (seed, image index, repeat, protocol): figures do not depend on batch size,
order, worker count or device count. Shifting is done in batches, in pixel space, before the network's normalisation.
"""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.transforms import crop, pad_border, roll, translate
from evaluation import metrics
from pooling import philox

Predict = Callable[[Tensor], Tensor]
Figures = dict[str, metrics.Ratio | metrics.MeanIoU]


def offsets(stream: int, seed: int, indices: Tensor, repeat: int, count: int) -> Tensor:
    """Four independent integers for each image, uniform in [0, count), in one draw for the whole batch.

    Philox: seed, stream and repeat give the key, and an image's index is the counter of its block of four numbers.
    Blocks are computed in a row: a batch costs what the range of its indices costs (a range of 50,000: milliseconds).

    Shape: indices (N,) -> (4, N), on the CPU
    """
    low, high = philox.bits(torch.tensor(seed), 2, first=2 * (16 * repeat + stream))
    first, last = int(indices.min()), int(indices.max())
    if first < 0:
        raise ValueError(f"image indices must be >= 0, got {first}")
    blocks = philox.bits(low | high << 32, 4 * (last - first + 1), first=4 * first).view(-1, 4)
    # Exact, unlike a product of floats; the bias is below count * 2^-32.
    return (blocks[indices - first] * count >> 32).T


@dataclass(frozen=True)
class Protocol:
    """How views of an image are made, and which figures they give."""

    name: ClassVar[str]
    stream: ClassVar[int | None] = None  # keeps its random numbers apart from other protocols'; None: it has none
    fill: ClassVar[str | None] = None  # what enters where an image has moved away
    segments: ClassVar[bool] = False  # whether it has a figure for segmentation

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"protocol {self.name!r}: {field.name} must be an integer >= 1, got {value!r}")

    def check(self, H: int, W: int) -> None:
        """Raise ValueError if images of this size are too small."""

    def parameters(self, H: int, W: int) -> dict[str, Any]:
        """What a reader needs, beside the seed, to make the same views of images of this size."""
        return {"name": self.name, **dataclasses.asdict(self)} | ({"fill": self.fill} if self.fill else {})

    def passes(self, images: int, segmentation: bool = False) -> int:
        """How many images the network sees beside the plain ones."""
        raise NotImplementedError

    def figures(self, segmentation: bool) -> Figures:
        """The metrics, empty, by the figure's name."""
        raise NotImplementedError

    def update(self, figures: Figures, predict: Predict, batch: "Batch", seed: int) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Batch:
    """Images (N, C, H, W), targets (N,) or (N, H, W), indices (N,), the plain images' logits (N, K) or (N, K, H, W).

    Targets are on the logits' device, indices on the CPU.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    logits: Tensor

    def draw(self, protocol: Protocol, seed: int, repeat: int, count: int) -> Tensor:
        """`offsets` of the batch's images, (4, N), on the images' device."""
        assert protocol.stream is not None
        return offsets(protocol.stream, seed, self.indices, repeat, count).to(self.images.device, non_blocking=True)


@dataclass(frozen=True)
class Crop(Protocol):
    """Two crops of the image's own size out of the image padded by m/2 with its border, offsets uniform in [0, m) each.

    Zhang 2019, whose 224-pixel crops of 256-pixel images have m = 32; for small images m = image size / 4 unless given.
    """

    m: int | None = None
    repeats: int = 5
    name = "crop"
    stream = 0
    fill = "border"

    def margin(self, H: int, W: int) -> int:
        return self.m or max(min(H, W) // 4, 1)

    def views(self, batch: Batch, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
        """Shape: (N, C, H, W), twice"""
        H, W = batch.images.shape[-2:]
        m = self.margin(H, W)
        padded = pad_border(batch.images, m // 2)
        top, left, other_top, other_left = batch.draw(self, seed, repeat, m)
        return crop(padded, top, left, (H, W)), crop(padded, other_top, other_left, (H, W))

    def parameters(self, H: int, W: int) -> dict[str, Any]:
        m = self.margin(H, W)
        return super().parameters(H, W) | {"m": m, "padding": m // 2}

    def passes(self, images: int, segmentation: bool = False) -> int:
        return 2 * self.repeats * images

    def figures(self, segmentation: bool) -> Figures:
        return {"consistency": metrics.Consistency(), "mean_probability_change": metrics.MeanProbabilityChange()}

    def update(self, figures: Figures, predict: Predict, batch: Batch, seed: int) -> None:
        pairs = [tuple(map(predict, self.views(batch, seed, repeat))) for repeat in range(self.repeats)]
        first, second = (torch.stack(logits, 1) for logits in zip(*pairs, strict=True))
        figures["consistency"].update(first.argmax(-1), second.argmax(-1))
        figures["mean_probability_change"].update(first, second)


@dataclass(frozen=True)
class Circular(Protocol):
    """Two circular rolls of the image, offsets uniform in [-m, m], both ends included (Chaman 2021, Rojas-Gomez 2022).

    For segmentation the image itself against one roll.
    """

    m: int = 3
    repeats: int = 5
    name = "circular"
    stream = 1
    segments = True

    def views(self, batch: Batch, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
        """Shape: (N, C, H, W), twice"""
        dy, dx, other_dy, other_dx = batch.draw(self, seed, repeat, 2 * self.m + 1) - self.m
        return roll(batch.images, dy, dx), roll(batch.images, other_dy, other_dx)

    def passes(self, images: int, segmentation: bool = False) -> int:
        return (1 if segmentation else 2) * self.repeats * images

    def figures(self, segmentation: bool) -> Figures:
        if segmentation:
            return {"shift_equivariance": metrics.ShiftEquivariance(wrap=True)}
        return {"consistency_circular": metrics.Consistency()}

    def update(self, figures: Figures, predict: Predict, batch: Batch, seed: int) -> None:
        if "shift_equivariance" in figures:
            return _update_equivariance(figures["shift_equivariance"], self, roll, predict, batch, seed)
        pairs = [tuple(map(predict, self.views(batch, seed, repeat))) for repeat in range(self.repeats)]
        first, second = (torch.stack([p.argmax(1) for p in logits], 1) for logits in zip(*pairs, strict=True))
        figures["consistency_circular"].update(first, second)


@dataclass(frozen=True)
class Zero(Protocol):
    """The image against its translate by offsets uniform in [-m, m], filled with zeros (after Azulay & Weiss 2019).

    For segmentation the pixels that are in both count.
    """

    m: int = 3
    repeats: int = 5
    name = "zero"
    stream = 2
    fill = "zeros"
    segments = True

    def check(self, H: int, W: int) -> None:
        _check_larger(self, self.m, H, W)

    def views(self, batch: Batch, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
        """Shape: (N, C, H, W), twice"""
        dy, dx = (batch.draw(self, seed, repeat, 2 * self.m + 1) - self.m)[:2]
        return batch.images, translate(batch.images, dy, dx)

    def passes(self, images: int, segmentation: bool = False) -> int:
        return self.repeats * images

    def figures(self, segmentation: bool) -> Figures:
        if segmentation:
            return {"shift_equivariance_zero": metrics.ShiftEquivariance(wrap=False)}
        return {"consistency_zero": metrics.Consistency()}

    def update(self, figures: Figures, predict: Predict, batch: Batch, seed: int) -> None:
        if "shift_equivariance_zero" in figures:
            return _update_equivariance(figures["shift_equivariance_zero"], self, translate, predict, batch, seed)
        views = (self.views(batch, seed, repeat)[1] for repeat in range(self.repeats))
        second = torch.stack([predict(view).argmax(1) for view in views], 1)
        figures["consistency_zero"].update(batch.logits.argmax(1, keepdim=True).expand_as(second), second)


@dataclass(frozen=True)
class Grid(Protocol):
    """Every translate by offsets in [-m, m]^2, filled with zeros, of images with index < `limit` (Engstrom 2019)."""

    m: int = 3
    limit: int = 1000
    name = "grid"
    fill = "zeros"

    def check(self, H: int, W: int) -> None:
        _check_larger(self, self.m, H, W)

    def passes(self, images: int, segmentation: bool = False) -> int:
        return (2 * self.m + 1) ** 2 * min(images, self.limit)

    def figures(self, segmentation: bool) -> Figures:
        return {
            "accuracy_worst_shift": metrics.AccuracyWorstShift(),
            "accuracy_mean_shift": metrics.AccuracyMeanShift(),
        }

    def update(self, figures: Figures, predict: Predict, batch: Batch, seed: int) -> None:
        chosen = (batch.indices < self.limit).nonzero()[:, 0].to(batch.images.device)
        if not len(chosen):
            return
        images, targets = batch.images[chosen], batch.targets[chosen.to(batch.targets.device)]
        H, W = images.shape[-2:]
        # All images move alike, so each shift is a view of one padded copy.
        padded = F.pad(images, [self.m] * 4)
        places = itertools.product(range(2 * self.m + 1), repeat=2)
        classes = torch.stack([predict(padded[..., y : y + H, x : x + W]).argmax(1) for y, x in places], 1)
        figures["accuracy_worst_shift"].update(classes, targets)
        figures["accuracy_mean_shift"].update(classes, targets)


PROTOCOLS: dict[str, type[Protocol]] = {cls.name: cls for cls in (Crop, Circular, Zero, Grid)}


def _update_equivariance(
    figure: metrics.Ratio | metrics.MeanIoU,
    protocol: "Circular | Zero",
    move: Callable[[Tensor, Tensor, Tensor], Tensor],
    predict: Predict,
    batch: Batch,
    seed: int,
) -> None:
    m, repeats = protocol.m, range(protocol.repeats)
    moves = [(batch.draw(protocol, seed, repeat, 2 * m + 1) - m)[:2] for repeat in repeats]
    # int16 holds any class, in a quarter of argmax's memory.
    shifted = torch.stack([predict(move(batch.images, dy, dx)).argmax(1).to(torch.int16) for dy, dx in moves], 1)
    dy, dx = torch.stack(moves, 2).to(shifted.device)
    assert isinstance(figure, metrics.ShiftEquivariance)
    figure.update(batch.logits.argmax(1).to(torch.int16), shifted, dy, dx)


def _check_larger(protocol: Protocol, m: int, H: int, W: int) -> None:
    if m >= min(H, W):
        raise ValueError(f"protocol {protocol.name!r}: shifts of up to {m} pixels leave nothing of {H}x{W} images")
