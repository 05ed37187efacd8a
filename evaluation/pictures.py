"""Pictures of an evaluation, as matplotlib figures.

Letters: n images; a grid of shifts has 2m + 1 offsets a side; (H, W) the images' size.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from evaluation.cam_measure import Strip
from evaluation.metrics import ratio
from evaluation.run import Evaluation

CAPTIONS = {
    "grid": "Accuracy, and agreement with the unshifted image, at every shift of the grid.",
    "diagonal": "Probability of the true class while the image moves along the diagonal. Line: mean; band: the middle "
    "half of the images; thin lines: a few images.",
    "distance": "Agreement with the unshifted image against the size of the shift, the larger of |dx| and |dy|. Bars: "
    "95% intervals.",
    "sites": "Distance between the shifted map and the map of the shifted image, before and after each site: "
    "0 is equivariant, 1 unrelated. A step up names the site that breaks equivariance. Bars: 95% intervals.",
    "cams": "Class activation maps: of the image, of the shifted image shifted back, and their difference, raw, on one "
    "colour scale for each image. Where a map is 0 everywhere, nothing in the image spoke for the class.",
    "pairs": "Segmentation: the image, its predicted classes, those of the shifted image shifted back, and (red) where "
    "they differ.",
}


def draw(evaluation: Evaluation, class_names: Sequence[str]) -> dict[str, Figure]:
    """Every picture that the evaluation has the data for, by the names of `CAPTIONS`."""
    figures: dict[str, Figure] = {}
    details = evaluation.details
    if "grid.right" in details:
        figures["grid"] = shift_grid(details["grid.right"], details["grid.same"])
        figures["diagonal"] = diagonal(details["grid.probability"])
        figures["distance"] = consistency_by_distance(details["grid.same"])
    distances = {name.removeprefix("distance/"): f for name, f in evaluation.figures.items() if "distance/" in name}
    if distances:
        figures["sites"] = site_distances(distances)
    if evaluation.strips:
        figures["cams"] = cam_strips(evaluation.strips, class_names)
    if evaluation.pairs:
        figures["pairs"] = segmentation_pairs(evaluation.pairs, class_names)
    return figures


def shift_grid(right: Tensor, same: Tensor) -> Figure:
    """Two heatmaps over the grid. Shape: boolean (n, 2m + 1, 2m + 1), twice"""
    m = right.shape[1] // 2
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = zip(figure.subplots(1, 2), (right, same), ("accuracy", "same class as unshifted"), strict=True)
    for axes, values, title in panels:
        rates = values.double().mean(0).numpy()
        scale: dict[str, Any] = {"cmap": "viridis", "vmin": min(rates.min(), 0.9), "vmax": 1}
        drawn = axes.imshow(rates, extent=(-m - 0.5, m + 0.5, m + 0.5, -m - 0.5), **scale)
        low, high = drawn.get_clim()
        if m <= 4:
            for (y, x), rate in np.ndenumerate(rates):
                colour = "white" if rate < (low + high) / 2 else "black"
                axes.text(x - m, y - m, f"{rate:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set(title=title, xlabel="shift right, pixels", ylabel="shift down, pixels")
        figure.colorbar(drawn, ax=axes, shrink=0.85)
    return figure


def diagonal(probability: Tensor) -> Figure:
    """p(true class) from the upper left to the lower right corner of the grid. Shape: (n, 2m + 1, 2m + 1)"""
    m = probability.shape[1] // 2
    along = probability.diagonal(dim1=1, dim2=2).double().numpy()
    offsets = np.arange(-m, m + 1)
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for line in along[:8]:
        axes.plot(offsets, line, color="0.6", lw=0.7)
    low, high = np.quantile(along, [0.25, 0.75], axis=0)
    axes.fill_between(offsets, low, high, color="C0", alpha=0.25, lw=0)
    axes.plot(offsets, along.mean(0), color="C0", marker="o", ms=4, lw=2)
    axes.set(xlabel="shift right and down, pixels", ylabel="p(true class)", ylim=(-0.03, 1.03))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    return figure


def consistency_by_distance(same: Tensor) -> Figure:
    """Agreement with the unshifted image over max(|dx|, |dy|). Shape: boolean (n, 2m + 1, 2m + 1)"""
    n, side, _ = same.shape
    m = side // 2
    steps = torch.arange(-m, m + 1).abs()
    ring = torch.maximum(steps[:, None], steps)
    found = [ratio(own.sum(1), torch.full((n,), own.shape[1])) for own in (same[:, ring == r] for r in range(m + 1))]
    mean = np.array([rate.value for rate in found])
    bars = np.array([(rate.value - rate.low, rate.high - rate.value) for rate in found]).T
    bars[:, 0] = 0  # the unshifted image agrees with itself
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(range(m + 1), mean, bars, marker="o", capsize=3)
    axes.set(xlabel="shift, pixels", ylabel="same class as unshifted", xticks=range(m + 1))
    axes.set_ylim(top=min(1.005, float(mean.max()) + 0.02))
    axes.grid(alpha=0.3)
    return figure


def site_distances(distances: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Bars before and after each site, from figures by `SITE/in` and `SITE/out`."""
    sites = list(dict.fromkeys(name.rpartition("/")[0] for name in distances))
    figure = Figure(figsize=(max(5.0, 1.0 + 0.75 * len(sites)), 4), layout="constrained")
    axes = figure.subplots()
    for side, (part, colour) in enumerate((("in", "0.65"), ("out", "C0"))):
        own = [distances.get(f"{site}/{part}") for site in sites]
        values = [f["value"] if f and f["value"] is not None else np.nan for f in own]
        errors = [(f["interval"][1] - f["value"]) if f and f["value"] is not None else np.nan for f in own]
        places = np.arange(len(sites)) + 0.4 * side - 0.2
        label = {"in": "before", "out": "after"}[part]
        axes.bar(places, values, 0.38, yerr=errors, color=colour, label=label, capsize=2)
    slant: dict[str, Any] = {"rotation": 40, "ha": "right"} if max(map(len, sites)) > 8 else {}
    axes.set_xticks(range(len(sites)), sites, **slant)
    axes.set(ylabel="distance from equivariance")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3, axis="y")
    return figure


