"""Figures for classifiers and segmentation networks: each as a pure function and as a `torchmetrics.Metric` over it.

Letters: N images, K classes, R repeats (pairs of views of one image), S shifts of a grid, (H, W) the images' size.

A pure function maps a batch to hits and trials *per image*, both (N,). The figure is the sum of hits over the sum of
trials, and its interval comes from the differences between images (`evaluation.intervals.effective_size`), so all that
is known of one image must come in one call. The metrics keep sums only: they add up over batches and processes.
"""

from collections.abc import Callable
from math import inf, nan
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from datamodules.dataset import UNLABELLED
from datamodules.transforms import roll, translate
from evaluation.intervals import Estimate, bounded, normal

Counts = tuple[Tensor, Tensor]
Kind = Literal["rate", "share", "mean"]  # hits are yes/no answers; hits lie in [0, trials]; hits are any number


def accuracy(logits: Tensor, targets: Tensor, top: int = 1) -> Counts:
    """Whether the class is among the `top` highest logits. Shape: (N, K), (N,) -> (N,), (N,)"""
    # argmax takes the first of equal logits; what topk takes depends on the device.
    best = logits.argmax(1, keepdim=True) if top == 1 else logits.topk(min(top, logits.shape[1]), dim=1).indices
    hits = (best == targets[:, None]).any(1)
    return hits, torch.ones_like(targets)


def loss(logits: Tensor, targets: Tensor) -> Counts:
    """Cross-entropy, in nats; unlabelled pixels are left out.

    Shape: (N, K), (N,) or (N, K, H, W), (N, H, W) -> (N,), (N,)
    """
    unlabelled = UNLABELLED if targets.dim() == 3 else -1  # a classifier may have a class of that number
    values = F.cross_entropy(logits.double(), targets.long(), reduction="none", ignore_index=unlabelled)
    return values.view(len(targets), -1).sum(1), (targets != unlabelled).view(len(targets), -1).sum(1)


def consistency(first: Tensor, second: Tensor) -> Counts:
    """How often two views of an image get the same class (Zhang 2019, section 4.2).

    Shape: predicted classes (N,) or (N, R), twice -> (N,), (N,)
    """
    same = (first == second).view(len(first), -1)
    return same.sum(1), torch.full_like(same[:, 0], same.shape[1], dtype=torch.int64)


def mean_probability_change(first: Tensor, second: Tensor) -> Counts:
    """|p_c(first view) - p_c(second view)|, c the top class of the first view (after Azulay & Weiss 2019).

    Shape: logits (N, K) or (N, R, K), twice -> (N,), (N,)
    """
    top = first.argmax(-1, keepdim=True)
    p, q = (logits.double().softmax(-1).gather(-1, top)[..., 0] for logits in (first, second))
    change = (p - q).abs().view(len(first), -1)
    return change.sum(1), torch.full_like(top.view(len(first), -1)[:, 0], change.shape[1])


def accuracy_worst_shift(classes: Tensor, targets: Tensor) -> Counts:
    """Whether an image's class is right at *every* shift (Engstrom 2019). Shape: (N, S), (N,) -> (N,), (N,)"""
    return (classes == targets[:, None]).all(1), torch.ones_like(targets)


def accuracy_mean_shift(classes: Tensor, targets: Tensor) -> Counts:
    """At how many of the shifts an image's class is right. Shape: (N, S), (N,) -> (N,), (N,)"""
    return (classes == targets[:, None]).sum(1), torch.full_like(targets, classes.shape[1])


def probability_wobble(probabilities: Tensor) -> Counts:
    """Largest less least probability of the true class over an image's shifts. Shape: (N, S) -> (N,), (N,)"""
    change = probabilities.amax(1) - probabilities.amin(1)
    return change, torch.ones_like(change)


def top1_change_1px(classes: Tensor) -> Counts:
    """How often a shift by one pixel, up, down, left or right, changes the class (Azulay & Weiss 2019, section 2).

    Shape: classes at every shift of a square grid, the unshifted one in its middle, (N, side, side) -> (N,), (N,)
    """
    m = classes.shape[1] // 2
    shifted = torch.stack([classes[:, m + y, m + x] for y, x in ((-1, 0), (1, 0), (0, -1), (0, 1))], 1)
    return (shifted != classes[:, m, m, None]).sum(1), torch.full_like(classes[:, 0, 0], 4)


