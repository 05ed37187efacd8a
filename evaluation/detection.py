"""Figures of a detector: average precision over the thresholds of COCO."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from evaluation.shift import Measurement

FIGURES = ("map", "map_50")


def average_precision() -> MeanAveragePrecision:
    """Mean average precision over classes and overlaps of 0.5 to 0.95 (`map`), and at 0.5 alone (`map_50`).

    Lin et al. 2014, arXiv:1405.0312; computed by COCO's own tools.
    """
    return MeanAveragePrecision(box_format="xyxy", backend="pycocotools")


def measure_detection(
    predict: Callable[[Tensor], list[dict[str, Tensor]]],
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    progress: Callable[[int], object] | None = None,
) -> Measurement:
    """`map` and `map_50` over all images, without intervals.

    Args:
        predict: images (N, C, H, W) to {"boxes", "labels", "scores"} for each.
        batches: (images, targets (N, K, 5) of class, left, top, right and bottom, indices).
    """
    metric, seen = average_precision(), 0
    for images, targets, _ in batches:
        with torch.no_grad():
            found = predict(images)
        truth = [{"boxes": part[:, 1:].float(), "labels": part[:, 0].long()} for part in targets]
        metric.update([{name: value.cpu() for name, value in one.items()} for one in found], truth)
        seen += len(images)
        if progress is not None:
            progress(seen)
    values = metric.compute()
    return Measurement(
        {
            name: {"value": float(values[name]), "interval": [None, None], "n": seen, "protocol": {"name": "plain"}}
            for name in FIGURES
        }
    )
