"""Shift protocols: how the views of an image are made, and which figures they give.

Letters: N images of a batch, K classes, (H, W) the images' size, m the protocol's range in pixels.

An image's offsets are a pure function of (seed, image index, repeat, protocol): figures do not depend on batch size,
order, worker count or device count. Shifting is done in batches, in pixel space, before the network's normalisation.
"""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.transforms import crop, pad_border, roll, translate
from evaluation import metrics, moves
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

    def figures(self, segmentation: bool) -> dict[str, Kind]:
        return {"consistency": "rate", "mean_probability_change": "share"}

    def measure(self, predict: Predict, batch: Batch, seed: int) -> Measured:
        pairs = [tuple(map(predict, self.views(batch, seed, repeat))) for repeat in range(self.repeats)]
        first, second = (torch.stack(logits, 1) for logits in zip(*pairs, strict=True))
        counts = {
            "consistency": metrics.consistency(first.argmax(-1), second.argmax(-1)),
            "mean_probability_change": metrics.mean_probability_change(first, second),
        }
        return Measured(batch.indices, counts)


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

    def check(self, H: int, W: int) -> None:
        check_larger(self, self.m, H, W)

    def views(self, batch: Batch, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
        """Shape: (N, C, H, W), twice"""
        dy, dx, other_dy, other_dx = batch.draw(self, seed, repeat, 2 * self.m + 1) - self.m
        return roll(batch.images, dy, dx), roll(batch.images, other_dy, other_dx)

    def passes(self, images: int, segmentation: bool = False) -> int:
        return (1 if segmentation else 2) * self.repeats * images

    def figures(self, segmentation: bool) -> dict[str, Kind]:
        return {"shift_equivariance" if segmentation else "consistency_circular": "rate"}

    def measure(self, predict: Predict, batch: Batch, seed: int) -> Measured:
        if batch.targets.dim() == 3:
            return _measure_equivariance("shift_equivariance", self, roll, predict, batch, seed)
        pairs = [tuple(map(predict, self.views(batch, seed, repeat))) for repeat in range(self.repeats)]
        first, second = (torch.stack([p.argmax(1) for p in logits], 1) for logits in zip(*pairs, strict=True))
        return Measured(batch.indices, {"consistency_circular": metrics.consistency(first, second)})


@dataclass(frozen=True)
class Moved(Protocol):
    """The image against a moved copy of itself: what the protocols below have in common."""

    repeats: int = 5

    def move(self, batch: Batch, seed: int, repeat: int) -> Tensor:
        """The moved copies. Shape: (N, C, H, W)"""
        raise NotImplementedError

    def passes(self, images: int, segmentation: bool = False) -> int:
        return self.repeats * images

    def figures(self, segmentation: bool) -> dict[str, Kind]:
        return {f"consistency_{self.name}": "rate"}

    def measure(self, predict: Predict, batch: Batch, seed: int) -> Measured:
        moved = (self.move(batch, seed, repeat) for repeat in range(self.repeats))
        classes = torch.stack([predict(images).argmax(1) for images in moved], 1)
        plain = batch.logits.argmax(1, keepdim=True).expand_as(classes)
        counts = {
            f"consistency_{self.name}": metrics.consistency(plain, classes),
            f"accuracy_{self.name}": metrics.accuracy_mean_shift(classes, batch.targets),
        }
        return Measured(batch.indices, {name: counts[name] for name in self.figures(segmentation=False)})


@dataclass(frozen=True)
class Zero(Moved):
    """The image against its translate by offsets uniform in [-m, m], filled with zeros (after Azulay & Weiss 2019).

    For segmentation the pixels that are in both count.
    """

    m: int = 3
    name = "zero"
    stream = 2
    fill = "zeros"
    segments = True

    def check(self, H: int, W: int) -> None:
        check_larger(self, self.m, H, W)

    def move(self, batch: Batch, seed: int, repeat: int) -> Tensor:
        dy, dx = (batch.draw(self, seed, repeat, 2 * self.m + 1) - self.m)[:2]
        return translate(batch.images, dy, dx)

    def figures(self, segmentation: bool) -> dict[str, Kind]:
        return {"shift_equivariance_zero": "rate"} if segmentation else super().figures(segmentation)

    def measure(self, predict: Predict, batch: Batch, seed: int) -> Measured:
        if batch.targets.dim() == 3:
            return _measure_equivariance("shift_equivariance_zero", self, translate, predict, batch, seed)
        return super().measure(predict, batch, seed)


@dataclass(frozen=True)
class Subpixel(Moved):
    """The image against its circular shift by real offsets uniform in [-m, m), by the DFT's phase (Michaeli 2023)."""

    m: int = 3
    name = "subpixel"
    stream = 3

    def check(self, H: int, W: int) -> None:
        check_larger(self, self.m, H, W)

    def move(self, batch: Batch, seed: int, repeat: int) -> Tensor:
        dy, dx = (self.m * batch.draw_real(self, seed, repeat))[:2]
        return moves.fourier_shift(floating(batch.images), dy, dx)


@dataclass(frozen=True)
class Rotation(Moved):
    """The image against itself turned about its centre by up to `degrees` either way, filled with zeros."""

    degrees: int = 10
    name = "rotation"
    stream = 4
    fill = "zeros"

    def figures(self, segmentation: bool) -> dict[str, Kind]:
        return {"accuracy_rotation": "rate", "consistency_rotation": "rate"}

    def move(self, batch: Batch, seed: int, repeat: int) -> Tensor:
        return moves.turn(floating(batch.images), self.degrees * batch.draw_real(self, seed, repeat)[0])


@dataclass(frozen=True)
class Scale(Moved):
    """The image against itself made larger or smaller about its centre, by up to `percent`, filled with zeros."""

    percent: int = 10
    name = "scale"
    stream = 5
    fill = "zeros"

    def figures(self, segmentation: bool) -> dict[str, Kind]:
        return {"accuracy_scale": "rate", "consistency_scale": "rate"}

    def move(self, batch: Batch, seed: int, repeat: int) -> Tensor:
        return moves.zoom(floating(batch.images), 1 + self.percent / 100 * batch.draw_real(self, seed, repeat)[0])


@dataclass(frozen=True)
class Grid(Protocol):
    """Every translate by offsets in [-m, m]^2, filled with zeros, of images with index < `limit` (Engstrom 2019).

    The path of `flip_rate` is the grid's middle row: the image comes from the left, a pixel a frame.
    """

    m: int = 3
    limit: int = 1000
    name = "grid"
    fill = "zeros"

    def check(self, H: int, W: int) -> None:
        check_larger(self, self.m, H, W)

    def passes(self, images: int, segmentation: bool = False) -> int:
        return (2 * self.m + 1) ** 2 * min(images, self.limit)

    def figures(self, segmentation: bool) -> dict[str, Kind]:
        return {
            "accuracy_worst_shift": "rate",
            "accuracy_mean_shift": "rate",
            "top1_change_1px": "rate",
            "flip_rate": "rate",
            "probability_wobble": "share",
        }

    def measure(self, predict: Predict, batch: Batch, seed: int) -> Measured:
        batch = batch.first(self.limit)
        N, side = len(batch.indices), 2 * self.m + 1
        if not N:
            return Measured(batch.indices, {})
        H, W = batch.images.shape[-2:]
        # All images move alike, so each shift is a view of one padded copy; up and left first, as a window moves.
        padded = F.pad(batch.images, [self.m] * 4)
        classes, chances = [], []
        for dy, dx in itertools.product(range(-self.m, self.m + 1), repeat=2):
            y, x = self.m - dy, self.m - dx
            logits = predict(padded[..., y : y + H, x : x + W])
            classes.append(logits.argmax(1))
            chances.append(logits.float().softmax(1).gather(1, batch.targets[:, None])[:, 0])
        classes, chances = torch.stack(classes, 1), torch.stack(chances, 1)
        square = classes.view(N, side, side)
        counts = {
            "accuracy_worst_shift": metrics.accuracy_worst_shift(classes, batch.targets),
            "accuracy_mean_shift": metrics.accuracy_mean_shift(classes, batch.targets),
            "top1_change_1px": metrics.top1_change_1px(square),
            "flip_rate": metrics.flip_rate(square[:, self.m]),
            "probability_wobble": metrics.probability_wobble(chances),
        }
        details = {
            "right": square == batch.targets[:, None, None],
            "same": square == square[:, self.m, self.m, None, None],
            "probability": chances.view(N, side, side),
        }
        return Measured(batch.indices, counts, details)


PROTOCOLS: dict[str, type[Protocol]] = {
    cls.name: cls for cls in (Crop, Circular, Zero, Subpixel, Grid, Rotation, Scale)
}


def _measure_equivariance(
    figure: str,
    protocol: Circular | Zero,
    move: Callable[[Tensor, Tensor, Tensor], Tensor],
    predict: Predict,
    batch: Batch,
    seed: int,
) -> Measured:
    m, repeats = protocol.m, range(protocol.repeats)
    shifts = [(batch.draw(protocol, seed, repeat, 2 * m + 1) - m)[:2] for repeat in repeats]
    # int16 holds any class, in a quarter of argmax's memory.
    shifted = torch.stack([predict(move(batch.images, dy, dx)).argmax(1).to(torch.int16) for dy, dx in shifts], 1)
    dy, dx = torch.stack(shifts, 2).to(shifted.device)
    classes = batch.logits.argmax(1).to(torch.int16)
    counts = metrics.shift_equivariance(classes, shifted, dy, dx, wrap=move is roll)
    return Measured(batch.indices, {figure: counts})


def floating(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]; floating ones as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def check_larger(protocol: Protocol, m: int, H: int, W: int) -> None:
    """Raise ValueError unless shifts of m pixels leave something of the images."""
    if m >= min(H, W):
        raise ValueError(f"protocol {protocol.name!r}: shifts of up to {m} pixels leave nothing of {H}x{W} images")