def flip_rate(classes: Tensor) -> Counts:
    """How often the class differs between consecutive frames of a path (Hendrycks & Dietterich 2019, section 4.2).

    Shape: the T frames' classes (N, T) -> (N,), (N,)
    """
    flips = classes[:, 1:] != classes[:, :-1]
    return flips.sum(1), torch.full_like(classes[:, 0], flips.shape[1])


def pixel_accuracy(classes: Tensor, masks: Tensor) -> Counts:
    """Labelled pixels whose class is right. Shape: (N, H, W), (N, H, W) -> (N,), (N,)"""
    labelled = masks != UNLABELLED
    return ((classes == masks) & labelled).sum((1, 2)), labelled.sum((1, 2))


def shift_equivariance(classes: Tensor, shifted: Tensor, dy: Tensor, dx: Tensor, wrap: bool) -> Counts:
    """Pixels that keep their class when the image is shifted and the prediction shifted back (Rojas-Gomez 2022).

    Shape: classes of the image (N, H, W), of its shifts (N, R, H, W), shifts in pixels (N, R), twice -> (N,), (N,)
    Args:
        wrap: the images were rolled, and every pixel counts; else only those that are in both views.
    """
    N, R, H, W = shifted.shape
    dy, dx = -dy.flatten(), -dx.flatten()
    same = roll(shifted.reshape(-1, H, W), dy, dx).view(N, R, H, W) == classes[:, None]
    if wrap:
        return same.sum((1, 2, 3)), torch.full_like(dy[:N], R * H * W)
    seen = translate(torch.ones_like(same).view(-1, H, W), dy, dx, fill=False).view(N, R, H, W)
    return (same & seen).sum((1, 2, 3)), seen.sum((1, 2, 3))


def intersections_and_unions(classes: Tensor, masks: Tensor, K: int) -> Counts:
    """Pixels of each class in both and in either of prediction and mask, unlabelled ones left out.

    Shape: (N, H, W), (N, H, W) -> (N, K), (N, K)
    """
    N = len(masks)
    labelled = masks != UNLABELLED
    image = torch.arange(N, device=masks.device)[:, None, None] * K

    def count(values: Tensor, where: Tensor) -> Tensor:
        return torch.bincount((image + values.long())[where], minlength=N * K).view(N, K)

    both = count(masks, labelled & (classes == masks))
    return both, count(classes, labelled) + count(masks, labelled) - both


def ratio(hits: Tensor, trials: Tensor, kind: Kind = "rate") -> Estimate:
    """The figure and its interval from hits and trials per image, each (N,)."""
    return _ratio(_moments(hits, trials), kind)


def mean_iou(intersections: Tensor, unions: Tensor) -> Estimate:
    """Mean over classes of intersection over union, each over all images; classes that occur nowhere are left out.

    Shape: (N, K), (N, K), as `intersections_and_unions` gives them
    """
    areas = torch.cat((intersections, unions), 1).double()
    return _mean_iou(areas.sum(0), areas.T @ areas, len(areas))


class Ratio(Metric):
    """Sum of hits over sum of trials: `update(hits, trials)` takes them per image, (N,) each.

    A subclass names its pure function: `update` takes that function's tensors, the constructor its other arguments.
    `compute()` gives the value for a logger, `estimate()` with its interval. Both reduce over processes.
    """

    is_differentiable = False
    full_state_update = False
    counts: ClassVar[Callable[..., Counts]] = staticmethod(lambda hits, trials: (hits, trials))
    kind: Kind = "rate"
    moments: Tensor

    def __init__(self, kind: Kind | None = None, **options: Any) -> None:
        super().__init__()
        self.kind, self.options = kind or self.kind, options
        self.add_state("moments", torch.zeros(6, dtype=torch.float64), "sum")

    def update(self, *tensors: Tensor) -> None:
        self.moments += _moments(*type(self).counts(*tensors, **self.options)).to(self.moments.device)

    def compute(self) -> Tensor:
        return (self.moments[1] / self.moments[2]).float()

    def estimate(self) -> Estimate:
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return _ratio(self.moments, self.kind)


class Accuracy(Ratio):
    """`accuracy` over `update(logits, targets)`; `top=5` for top-5 accuracy."""

    higher_is_better = True
    counts = staticmethod(accuracy)


class Loss(Ratio):
    """`loss` over `update(logits, targets)`."""

    kind = "mean"
    higher_is_better = False
    counts = staticmethod(loss)


class Consistency(Ratio):
    """`consistency` over `update(first, second)`, predicted classes (N,) or (N, R)."""

    higher_is_better = True
    counts = staticmethod(consistency)


