"""Figures of class activation maps: do they move with the image, do they find the object, do they matter.

All maps are at the image's resolution. Letters: N images, (H, W) their size, T thresholds.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from datamodules.transforms import roll, translate
from evaluation.intervals import Estimate, wilson
from evaluation.metrics import Counts, Ratio
from evaluation.views import Predict

IOUS = (0.3, 0.5, 0.7)
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(20))


def cam_equivariance(maps: Tensor, shifted: Tensor, dy: Tensor, dx: Tensor) -> dict[str, Counts]:
    """The CAM of the image against that of its circular shift, shifted back; raw maps of one class, where both see.

    cam_equivariance: their correlation over pixels. cam_equivariance_l2: the norm of their difference over the root
    mean square of their norms, from 0 to 2. cam_displacement: how far the largest value moves, in pixels. Images of
    which a map is constant have none.

    Shape: maps (N, H, W), of the shifted images (N, H, W), shifts (N,), twice -> by figure (N,), (N,)
    """
    back = roll(shifted, -dy, -dx)
    seen = translate(torch.ones_like(maps, dtype=torch.bool), -dy, -dx, fill=False)
    count = seen.sum((1, 2))

    def centred(x: Tensor) -> Tensor:
        return (x - ((x * seen).sum((1, 2)) / count)[:, None, None]) * seen

    first, second = centred(maps.double()), centred(back.double())
    power, other = first.square().sum((1, 2)), second.square().sum((1, 2))
    raw = ((maps.double().square() + back.double().square()) * seen).sum((1, 2)) / 2
    alive = (power > 1e-12 * raw) & (other > 1e-12 * raw)
    scale = torch.where(alive, (power * other).sqrt(), 1)
    correlation = (first * second).sum((1, 2)) / scale * alive
    difference = ((maps - back).double().square() * seen).sum((1, 2))
    relative = (difference / torch.where(raw > 0, raw, 1)).sqrt() * alive
    (y, x), (y_back, x_back) = (argmax(m.where(seen, -torch.inf)) for m in (maps, back))
    displacement = torch.hypot((y - y_back).double(), (x - x_back).double()) * alive
    trials = alive.long()
    return {
        "cam_equivariance": (correlation, trials),
        "cam_equivariance_l2": (relative, trials),
        "cam_displacement": (displacement, trials),
    }


def pointing_game(maps: Tensor, masks: Tensor) -> Counts:
    """Whether a map's largest value lies on the object (Zhang et al. 2018, section 4.2, without its tolerance).

    Shape: (N, H, W), boolean (N, H, W) -> (N,), (N,); images without the object have no trial
    """
    y, x = argmax(maps)
    hits = masks[torch.arange(len(masks), device=masks.device), y, x]
    return hits, masks.flatten(1).any(1).long()


def energy_in_mask(maps: Tensor, masks: Tensor) -> Counts:
    """The share of a map's positive part that lies on the object (the energy-based pointing game of Wang et al. 2020).

    Shape: (N, H, W), boolean (N, H, W) -> (N,), (N,); images without the object, or without a positive value, have none
    """
    positive = maps.relu().double()
    total = positive.sum((1, 2))
    trials = (total > 0) & masks.flatten(1).any(1)
    return (positive * masks).sum((1, 2)) / torch.where(total > 0, total, 1) * trials, trials.long()


def box_ious(maps: Tensor, masks: Tensor) -> Tensor:
    """IoU of the object's box with the box around the largest connected part of the map above each threshold.

    Thresholds are shares of the way from the map's least to its largest value, `THRESHOLDS` (Choe et al. 2020).

    Shape: (N, H, W), boolean (N, H, W) -> (N, T) on the CPU
    """
    above = maps.double() - maps.double().amin((1, 2), keepdim=True)
    most = above.amax((1, 2), keepdim=True)
    scaled = (above / torch.where(most > 0, most, 1)).cpu().numpy()  # a constant map is 0: no box above a threshold
    ious = np.zeros((len(maps), len(THRESHOLDS)))
    for n, (values, mask) in enumerate(zip(scaled, masks.cpu().numpy(), strict=True)):
        if mask.any():
            box = _bounds(mask)
            parts = [values >= threshold for threshold in THRESHOLDS]
            ious[n] = [_iou(_bounds(_largest(part)), box) if part.any() else 0 for part in parts]
    return torch.from_numpy(ious)


def deletion_insertion(
    predict: Predict, images: Tensor, maps: Tensor, classes: Tensor, fill: Tensor, steps: int = 16
) -> dict[str, Counts]:
    """Area under p_c while the most salient pixels go, or come (Petsiuk et al. 2018, section 3.2).

    deletion: they are replaced by `fill`. insertion: they come into the blurred image.

    Shape: floating images (N, C, H, W) in [0, 1], (N, H, W), (N,), fill (C,) -> by figure (N,), (N,)
    """
    N, _, H, W = images.shape
    # Ties go by place, so that a constant map deletes from the top.
    rank = maps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view(N, 1, H, W)
    empty, blurred = fill.view(1, -1, 1, 1).to(images).expand_as(images), blur(images)
    areas = {name: torch.zeros(N, dtype=torch.float64, device=images.device) for name in ("deletion", "insertion")}
    for step in range(steps + 1):
        gone = rank < round(step / steps * H * W)
        weight = (0.5 if step in (0, steps) else 1.0) / steps  # the trapezium rule
        for name, views in (("deletion", (empty, images)), ("insertion", (images, blurred))):
            logits = predict(torch.where(gone, *views))
            areas[name] += weight * logits.double().softmax(1).gather(1, classes[:, None])[:, 0]
    return {name: (area, torch.ones_like(classes)) for name, area in areas.items()}


def blur(images: Tensor) -> Tensor:
    """Gaussian blur whose deviation is a sixteenth of the image's side. Shape: (N, C, H, W) -> (N, C, H, W)"""
    for axis in (-2, -1):
        side = images.shape[axis]
        sigma = side / 16
        reach = min(int(3 * sigma + 0.5), side - 1)
        weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=images.device) / sigma) ** 2).to(images)
        kernel = (weights / weights.sum()).view(1, 1, *((-1, 1) if axis == -2 else (1, -1)))
        pad = (0, 0, reach, reach) if axis == -2 else (reach, reach, 0, 0)
        flat = F.pad(images.flatten(0, 1)[:, None], pad, mode="reflect")
        images = F.conv2d(flat, kernel).view(images.shape)
    return images


