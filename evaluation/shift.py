"""Shift evaluation of any callable network, a classifier or a segmentation network: the driver.

What is measured is in `evaluation.protocols` (the views) and `evaluation.metrics` (the figures).
"""

import math
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from datamodules.dataset import UNLABELLED
from evaluation import metrics
from evaluation.intervals import Estimate
from evaluation.metrics import Counts, Ratio
from evaluation.protocols import PROTOCOLS, Circular, Crop, Grid, Zero
from evaluation.views import Batch, Predict, Protocol
from pooling.options import did_you_mean

__all__ = [
    "PROTOCOLS", "Circular", "Crop", "Grid", "Measurement", "Protocol", "Zero", "choose", "evaluate_shift", "measure",
    "passes",
]  # fmt: skip


class Estimated(typing.Protocol):
    """A metric that knows its interval."""

    def estimate(self) -> Estimate: ...


@dataclass
class Measurement:
    """Figures, and what is known of each image (with several processes: of this process's images).

    figures: by name {"value", "interval": [low, high], "n": images, "protocol": {"name", its parameters}}.
    images: by name, a value for each image that it is known of, by the image's index.
    details: by "PROTOCOL.NAME", one row for each image: (n, ...).
    """

    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[int, float]] = field(default_factory=dict)
    details: dict[str, Tensor] = field(default_factory=dict)

    def note(self, name: str, indices: Tensor, values: Tensor) -> None:
        """Keep a value, (n,), for each of the images with these indices."""
        self.images.setdefault(name, {}).update(zip(indices.tolist(), values.tolist(), strict=True))

    def note_counts(self, name: str, indices: Tensor, counts: Counts) -> None:
        """Keep hits / trials; images without trials are left out."""
        hits, trials = (part.double().cpu() for part in counts)
        self.note(name, indices[trials > 0], hits[trials > 0] / trials[trials > 0])


def choose(protocols: Sequence[str | Protocol] | None, segmentation: bool) -> list[Protocol]:
    """Protocols by name (with their defaults) or as they are; None: those that a finished run reports.

    Raises:
        ValueError: an unknown name, or a protocol that has no figure for segmentation.
    """
    if protocols is None:
        protocols = ("circular", "zero") if segmentation else ("crop", "circular", "grid")
    chosen: list[Protocol] = []
    for protocol in protocols:
        if isinstance(protocol, str):
            if protocol not in PROTOCOLS:
                raise ValueError(
                    f"no protocol {protocol!r}{did_you_mean(protocol, PROTOCOLS)} (protocols: {', '.join(PROTOCOLS)})"
                )
            protocol = PROTOCOLS[protocol]()
        if segmentation and not protocol.segments:
            able = ", ".join(name for name, cls in PROTOCOLS.items() if cls.segments)
            raise ValueError(f"protocol {protocol.name!r} has no figure for segmentation (those that do: {able})")
        chosen.append(protocol)
    return chosen


def passes(protocols: Sequence[str | Protocol] | None, images: int, segmentation: bool = False) -> int:
    """How many images the network will see in `evaluate_shift`: what `progress` counts up to."""
    return images + sum(p.passes(images, segmentation) for p in choose(protocols, segmentation))


def evaluate_shift(
    predict: Predict,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    protocols: Sequence[str | Protocol] | None = None,
    seed: int = 0,
    *,
    progress: Callable[[int], object] | None = None,
) -> dict[str, dict[str, Any]]:
    """Plain and shift figures of a classifier, targets (N,), or of a segmentation network, targets (N, H, W).

    With torch.distributed running, each process passes its own images, and all get the figures of all of them.

    Args:
        predict: images (N, C, H, W), as the batches have them, to logits (N, K) or (N, K, H, W); it normalises, and is
            called without gradients. The network in it should be in evaluation mode.
        batches: (images, targets, indices), images uint8 or floating in [0, 1]; an index is a place in the data set.
        protocols: names or `Protocol` objects; None: crop, circular and grid, or for segmentation circular and zero.
        seed: of the offsets.
        progress: called after each pass with the number of images that the network has seen; see `passes`.

    Returns:
        by figure {"value", "interval": [low, high], "n": images, "protocol": {"name", its parameters}}, ready for JSON.

    Raises:
        ValueError: no images, images too small for a protocol, logits that do not fit the targets or are NaN.
    """
    return measure(predict, batches, protocols, seed, progress=progress).figures