class MeanProbabilityChange(Ratio):
    """`mean_probability_change` over `update(first, second)`, logits (N, K) or (N, R, K)."""

    kind = "share"
    higher_is_better = False
    counts = staticmethod(mean_probability_change)


class AccuracyWorstShift(Ratio):
    """`accuracy_worst_shift` over `update(classes, targets)`, (N, S) and (N,)."""

    higher_is_better = True
    counts = staticmethod(accuracy_worst_shift)


class AccuracyMeanShift(Ratio):
    """`accuracy_mean_shift` over `update(classes, targets)`, (N, S) and (N,)."""

    higher_is_better = True
    counts = staticmethod(accuracy_mean_shift)


class ProbabilityWobble(Ratio):
    """`probability_wobble` over `update(probabilities)`, (N, S)."""

    kind = "share"
    higher_is_better = False
    counts = staticmethod(probability_wobble)


class Top1Change(Ratio):
    """`top1_change_1px` over `update(classes)`, (N, side, side)."""

    higher_is_better = False
    counts = staticmethod(top1_change_1px)


class FlipRate(Ratio):
    """`flip_rate` over `update(classes)`, (N, T)."""

    higher_is_better = False
    counts = staticmethod(flip_rate)


class PixelAccuracy(Ratio):
    """`pixel_accuracy` over `update(classes, masks)`, (N, H, W) each."""

    higher_is_better = True
    counts = staticmethod(pixel_accuracy)


class ShiftEquivariance(Ratio):
    """`shift_equivariance` over `update(classes, shifted, dy, dx)`; `wrap` as there."""

    higher_is_better = True
    counts = staticmethod(shift_equivariance)


class MeanIoU(Metric):
    """`mean_iou` over `update(classes, masks)`, (N, H, W) each. Keeps 4 K^2 sums for its interval."""

    is_differentiable = False
    full_state_update = False
    higher_is_better = True
    images: Tensor
    areas: Tensor
    products: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        size = 2 * num_classes
        self.add_state("images", torch.zeros((), dtype=torch.int64), "sum")
        self.add_state("areas", torch.zeros(size, dtype=torch.float64), "sum")
        self.add_state("products", torch.zeros(size, size, dtype=torch.float64), "sum")

    def update(self, classes: Tensor, masks: Tensor) -> None:
        areas = torch.cat(intersections_and_unions(classes, masks, self.num_classes), 1).to(self.areas)
        self.images += len(areas)
        self.areas += areas.sum(0)
        self.products += areas.T @ areas

    def compute(self) -> Tensor:
        return torch.tensor(_mean_iou(self.areas, self.products, int(self.images)).value, device=self.areas.device)

    def estimate(self) -> Estimate:
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return _mean_iou(self.areas, self.products, int(self.images))


def _moments(hits: Tensor, trials: Tensor) -> Tensor:
    """The sums over images of 1 (of those with trials), h, t, h^2, h t, t^2: (6,)."""
    h, t = hits.double(), trials.double()
    return torch.stack(((t > 0).double(), h, t, h * h, h * t, t * t)).sum(1)


def _ratio(moments: Tensor, kind: Kind) -> Estimate:
    images, h, t, hh, ht, tt = moments.tolist()
    if not t:
        return Estimate(nan, nan, nan, int(images))
    value = h / t
    # The ratio estimator: each image's hits less what the overall rate expects of its trials.
    variance = max(hh - 2 * value * ht + value**2 * tt, 0.0) / t**2
    if kind == "mean":
        interval = normal(value, variance)
    else:
        interval = bounded(value, variance, int(images), t if kind == "rate" else inf)
    return Estimate(value, *interval, int(images))


def _mean_iou(areas: Tensor, products: Tensor, images: int) -> Estimate:
    """From the sums over images of v = (intersections, unions), (2K,), and of v v^T, (2K, 2K)."""
    intersection, union = areas.view(2, -1)
    present = union > 0
    if not present.any():
        return Estimate(nan, nan, nan, images)
    safe = union.clamp(min=1)
    iou, weight = intersection / safe, present / (safe * present.sum())
    value = float((intersection * weight).sum())
    # Delta method: the figure's gradient by the sums. Its product with the sums is 0: the products need no centring.
    gradient = torch.cat((weight, -iou * weight))
    return Estimate(value, *bounded(value, max(float(gradient @ products @ gradient), 0.0), images), images)
