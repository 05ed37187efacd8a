"""Accuracy against consistency over runs, as a picture: a colour, marker and line for each model, a label for each
point, whose area is the throughput."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.comparison import Row, Stat, Summary, arrange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# By task: the figure on the x axis and the one on the y axis.
AXES = {"accuracy": ("consistency", "accuracy"), "mean_iou": ("shift_equivariance", "mean_iou")}
MARKERS = "osD^vPX*<>"
WIDTH, HEIGHT = 7.0, 4.6  # inches of one panel; at 150 dots per inch it fills a README's column
DPI = 150
SPEED = "train_images_per_second"
MARKER = 110.0  # area of the fastest run's marker, in square points
CLEAR = 3  # pixels kept free around a label
Box = tuple[float, float, float, float]  # left, bottom, right, top, in pixels


def write(summary: Summary, file: Path | str) -> None:
    """Draw and save; the file's ending gives the format.

    Raises:
        ValueError: no run has both figures, or a format that matplotlib does not write.
    """
    draw(summary).savefig(file, dpi=DPI)


def draw(summary: Summary) -> "Figure":
    """One panel for each data set. Bars are 95% intervals over seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], list[Row]] = {}
    for row in arrange(summary):
        if all(figure in row.figures for figure in AXES[row.main]):
            panels.setdefault((row.data, row.main), []).append(row)
    if not panels:
        raise ValueError("nothing to plot: no run has accuracy and consistency (mean_iou and shift_equivariance)")
    models = sorted({row.model for rows in panels.values() for row in rows})

    figure = Figure((WIDTH, HEIGHT * len(panels)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    legend: dict[str, Any] = {}
    for axes, ((data, main), rows) in zip(grid, panels.items(), strict=True):
        _panel(axes, rows, models, main)
        axes.set_title(data, loc="left")
        axes.set_title("marker area: images/s in training", loc="right", fontsize=8, color="0.4")
        legend |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(
        [legend[m] for m in models], models, loc="outside upper right", ncols=min(len(models), 6), frameon=False
    )
    figure.draw_without_rendering()  # fixes the layout, which labels need
    figure.set_layout_engine("none")
    for axes, rows in zip(grid, panels.values(), strict=True):
        _label(axes, rows, models)
    return figure


def _panel(axes: "Axes", rows: Sequence[Row], models: Sequence[str], main: str) -> None:
    fastest = max((row.figures[SPEED].mean for row in rows if SPEED in row.figures), default=0.0)
    for model in dict.fromkeys(row.model for row in rows):
        number = models.index(model)
        own = [row for row in rows if row.model == model]
        (x, x_error), (y, y_error) = (
            ([row.figures[f].mean for row in own], [row.figures[f].half_width or math.nan for row in own])
            for f in AXES[main]
        )
        colour, marker = _colour(number), MARKERS[number % len(MARKERS)]
        axes.errorbar(x, y, y_error, x_error, fmt="none", ecolor=(colour, 0.45), elinewidth=1, capsize=2)
        along = sorted(zip(x, y, strict=True))
        axes.plot(*zip(*along, strict=True), color=colour, alpha=0.35, lw=1, zorder=1)
        areas = [_area(row, fastest) for row in own]
        axes.scatter(x, y, areas, color=colour, marker=marker, label=model, zorder=3)
    x, y = AXES[main]
    axes.set_xlim(_limits([row.figures[x] for row in rows]))
    axes.set_ylim(_limits([row.figures[y] for row in rows]))
    axes.grid(alpha=0.3)
    axes.set(xlabel=x.replace("_", " "), ylabel={"mean_iou": "mean IoU"}.get(y, y))


def _limits(stats: Sequence[Stat]) -> tuple[float, float]:
    """An axis' ends. Points come first: with two seeds the bars can be so long that they press points together."""
    low, high = min(s.mean for s in stats), max(s.mean for s in stats)
    reach = 0.8 * (high - low) or math.inf
    start = max(min(s.mean - (s.half_width or 0) for s in stats), low - reach)
    end = min(max(s.mean + (s.half_width or 0) for s in stats), high + reach)
    margin = 0.12 * (end - start) or 0.01
    return start - margin, end + margin


def _area(row: Row, fastest: float) -> float:
    """A marker's area in square points, in proportion to images per second; never too small to see."""
    return max(MARKER * row.figures[SPEED].mean / fastest, MARKER / 12) if SPEED in row.figures else MARKER / 2


def _colour(number: int) -> str:
    return f"C{number % 10}"


def _label(axes: "Axes", rows: Sequence[Row], models: Sequence[str]) -> None:
    """Write each point's pooling beside it, where it covers the least of other labels, points and bars."""
    from matplotlib.patheffects import withStroke

    renderer = axes.figure.canvas.get_renderer()  # pyright: ignore
    points: list[tuple[float, float]] = []
    taken: list[Box] = []  # must not be covered
    bars: list[Box] = []  # should not
    for row in rows:
        x, y = (row.figures[figure] for figure in AXES[row.main])
        px, py = axes.transData.transform((x.mean, y.mean))
        left, bottom = axes.transData.transform((x.mean - (x.half_width or 0), y.mean - (y.half_width or 0)))
        points.append((px, py))
        taken.append((px - 12, py - 12, px + 12, py + 12))
        bars += [(left, py - 2, 2 * px - left, py + 2), (px - 2, bottom, px + 2, 2 * py - bottom)]
    several_heads = len({row.head for row in rows}) > 1
    left, bottom, right, top = axes.get_window_extent(renderer).extents
    frame = (left + CLEAR, bottom + CLEAR, right - CLEAR, top - CLEAR)
    for row, (x, y) in zip(rows, points, strict=True):
        text = f"{row.label} ({row.head})" if several_heads else row.label
        note = axes.annotate(text, (0, 0), xycoords="figure pixels", fontsize=9)
        extent = note.get_window_extent(renderer)
        places = list(_places(x, y, extent.width, extent.height))
        costs = [30 * _covered(box, taken) + _covered(box, bars) + 30 * _outside(box, frame) + d for box, d in places]
        (left, bottom, right, top), distance = places[costs.index(min(costs))]
        note.remove()
        taken.append((left, bottom, right, top))
        x_figure, y_figure = AXES[row.main]
        axes.annotate(
            text,
            (row.figures[x_figure].mean, row.figures[y_figure].mean),
            ((left - x) * 72 / DPI, (bottom - y) * 72 / DPI),  # in points: right in formats that have no pixels too
            textcoords="offset points",
            verticalalignment="bottom",
            fontsize=9,
            color=_colour(models.index(row.model)),
            path_effects=[withStroke(linewidth=2.5, foreground="white")],  # readable across a bar
            arrowprops={"arrowstyle": "-", "lw": 0.6, "color": "0.5", "shrinkB": 4} if distance > 24 else None,
        )


def _places(x: float, y: float, width: float, height: float) -> Iterator[tuple[Box, float]]:
    """Boxes around a point, and how far from it they are, in pixels: to the right and the left, then round about."""
    for gap in (16, 26, 40, 60, 85):
        for step in range(16):
            across, up = math.cos(step * math.pi / 8), math.sin(step * math.pi / 8)
            left = x + gap * across + width * (across - 1) / 2
            bottom = y + gap * up + height * (up - 1) / 2
            # A step off the horizontal costs a little, so that labels stand beside their points where they can.
            yield (left, bottom, left + width, bottom + height), gap + 4 * abs(up)


def _covered(box: Box, others: Sequence[Box]) -> float:
    """Pixels of the others that the box, with a margin, covers."""
    left, bottom, right, top = box[0] - CLEAR, box[1] - CLEAR, box[2] + CLEAR, box[3] + CLEAR
    return sum(max(min(right, b[2]) - max(left, b[0]), 0) * max(min(top, b[3]) - max(bottom, b[1]), 0) for b in others)


def _outside(box: Box, frame: Box) -> float:
    """How far the box sticks out of the frame, in pixels."""
    return sum(max(f - b, 0) for b, f in zip(box[:2], frame[:2], strict=True)) + sum(
        max(b - f, 0) for b, f in zip(box[2:], frame[2:], strict=True)
    )
