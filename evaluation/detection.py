"""Figures of a detector: average precision over the thresholds of COCO."""

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from evaluation.intervals import bounded
from evaluation.shift import Measurement

FIGURES = ("map", "map_50")
GROUPS = 20  # of images, for the variance

Boxes = dict[str, Tensor]  # of one image: "boxes" (L, 4), "labels" (L,); of detections "scores" (L,) too


def average_precision() -> MeanAveragePrecision:
    """Mean average precision over classes and overlaps of 0.5 to 0.95 (`map`), and at 0.5 alone (`map_50`).

    Lin et al. 2014, arXiv:1405.0312; computed by COCO's own tools.
    """
    return MeanAveragePrecision(box_format="xyxy", backend="pycocotools")


def measure_detection(
    predict: Callable[[Tensor], list[Boxes]],
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    progress: Callable[[int], object] | None = None,
) -> Measurement:
    """`map` and `map_50` over all images, with intervals from the differences between images.

    Args:
        predict: images (N, C, H, W) to {"boxes", "labels", "scores"} for each.
        batches: (images, targets (N, K, 5) of class, left, top, right and bottom, indices).
    """
    found: list[Boxes] = []
    truth: list[Boxes] = []
    for images, targets, _ in batches:
        with torch.no_grad():
            found += [{name: value.cpu() for name, value in one.items()} for one in predict(images)]
        truth += [{"boxes": part[:, 1:].float(), "labels": part[:, 0].long()} for part in targets]
        if progress is not None:
            progress(len(truth))
    metric = average_precision()
    metric.update(found, truth)
    values, n = metric.compute(), len(truth)
    figures = {}
    for name, variance in zip(FIGURES, variances(found, truth), strict=True):
        value = float(values[name])
        if value < 0:  # there was no object
            value, interval = None, (None, None)
        else:
            interval = bounded(value, variance, n)
        figures[name] = {"value": value, "interval": [*interval], "n": n, "protocol": {"name": "plain"}}
    return Measurement(figures)


def variances(found: Sequence[Boxes], truth: Sequence[Boxes]) -> tuple[float, float]:
    """Of `map` and `map_50`, by the jackknife that leaves out a group of images at a time (Kott 2001).

    Detections are matched to objects within an image: once is enough for all groups.
    """
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        matches: Any = COCOeval(_coco(truth), _coco(found), "bbox")
        matches.params.areaRng, matches.params.areaRngLbl = [[0, 1e10]], ["all"]
        matches.evaluate()
        each, n = matches.evalImgs, len(truth)  # by class and, within it, by image
        groups, values = min(GROUPS, n), []
        for group in range(groups):
            matches.evalImgs = [None if i % n % groups == group else one for i, one in enumerate(each)]
            matches.accumulate()
            precision = matches.eval["precision"][..., -1]  # by overlap first; -1 for classes without objects
            if (precision >= 0).any():
                values.append([some[some >= 0].mean() for some in (precision, precision[0])])
    spread = np.square(values - np.mean(values, axis=0)).sum(0) if len(values) > 1 else np.zeros(len(FIGURES))
    map, map_50 = (groups - 1) / groups * spread
    return float(map), float(map_50)


def _coco(images: Sequence[Boxes]) -> Any:
    """Boxes as COCO's tools take them."""
    from pycocotools.coco import COCO

    coco: Any = COCO()
    boxes: list[dict[str, Any]] = []
    for image, one in enumerate(images):
        scores = one.get("scores", torch.ones(len(one["labels"])))
        for label, score, (left, top, right, bottom) in zip(
            one["labels"].tolist(), scores.tolist(), one["boxes"].tolist(), strict=True
        ):
            width, height = right - left, bottom - top
            box = {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0, "score": score}
            boxes.append(box | {"id": len(boxes) + 1, "image_id": image, "category_id": label})
    classes = [{"id": label} for label in sorted({box["category_id"] for box in boxes})]
    coco.dataset = {
        "images": [{"id": image} for image in range(len(images))],
        "annotations": boxes,
        "categories": classes,
    }
    coco.createIndex()
    return coco