def cam_strips(strips: Sequence[Strip], class_names: Sequence[str]) -> Figure:
    """A row for each image: image, CAM, shifted-back CAM of the shifted image, difference; one colour scale a row."""
    figure = Figure(figsize=(7.6, 1.75 * len(strips) + 0.3), layout="constrained")
    grid = figure.subplots(len(strips), 4, squeeze=False)
    for row, strip in zip(grid, strips, strict=True):
        most = max(float(strip.cam.abs().max()), float(strip.back.abs().max())) or 1.0
        scale: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most, "vmax": most}
        show(row[0], channels_last(strip.image))
        maps = (strip.cam, strip.back, strip.back - strip.cam)
        drawn = [show(axes, values.numpy(), **scale) for axes, values in zip(row[1:], maps, strict=True)]
        row[0].set_ylabel(f"{class_names[strip.label]}\nshift {strip.shift[0]:+d}, {strip.shift[1]:+d}", fontsize=9)
        figure.colorbar(drawn[0], ax=row[3], shrink=0.9).ax.tick_params(labelsize=7)
    for axes, title in zip(grid[0], ("image", "CAM", "shifted, back", "difference"), strict=True):
        axes.set_title(title, fontsize=10)
    return figure


def segmentation_pairs(pairs: Sequence[tuple[Tensor, Tensor, Tensor]], class_names: Sequence[str]) -> Figure:
    """A column for each image: image, classes, classes of the shifted image shifted back, where these differ."""
    count, classes = len(pairs), len(class_names)
    figure = Figure(figsize=(1.5 * count + 1.2, 6.2), layout="constrained")
    grid = figure.subplots(4, count, squeeze=False)
    colours: dict[str, Any] = {"cmap": colormaps["tab20"].resampled(classes), "vmin": -0.5, "vmax": classes - 0.5}
    drawn = None
    for column, (image, plain, back) in zip(grid.T, pairs, strict=True):
        show(column[0], channels_last(image))
        for axes, values in zip(column[1:3], (plain, back), strict=True):
            drawn = show(axes, values.numpy(), **colours)
        show(column[3], (plain != back).float().numpy(), cmap="Reds", vmin=0, vmax=1)
    for axes, name in zip(grid[:, 0], ("image", "predicted", "shifted, back", "different"), strict=True):
        axes.set_ylabel(name, fontsize=9)
    if drawn is not None and classes <= 20:
        bar = figure.colorbar(drawn, ax=grid[1:3], ticks=range(classes), shrink=0.9)
        bar.ax.set_yticklabels(class_names, fontsize=7)
    return figure


def show(axes: Axes, pixels: np.ndarray, **arguments: Any) -> Any:
    """An image without ticks and smoothing; grey for (H, W) unless the arguments give colours."""
    axes.set_xticks([])
    axes.set_yticks([])
    grey: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if pixels.ndim == 2 and not arguments else {}
    return axes.imshow(pixels, interpolation="nearest", **(arguments or grey))


def channels_last(image: Tensor) -> np.ndarray:
    """(C, H, W) -> (H, W, 3) or, for one channel, (H, W)."""
    return image[0].numpy() if image.shape[0] == 1 else image[:3].permute(1, 2, 0).numpy()
