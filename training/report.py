"""What the commands print: tables of results, and a progress bar with the time left."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from evaluation.report import Written
from evaluation.run import Evaluation
from training.overlays import Overlays

SHOWN = 40  # pictures that a table lists

FRACTIONS = (
    "accuracy", "consistency", "mean_iou", "pixel_accuracy", "shift_equivariance", "mean_probability_change", "loss",
    "top1_change", "flip_rate", "probability_wobble", "map",
)  # fmt: skip


def print_results(folder: Path, results: dict[str, Any], runs: Path) -> None:
    """A run's figures, its folder and the TensorBoard command."""
    table = Table()
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in results.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "seed":
            table.add_row(name, readable(name, value))
    console = Console()
    console.print(
        f"{results['model']} with pooling {results['pooling']} on {results['data']}, test split:", highlight=False
    )
    console.print(table)
    console.print(f"run folder:   {folder}", soft_wrap=True, highlight=False)
    console.print(f"TensorBoard:  tensorboard --logdir {runs}", soft_wrap=True, highlight=False)


def print_figures(written: Written, evaluation: Evaluation) -> None:
    """Figures with their 95% intervals and the main parameters of their protocols; the files hold all of them.

    Raises:
        Incomplete: a part could not be measured; the others have been printed and written.
    """
    table = Table()
    table.add_column("figure", no_wrap=True)
    for column in ("value", "95% interval", "images"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("protocol")
    sites = [name for name in evaluation.figures if "/" in name]
    for name, figure in evaluation.figures.items():
        if name in sites:
            continue
        low, high = figure["interval"]
        interval = "" if low is None or high is None else f"{low:.4f} .. {high:.4f}"
        value = "-" if figure["value"] is None else f"{figure['value']:.4f}"
        table.add_row(name, value, interval, f"{figure['n']}", short(figure["protocol"]))
    console = Console()
    console.print(table)
    if sites:
        console.print(f"and {len(sites)} distances before and after sites: see the report")
    for note in evaluation.notes:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"figures:  {written.json}", soft_wrap=True, highlight=False)
    console.print(f"images:   {written.csv}", soft_wrap=True, highlight=False)
    console.print(f"report:   {written.report}", soft_wrap=True, highlight=False)
    if evaluation.failures:
        raise Incomplete("; ".join(f"not measured: {name}: {why}" for name, why in evaluation.failures.items()))


def short(protocol: dict[str, Any]) -> str:
    """A protocol in a few words: `crop m=8`."""
    units = {"m": "m={}", "degrees": "{} deg", "percent": "{}%"}
    return " ".join([protocol["name"], *(text.format(protocol[n]) for n, text in units.items() if n in protocol)])


class Incomplete(ValueError):
    """A part of an evaluation could not be measured."""


def readable(name: str, value: float) -> str:
    """A figure as a person reads it: fractions with four places, large counts with separators, seconds with one."""
    if any(name.startswith(fraction) for fraction in FRACTIONS):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


class EvaluationProgress:
    """A progress bar over the images that an evaluation passes through the network; nothing where nobody watches.

    Use it as a context and call it with (images seen, images in all). It appears with the first call, because training
    has a bar of its own before that.
    """

    def __init__(self) -> None:
        columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, transient=True, disable=not sys.stdout.isatty())

    def __enter__(self) -> "EvaluationProgress":
        return self

    def __call__(self, seen: int, total: int) -> None:
        if not self.bar.tasks:
            self.bar.start()
            self.bar.add_task("evaluating", total=total)
        self.bar.update(self.bar.tasks[0].id, completed=seen)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def print_overlays(result: Overlays) -> None:
    """What the network saw in each picture, what could not be read, and where the overlays are."""
    table = Table()
    table.add_column("picture", overflow="fold")
    table.add_column("class")
    table.add_column("probability", justify="right")
    for overlay in result.overlays[:SHOWN]:
        table.add_row(str(overlay.picture), overlay.label, f"{overlay.chance:.4f}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    if (more := len(result.overlays) - SHOWN) > 0:
        console.print(f"and {more} more")
    for file, reason in result.broken.items():
        console.print(f"skipped: {file} ({reason})", markup=False)
    console.print(f"{len(result.overlays)} overlays in {result.folder}, {len(result.broken)} skipped")
    console.print(f"contact sheet: {result.sheet}")
