"""Shift protocols: how the views of an image are made, and which figures they give.

Letters: N images of a batch, (H, W) the images' size, m the protocol's range in pixels. Shifting is done in batches, in
pixel space, before the network's normalisation.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.transforms import crop, pad_border, roll, translate
from evaluation import metrics, moves
from evaluation.metrics import Kind
from evaluation.views import Batch, Measured, Predict, Protocol, check_larger, floating


@dataclass(frozen=True)
class Crop(Protocol):
    """Two crops of the image's own size out of the image padded by m/2 with its border, offsets uniform in [0, m) each.

    m = image size / 4 unless given. With `size` the crops are of that side, out of the image as it is: Zhang 2019 has
    crops of 224 out of 256 pixels, thus m = 32.
    """

    m: int | None = None
    size: int | None = None
    repeats: int = 5
    name = "crop"
    stream = 0
    fill = "border"

    def check(self, H: int, W: int) -> None:
        if self.size is not None and self.size + self.margin(H, W) > min(H, W):
            raise ValueError(
                f"protocol 'crop': crops of {self.size} pixels at offsets below {self.margin(H, W)} leave the inside "
                f"of {H}x{W} images; take larger images (data.size) or a smaller size"
            )

    def margin(self, H: int, W: int) -> int:
        room = min(H, W) // 4 if self.size is None else min(H, W) - self.size
        return self.m or max(room, 1)

    def padding(self, H: int, W: int) -> int:
        return self.margin(H, W) // 2 if self.size is None else 0

    def views(self, batch: Batch, seed: int, repeat: int) -> tuple[Tensor, Tensor]:
        """Shape: (N, C, H, W), or of `size`, twice"""
        H, W = batch.images.shape[-2:]
        side = (H, W) if self.size is None else self.size
        padded = pad_border(batch.images, self.padding(H, W))
        top, left, other_top, other_left = batch.draw(self, seed, repeat, self.margin(H, W))
        return crop(padded, top, left, side), crop(padded, other_top, other_left, side)

    def parameters(self, H: int, W: int) -> dict[str, Any]:
        stated = super().parameters(H, W) | {"m": self.margin(H, W), "padding": self.padding(H, W)}
        return {name: value for name, value in stated.items() if value is not None}

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
