"""Differences from a baseline, seed by seed: what of a comparison is more than chance.

Runs of one seed share their data order and augmentation, so their difference varies less than either figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.comparison import COUNTS, LESS_IS_BETTER, SHOWN, Row, Stat, Summary, arrange
from evaluation.intervals import student_t

NOTE = (
    "difference from {baseline}, paired by seed, ± half the width of its 95% interval (Student's t); * the interval "
    "excludes 0, which one in twenty does by chance"
)


@dataclass(frozen=True)
class Difference:
    """A row less its baseline, by figure, over the seeds that both have."""

    row: Row
    figures: dict[str, Stat]


def is_clear(stat: Stat) -> bool:
    """Whether the interval excludes 0."""
    return stat.half_width is not None and abs(stat.mean) > stat.half_width


def is_better(figure: str, stat: Stat) -> bool:
    return (stat.mean < 0) == (figure in LESS_IS_BETTER)


def differences(summary: Summary, baseline: str, sort: str | None = None) -> tuple[list[Difference], list[str]]:
    """Each row less the row of the same data, model and head whose pooling is the baseline; and notes.

    Raises:
        ValueError: no row has that pooling, or several could be the baseline.
    """
    rows, notes, found = arrange(summary, sort), [], []
    if not any(baseline in (row.pooling, row.label) for row in rows):
        from pooling.options import did_you_mean  # here, as it takes torch along

        labels = list(dict.fromkeys(row.label for row in rows))
        raise ValueError(
            f"no run has pooling {baseline!r}{did_you_mean(baseline, labels)} (there: {', '.join(labels)})"
        )
    for row in rows:
        base = _baseline(rows, row, baseline)
        if base is None:
            note = f"no {baseline} to compare with: {row.data} {row.model} {row.head}"
            notes += [note] if note not in notes else []
        elif base is not row:
            found.append(Difference(row, _subtract(row, base)))
    return found, notes


def columns(found: Sequence[Difference]) -> list[str]:
    """The figures to show: those of the comparison that are no counts."""
    there = {name for difference in found for name in difference.figures}
    return [name for name in SHOWN if name in there and name not in COUNTS]


def _baseline(rows: Sequence[Row], row: Row, name: str) -> Row | None:
    alike = [r for r in rows if (r.data, r.model, r.head, r.main) == (row.data, row.model, row.head, row.main)]
    named = [r for r in alike if name in (r.pooling, r.label)]
    same = [r for r in named if r.settings == row.settings]
    if len(named) > 1 and not same:
        labels = ", ".join(repr(r.label) for r in named)
        raise ValueError(f"several runs could be the baseline of {row.model} {row.label!r}: {labels}; name one of them")
    return (same or named or [None])[0]


def _subtract(row: Row, base: Row) -> dict[str, Stat]:
    stats = {}
    for name, values in row.values.items():
        common = [seed for seed in values if seed in base.values.get(name, {})]
        if common:
            stats[name] = Stat(*student_t([values[s] - base.values[name][s] for s in common]), len(common))
    return stats
