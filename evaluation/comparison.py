"""One table over many runs: means and 95% intervals over seeds. Plain Python, so that `compare.py` starts at once.

render(summarise(load(["runs"])), sort="accuracy")
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.intervals import student_t
from evaluation.results import MAIN, NAMES, Run, Runs, load

if TYPE_CHECKING:
    from rich.console import RenderableType

    from evaluation.paired import Difference

__all__ = ["Row", "Stat", "Summary", "arrange", "load", "render", "report", "summarise"]

# Columns of the table, in order, with the headers that make it fit; a figure that no run has is left out.
SHOWN = {
    "accuracy": "accuracy",
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel\naccuracy",
    "map": "mAP",
    "map_50": "mAP\nat 0.5",
    "consistency": "consistency",
    "consistency_circular": "consistency\ncircular",
    "accuracy_worst_shift": "worst-shift\naccuracy",
    "cam_equivariance": "CAM equi-\nvariance",
    "shift_equivariance": "shift equi-\nvariance",
    "parameters": "param-\neters",
    "train_images_per_second": "images/s\ntraining",
    "inference_images_per_second": "images/s\ninference",
}
WIDTH = 120
SPEEDS = ("train_images_per_second", "inference_images_per_second")
COUNTS = ("parameters", "flops", *SPEEDS, "seconds", "epochs")  # shown as 61.7k, without interval
LESS_IS_BETTER = (
    "loss", "mean_probability_change", "top1_change_1px", "flip_rate", "probability_wobble", "local_equivariance_error",
    "cam_equivariance_l2", "cam_displacement", "deletion", "parameters", "flops", "seconds", "epochs",
)  # fmt: skip


class Stat(NamedTuple):
    """Mean of a figure over n seeds, or of a difference over n images, and half of its 95% interval (n = 1: None)."""

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seed only. `settings` says what tells them from others of the same names."""

    data: str
    model: str
    head: str
    pooling: str
    settings: str
    seeds: int
    figures: dict[str, Stat]
    values: dict[str, dict[int, float]] = field(default_factory=dict)  # by figure and seed
    evaluations: dict[int, list[Path]] = field(default_factory=dict)  # by seed, the newest first

    @property
    def main(self) -> str:
        return next(name for name in MAIN if name in self.figures)

    @property
    def label(self) -> str:
        return f"{self.pooling} {self.settings}".strip()

    def sort_key(self, column: str) -> tuple[bool, Any]:
        if column in NAMES:
            return False, getattr(self, column)
        value = self.seeds if column == "seeds" else self.figures[column].mean if column in self.figures else None
        return value is None, 0 if value is None else value if column in LESS_IS_BETTER else -value


@dataclass(frozen=True)
class Summary:
    rows: list[Row]
    notes: list[str]

    def columns(self) -> list[str]:
        """All that there is to sort by."""
        found = {name: None for row in self.rows for name in row.figures}
        return [*NAMES, "seeds", *(n for n in SHOWN if n in found), *(n for n in found if n not in SHOWN)]


def summarise(runs: Runs) -> Summary:
    """One row for each data, model, head and pooling, and for each setting in which runs of these differ.

    Of two runs with the same seed and settings the newest counts, and a note says so.
    """
    notes = list(runs.notes)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(runs.runs, key=lambda run: run.started):
        groups.setdefault((*run.names, run.main), []).append(run)
    rows = []
    for group in groups.values():
        for settings, same in _variants(group).items():
            newest = {run.results["seed"]: run for run in same}
            row = _row(list(newest.values()), settings)
            for seed, run in newest.items():
                if (count := sum(other.results["seed"] == seed for other in same)) > 1:
                    of = " ".join((row.data, row.model, row.label))
                    notes.append(f"{count} runs of {of} with seed {seed}: the newest counts ({run.folder})")
            rows.append(row)
    return Summary(rows, notes)


def arrange(summary: Summary, sort: str | None = None) -> list[Row]:
    """The rows by data set, and within it by a column, the best first; None: by accuracy or mean IoU.

    Raises:
        ValueError: no such column; the nearest are suggested.
    """
    columns = summary.columns()
    if sort is not None and sort not in columns:
        from pooling.options import did_you_mean  # here, as it takes torch along

        raise ValueError(f"no column {sort!r}{did_you_mean(sort, columns)} (columns: {', '.join(columns)})")

    def key(row: Row) -> tuple[Any, ...]:
        return row.main, row.data, row.sort_key(sort or row.main), row.sort_key(row.main), row.model, row.label

    return sorted(summary.rows, key=key)