def argmax(maps: Tensor) -> tuple[Tensor, Tensor]:
    """(y, x) of each map's largest value. Shape: (N, H, W) -> (N,), (N,)"""
    place = maps.flatten(1).argmax(1)
    return place // maps.shape[2], place % maps.shape[2]


class CamEquivariance(Ratio):
    """`cam_equivariance` over `update(maps, shifted, dy, dx)`; `figure`: which of its three."""

    kind = "mean"

    def __init__(self, figure: str = "cam_equivariance") -> None:
        super().__init__(figure=figure)

    @staticmethod
    def counts(*tensors: Tensor, figure: str) -> Counts:  # pyright: ignore[reportIncompatibleVariableOverride]
        return cam_equivariance(*tensors)[figure]


class Deletion(Ratio):
    """`deletion_insertion` over `update(images, maps, classes)`; `predict`, `fill` and `steps` as there."""

    kind = "share"
    higher_is_better = False
    counts = staticmethod(
        lambda images, maps, classes, predict, **options: deletion_insertion(predict, images, maps, classes, **options)[
            "deletion"
        ]
    )


class Insertion(Ratio):
    """The same for insertion."""

    kind = "share"
    higher_is_better = True
    counts = staticmethod(
        lambda images, maps, classes, predict, **options: deletion_insertion(predict, images, maps, classes, **options)[
            "insertion"
        ]
    )


class PointingGame(Ratio):
    """`pointing_game` over `update(maps, masks)`."""

    higher_is_better = True
    counts = staticmethod(pointing_game)


class EnergyInMask(Ratio):
    """`energy_in_mask` over `update(maps, masks)`."""

    kind = "share"
    higher_is_better = True
    counts = staticmethod(energy_in_mask)


class MaxBoxAcc(Metric):
    """The share of images whose box has at least this IoU, at the threshold that is best for all (Choe et al. 2020).

    `update(ious)` takes what `box_ious` gives. The interval does not know that the threshold was chosen.
    """

    is_differentiable = False
    full_state_update = False
    higher_is_better = True
    hits: Tensor
    images: Tensor

    def __init__(self, iou: float) -> None:
        super().__init__()
        self.iou = iou
        self.add_state("hits", torch.zeros(len(THRESHOLDS), dtype=torch.float64), "sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), "sum")

    def update(self, ious: Tensor) -> None:
        self.hits += (ious >= self.iou).sum(0).to(self.hits)
        self.images += len(ious)

    def compute(self) -> Tensor:
        return (self.hits.max() / self.images).float()

    def estimate(self) -> Estimate:
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            n = int(self.images)
            if not n:
                return Estimate(torch.nan, torch.nan, torch.nan, 0)
            rate = float(self.hits.max()) / n
            return Estimate(rate, *wilson(rate, n), n)


def _largest(where: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(where)  # pyright: ignore[reportGeneralTypeIssues]
    return where if count < 2 else labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def _bounds(where: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the true pixels, the last two exclusive."""
    rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _iou(a: Sequence[int], b: Sequence[int]) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both)
