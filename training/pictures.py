"""Figures of a run, as matplotlib figures: feature maps around a site, predictions on a few images."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from evaluation.pictures import channels_last, show

MAPS = 4  # channels shown of each site: as many as stay readable in TensorBoard's thumbnails


def feature_maps(title: str, before: Tensor, after: Tensor) -> Figure:
    """The strongest channels before a site (upper row) and after it (lower row), one colour scale per column.

    Args:
        before, after: (C, H, W) and (C', H', W'). Where a convolution site changes the channels the rows are each
            ordered by their own strength.
    """
    count = min(MAPS, before.shape[0], after.shape[0])
    order = before.abs().mean(dim=(1, 2)).argsort(descending=True)[:count]
    same = before.shape[0] == after.shape[0]
    chosen = order if same else after.abs().mean(dim=(1, 2)).argsort(descending=True)[:count]
    figure = Figure(figsize=(1.5 * count + 0.4, 3.8), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    for column, (upper, lower) in enumerate(zip(order.tolist(), chosen.tolist(), strict=True)):
        top, bottom = before[upper].numpy(), after[lower].numpy()
        scales = [(top, bottom)] * 2 if same else [(top,), (bottom,)]
        for row, (part, scale) in enumerate(zip((top, bottom), scales, strict=True)):
            low, high = min(map(np.min, scale)), max(map(np.max, scale))
            show(axes[row, column], part, vmin=low, vmax=high, cmap="viridis")
            axes[row, column].set_title(f"channel {(upper, lower)[row]}", fontsize=9)
    for row, part in enumerate((before, after)):
        name = ("before", "after")[row]
        axes[row, 0].set_ylabel(f"{name}\n{part.shape[1]}x{part.shape[2]}", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def predictions(images: Tensor, probabilities: Tensor, targets: Tensor, class_names: Sequence[str]) -> Figure:
    """Images with the predicted class and its probability; in red, with the true class, where it is wrong.

    Args:
        images: uint8 (N, C, H, W). probabilities: (N, classes). targets: (N,).
    """
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.7 * columns, 2.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, chances, target in zip(axes.flat, images, probabilities, targets.tolist(), strict=False):
        best = int(chances.argmax())
        right = best == target
        show(axis, channels_last(image))
        text = f"{class_names[best]} {chances[best]:.0%}"
        axis.set_title(
            text if right else f"{text}\nis {class_names[target]}", fontsize=10, color="black" if right else "red"
        )
    return figure


def segmentations(images: Tensor, predicted: Tensor, targets: Tensor, class_names: Sequence[str]) -> Figure:
    """Images (upper row), true classes (middle) and predicted classes (lower).

    Args:
        images: uint8 (N, C, H, W). predicted, targets: (N, H, W) class indices.
    """
    count = min(6, len(images))
    figure = Figure(figsize=(1.5 * count + 1.2, 4.8), layout="constrained")
    axes = figure.subplots(3, count, squeeze=False)
    drawn, classes = None, len(class_names)
    colours = colormaps["tab20"].resampled(classes)
    for column in range(count):
        show(axes[0, column], channels_last(images[column]))
        for row, mask in ((1, targets[column]), (2, predicted[column])):
            drawn = show(axes[row, column], mask.numpy(), cmap=colours, vmin=-0.5, vmax=classes - 0.5)
    for row, name in enumerate(("image", "true", "predicted")):
        axes[row, 0].set_ylabel(name, fontsize=9)
    if drawn is not None and classes <= 20:
        bar = figure.colorbar(drawn, ax=axes, ticks=range(classes), shrink=0.8)
        bar.ax.set_yticklabels(class_names, fontsize=7)
    return figure


def detections(
    images: Tensor, found: Sequence[dict[str, Tensor]], class_names: Sequence[str], least: float = 0.5
) -> Tensor:
    """The images with the boxes whose score is at least `least`. Shape: uint8 (N, C, H, W) -> (N, 3, 4 H, 4 W)"""
    from torchvision.utils import draw_bounding_boxes

    drawn = []
    for image, one in zip(images.cpu(), found, strict=True):
        large = image.expand(3, -1, -1).repeat_interleave(4, 1).repeat_interleave(4, 2)
        good = one["scores"].cpu() >= least
        boxes, labels = 4 * one["boxes"].cpu()[good], [str(class_names[i]) for i in one["labels"].cpu()[good].tolist()]
        drawn.append(draw_bounding_boxes(large, boxes, labels, colors="yellow") if len(boxes) else large)
    return torch.stack(drawn)