def render(summary: Summary, sort: str | None = None, baseline: str | None = None) -> None:
    """Print the comparison, as wide as the terminal or, where the output is none, 120 columns."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print(report(summary, sort, baseline))


def report(summary: Summary, sort: str | None = None, baseline: str | None = None) -> "RenderableType":
    """One table for each data set (and task), with its differences from the baseline, then the notes, for rich."""
    from rich.console import Group
    from rich.text import Text

    rows = arrange(summary, sort)
    tables = dict.fromkeys((row.main, row.data) for row in rows)
    notes = list(summary.notes)
    paired: Sequence[Difference] = ()
    if baseline is not None:
        from evaluation.paired import differences

        paired, further = differences(summary, baseline, sort)
        notes += further
    elif len(rows) > len(tables):
        base = "native" if any(row.pooling == "native" for row in rows) else rows[0].label
        notes.append(f"which differences are more than chance: python compare.py FOLDER --baseline {shlex.quote(base)}")
    parts: list[Any] = []
    for table in tables:
        parts.append(_table([row for row in rows if (row.main, row.data) == table], sort))
        if own := [d for d in paired if (d.row.main, d.row.data) == table]:
            parts.append(_paired_table(own, f"{table[1]}, difference from {baseline}"))
    if any(row.seeds > 1 for row in rows):
        notes.insert(0, "±: half the width of the 95% interval over seeds (Student's t)")
    return Group(*parts, *(Text(note, style="dim") for note in notes))


def _variants(group: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs of the same names by the settings in which they differ: `filter=3 trainer.max_epochs=5`, or nothing."""
    known = [run.settings for run in group if run.settings is not None]
    names = dict.fromkeys(name for settings in known for name in settings)
    differing = [name for name in names if any(s.get(name) != known[0].get(name) for s in known)]
    variants: dict[str, list[Run]] = {}
    for run in group:
        if run.settings is None:
            text = "(settings unknown)" if known else ""
        else:
            values = ((name.removeprefix("pooling."), run.settings.get(name)) for name in differing)
            text = " ".join(f"{name}={'null' if value is None else value}" for name, value in values)
        variants.setdefault(text, []).append(run)
    return variants


def _row(runs: Sequence[Run], settings: str) -> Row:
    values: dict[str, dict[int, float]] = {}
    for run in runs:
        for name, value in run.figures().items():
            values.setdefault(name, {})[run.results["seed"]] = value
    stats = {name: Stat(*student_t(list(own.values())), len(own)) for name, own in values.items()}
    evaluations = {run.results["seed"]: run.evaluations for run in runs}
    return Row(*runs[0].names, settings, len(runs), stats, values, evaluations)


def _table(rows: Sequence[Row], sort: str | None) -> "RenderableType":
    from rich import box
    from rich.table import Table

    names = ["model", "pooling"]
    title = rows[0].data
    if len({row.head for row in rows}) > 1:
        names.insert(1, "head")
    else:  # what all rows share goes into the title, and the table stays narrow
        title += f", head {rows[0].head}"
    shown = [name for name in SHOWN if any(name in row.figures for row in rows)]
    if sort not in (None, "seeds", *NAMES, *shown) and any(sort in row.figures for row in rows):
        shown.append(str(sort))
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    table.add_column("seeds", justify="right", no_wrap=True)
    for name in shown:
        table.add_column(SHOWN.get(name, name.replace("_", "\n")), justify="right", no_wrap=True)
    for row in rows:
        texts = (row.label if name == "pooling" else getattr(row, name) for name in names)
        cells = (cell(name, row.figures.get(name)) for name in shown)
        table.add_row(*texts, str(row.seeds), *cells)
    return table


def _paired_table(paired: "Sequence[Difference]", title: str) -> "RenderableType":
    from rich import box
    from rich.table import Table

    from evaluation.exports import signed
    from evaluation.paired import columns

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
    for name in ("model", "pooling"):
        table.add_column(name, overflow="fold")
    table.add_column("over", justify="right", no_wrap=True)
    shown = columns(paired)
    for name in shown:
        table.add_column(SHOWN[name], justify="right", no_wrap=True)
    for difference in paired:
        row = difference.row
        cells = (signed(name, difference.figures.get(name)) for name in shown)
        table.add_row(row.model, row.label, difference.over, *cells)
    return table


def cell(name: str, stat: Stat | None) -> str:
    """A figure in a table: `0.912 ±.008`, counts as `61.7k`."""
    if stat is None:
        return "-"
    if name in COUNTS:
        return _short(stat.mean)
    return f"{stat.mean:.3f}" + ("" if stat.half_width is None else f" ±{stat.half_width:.3f}".replace("±0.", "±."))


def _short(value: float) -> str:
    """Three digits and a unit: 61.7k, 11.2M, 1.82G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{float(f'{value / size:.3g}'):g}{unit}"
    return f"{float(f'{value:.3g}'):g}"