def measure(
    predict: Predict,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    protocols: Sequence[str | Protocol] | None = None,
    seed: int = 0,
    *,
    progress: Callable[[int], object] | None = None,
) -> Measurement:
    """`evaluate_shift`, with what is known of each image."""
    seen = 0

    def counted(images: Tensor) -> Tensor:
        nonlocal seen
        logits = predict(images)
        seen += len(images)
        if progress is not None:
            progress(seen)
        return logits

    plain: dict[str, Ratio | metrics.MeanIoU] = {}
    shifted: list[tuple[Protocol, dict[str, Ratio]]] = []
    result, details, size = Measurement(), {}, (0, 0)
    with torch.no_grad():
        for images, targets, indices in batches:
            logits = counted(images)
            batch = Batch(images, targets.to(logits.device).long(), torch.as_tensor(indices).cpu(), logits)
            _check(batch)
            if not plain:
                size, segmentation = (images.shape[-2], images.shape[-1]), targets.dim() == 3
                plain = _plain_figures(logits.shape[1], segmentation)
                for protocol in choose(protocols, segmentation):
                    protocol.check(*size)
                    shifted.append((protocol, {n: Ratio(k) for n, k in protocol.figures(segmentation).items()}))
                for figures in (plain, *(figures for _, figures in shifted)):
                    for figure in figures.values():
                        figure.to(logits.device)
            _update_plain(plain, result, batch)
            for protocol, figures in shifted:
                found = protocol.measure(counted, batch, seed)
                for name, counts in found.counts.items():
                    figures[name].update(*counts)
                    result.note_counts(name, found.indices, counts)
                for name, rows in found.details.items():
                    details.setdefault(f"{protocol.name}.{name}", []).append(rows.cpu())
    if not plain:
        raise ValueError("there are no images to evaluate")

    result.details = {name: torch.cat(parts) for name, parts in details.items()}
    result.figures = {name: as_json(figure, {"name": "plain"}) for name, figure in plain.items()}
    for protocol, figures in shifted:
        stated = protocol.parameters(*size) | ({"seed": seed} if protocol.stream is not None else {})
        result.figures |= {name: as_json(figure, stated) for name, figure in figures.items()}
    return result


def _plain_figures(K: int, segmentation: bool) -> dict[str, Ratio | metrics.MeanIoU]:
    if segmentation:
        return {"mean_iou": metrics.MeanIoU(K), "pixel_accuracy": metrics.PixelAccuracy(), "loss": metrics.Loss()}
    return {"accuracy": metrics.Accuracy(), "accuracy_top5": metrics.Accuracy(top=5), "loss": metrics.Loss()}


def _update_plain(plain: dict[str, Ratio | metrics.MeanIoU], result: Measurement, batch: Batch) -> None:
    classes = batch.logits.argmax(1)
    for figure in plain.values():
        by_class = isinstance(figure, metrics.PixelAccuracy | metrics.MeanIoU)
        figure.update(classes if by_class else batch.logits, batch.targets)
    if batch.targets.dim() == 3:
        result.note_counts("pixel_accuracy", batch.indices, metrics.pixel_accuracy(classes, batch.targets))
    else:
        chances = batch.logits.double().softmax(1).gather(1, batch.targets[:, None])[:, 0]
        for name, values in (("target", batch.targets), ("predicted", classes), ("probability", chances)):
            result.note(name, batch.indices, values)
    result.note_counts("loss", batch.indices, metrics.loss(batch.logits, batch.targets))


def as_json(figure: Estimated, protocol: dict[str, Any]) -> dict[str, Any]:
    """{"value", "interval", "n", "protocol"} of a metric; what is not finite is None."""
    value, low, high, n = (x if math.isfinite(x) else None for x in figure.estimate())  # JSON has no infinity
    return {"value": value, "interval": [low, high], "n": n, "protocol": protocol}


def _check(batch: Batch) -> None:
    """Raise ValueError, with the fix or the image at fault, unless images, targets and logits belong together."""
    N, *place = batch.targets.shape
    shape = tuple(batch.logits.shape)
    if len(batch.images) != N or len(batch.indices) != N:
        raise ValueError(f"a batch has {len(batch.images)} images, {N} targets and {len(batch.indices)} indices")
    if len(shape) != 2 + len(place) or (shape[0], *shape[2:]) != (N, *place):
        raise ValueError(f"targets {tuple(batch.targets.shape)} need logits {(N, 'K', *place)}, got {shape}")
    K, labels = shape[1], batch.targets[batch.targets != UNLABELLED] if place else batch.targets
    if bool(((labels < 0) | (labels >= K)).any()):
        raise ValueError(
            f"the network has {K} classes, and targets run from {int(labels.min())} to {int(labels.max())}"
        )
    bad = batch.logits.isnan().flatten(1).any(1)
    if bool(bad.any()):
        raise ValueError(f"the network's logits are NaN, first for image {int(batch.indices[bad.cpu()][0])}")
