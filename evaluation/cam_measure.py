"""The figures of a network's CAMs over a data set, and a few maps to look at.

Letters: N images of a batch, (H, W) their size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.transforms import roll
from evaluation.cam import ClassMaps, check_method, upsample
from evaluation.cam_figures import (
    IOUS,
    THRESHOLDS,
    MaxBoxAcc,
    box_ious,
    cam_equivariance,
    deletion_insertion,
    energy_in_mask,
    pointing_game,
)
from evaluation.layers import Batches
from evaluation.metrics import Counts, Kind, Ratio
from evaluation.shift import Measurement, as_json
from evaluation.views import Batch, Protocol, check_larger, floating

KINDS: dict[str, Kind] = {
    "cam_equivariance": "mean",
    "cam_equivariance_l2": "mean",
    "cam_displacement": "mean",
    "deletion": "share",
    "insertion": "share",
    "pointing_game": "rate",
    "energy_in_mask": "share",
}
STRIPS = 6

# The objects of some images: indices and targets (N,) or (N, H, W), classes (N,) -> boolean (N, H, W).
Objects = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Cam(Protocol):
    """CAMs of images with index < `limit`, and of their rolls by offsets uniform in [-m, m].

    Shifts and `deletion` use the class that the network sees in the image as it is; the figures of where the object is
    use its true class. For segmentation: the most frequent class of the mask but 0, and the pixels predicted as it.
    """

    m: int = 3
    repeats: int = 1
    limit: int = 200
    steps: int = 16
    method: str = "grad_cam"
    layer: str | None = None
    name = "cam"
    stream = 7
    words = ("method", "layer")

    def __post_init__(self) -> None:
        check_method(self.method)
        super().__post_init__()

    def check(self, H: int, W: int) -> None:
        check_larger(self, self.m, H, W)

    def passes(self, images: int, segmentation: bool = False) -> int:
        maps = 3 * (2 + self.repeats)  # a map takes a pass forward and one backward, which costs two
        return (1 + maps + (0 if segmentation else 2 * (self.steps + 1))) * min(images, self.limit)


@dataclass
class Strip:
    """An image and its CAM; the CAM of the rolled image, rolled back. uint8 (C, H, W), and (H, W) twice."""

    image: Tensor
    cam: Tensor
    back: Tensor
    label: int
    shift: tuple[int, int]


@dataclass
class CamMeasurement(Measurement):
    strips: list[Strip] = field(default_factory=list)


def measure_cams(
    net: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    batches: Batches,
    protocol: Cam,
    fill: Tensor,
    objects: Objects | None = None,
    seed: int = 0,
    *,
    progress: Callable[[int], object] | None = None,
) -> CamMeasurement:
    """cam_equivariance, cam_equivariance_l2, cam_displacement; for classifiers deletion and insertion; with `objects`
    pointing_game, energy_in_mask and max_box_acc_30, _50, _70.

    Args:
        net: in evaluation mode. prepare: images as the batches have them -> normalised, on the network's device.
        fill: the colour of deleted pixels, (C,) in [0, 1].
    Raises:
        ValueError: a network without a spatial map, a method that does not fit it, images smaller than the shifts.
    """
    result, ratios = CamMeasurement(), {}
    boxes = {f"max_box_acc_{round(100 * iou)}": MaxBoxAcc(iou) for iou in IOUS}
    maps_of: ClassMaps | None = None
    size, seen = (0, 0), 0

    def note(indices: Tensor, counts: dict[str, Counts]) -> None:
        for name, pair in counts.items():
            ratios.setdefault(name, Ratio(KINDS[name])).update(*(part.cpu() for part in pair))
            result.note_counts(name, indices, pair)

    for images, targets, indices in batches:
        batch = Batch(images, targets, torch.as_tensor(indices), targets).first(protocol.limit)
        if not len(batch.indices):
            break
        H, W = size = (images.shape[-2], images.shape[-1])
        protocol.check(H, W)
        if maps_of is None:
            maps_of = ClassMaps(net, protocol.method, prepare(images[:1]), protocol.layer)
        with torch.no_grad():
            logits = net(prepare(batch.images))
        targets = batch.targets.to(logits.device).long()
        segmentation = targets.dim() == 3
        classes, regions = _chosen(logits, targets)
        low = maps_of(prepare(batch.images), classes, regions)
        moved = []
        for repeat in range(protocol.repeats):
            dy, dx = (batch.draw(protocol, seed, repeat, 2 * protocol.m + 1) - protocol.m)[:2].to(logits.device)
            rolled = prepare(roll(batch.images, *(d.to(batch.images.device) for d in (dy, dx))))
            there = maps_of(rolled, classes, None if regions is None else roll(regions, dy, dx))
            # The views are rolls, so the maps go round, too.
            pair = (upsample(low, size, wrap=True), upsample(there, size, wrap=True))
            moved.append(cam_equivariance(*pair, dy, dx))
            if repeat == 0:
                _keep_strips(result, batch, classes, *pair, dy, dx)
        sums = {
            name: [torch.stack(part).sum(0) for part in zip(*(m[name] for m in moved), strict=True)]
            for name in moved[0]
        }
        note(batch.indices, {name: (hits, trials) for name, (hits, trials) in sums.items()})
        if not segmentation:
            pictures = floating(batch.images)
            with torch.no_grad():
                counts = deletion_insertion(
                    lambda x: net(prepare(x)), pictures, upsample(low, size).to(pictures.device),
                    classes.to(pictures.device), fill, protocol.steps,
                )  # fmt: skip
            note(batch.indices, counts)
        if objects is not None:
            true = classes if segmentation else targets
            maps = low if segmentation or protocol.method == "eigen_cam" else maps_of(prepare(batch.images), true)
            maps, masks = upsample(maps, size), objects(batch.indices, targets, true).to(logits.device)
            there = masks.flatten(1).any(1)
            note(
                batch.indices,
                {"pointing_game": pointing_game(maps, masks), "energy_in_mask": energy_in_mask(maps, masks)},
            )
            ious = box_ious(maps[there], masks[there])
            for metric in boxes.values():
                metric.update(ious)
        seen += protocol.passes(len(batch.indices), segmentation)
        if progress is not None:
            progress(seen)
    stated = protocol.parameters(*size) | {"seed": seed, "layer": maps_of.layer if maps_of else None}
    result.figures = {name: as_json(figure, stated) for name, figure in ratios.items()}
    if objects is not None:
        thresholds: dict[str, Any] = {"thresholds": len(THRESHOLDS)}
        result.figures |= {name: as_json(figure, stated | thresholds) for name, figure in boxes.items()}
    return result


def _chosen(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """The class that a CAM is of, (N,), and for segmentation the pixels that it is of, (N, H, W)."""
    predicted = logits.argmax(1)
    if targets.dim() == 1:
        return predicted, None
    K = logits.shape[1]
    counts = torch.stack([(targets == c).sum((1, 2)) for c in range(1, K)], 1)
    classes = counts.argmax(1) + 1
    regions = predicted == classes[:, None, None]
    # Where the network does not see the class at all, the map is of every pixel: it must not know the mask.
    return classes, torch.where(regions.flatten(1).any(1)[:, None, None], regions, True)


def _keep_strips(
    result: CamMeasurement, batch: Batch, classes: Tensor, maps: Tensor, shifted: Tensor, dy: Tensor, dx: Tensor
) -> None:
    back = roll(shifted, -dy, -dx)
    for n in range(min(STRIPS - len(result.strips), len(classes))):
        shift = (int(dy[n]), int(dx[n]))
        result.strips.append(Strip(batch.images[n].cpu(), maps[n].cpu(), back[n].cpu(), int(classes[n]), shift))
