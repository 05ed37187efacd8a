"""Differences from a baseline, seed by seed: what of a comparison is more than chance.

Runs of one seed share their data order and augmentation, so their difference varies less than either figure. Of one run
each the evaluations are compared image by image: that holds for these two networks, not for what training would make of
another seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evaluation.comparison import COUNTS, LESS_IS_BETTER, SHOWN, Row, Stat, Summary, arrange
from evaluation.intervals import student_t
from evaluation.results import Images, images_of

CLEAR = (
    "difference from {baseline}, ± half the width of its 95% interval (Student's t); * the interval excludes 0, which "
    "one in twenty does by chance"
)
OVER = {
    "seeds": "over seeds: runs with the same seed; what training with this pooling does",
    "images": "over images: one run each, on the images that eval.py saw with both; what these two networks do. With "
    "other seeds they may come out otherwise (train.py -m seed=0,1,2)",
    "1 seed": "1 seed: one run each, no interval; python eval.py run=RUN_DIR on both gives one over images, "
    "train.py -m seed=0,1,2 one over seeds",
}


@dataclass(frozen=True)
class Difference:
    """A row less its baseline, by figure, over "3 seeds" that both have, or where there is one "images" or "1 seed"."""

    row: Row
    baseline: str
    figures: dict[str, Stat]
    over: str


class Paired(NamedTuple):
    """All differences, and notes that explain them."""

    differences: list[Difference]
    notes: list[str]


def is_clear(stat: Stat) -> bool:
    """Whether the interval excludes 0."""
    return stat.half_width is not None and abs(stat.mean) > stat.half_width


def is_better(figure: str, stat: Stat) -> bool:
    return (stat.mean < 0) == (figure in LESS_IS_BETTER)


def differences(summary: Summary, baseline: str, sort: str | None = None) -> Paired:
    """Each row less the row of the same data, model and head whose pooling is the baseline.

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
            found.append(_subtract(row, base, baseline))
    kinds = [kind for kind in OVER if any(difference.over.endswith(kind) for difference in found)]
    clear = [CLEAR.format(baseline=baseline)] if found else []
    return Paired(found, [*notes, *clear, *(OVER[kind] for kind in kinds)])


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


def _subtract(row: Row, base: Row, baseline: str) -> Difference:
    stats = {}
    for name, values in row.values.items():
        common = [seed for seed in values if seed in base.values.get(name, {})]
        if common:
            stats[name] = Stat(*student_t([values[s] - base.values[name][s] for s in common]), len(common))
    seeds = max((stat.n for stat in stats.values()), default=0)
    if seeds != 1:
        return Difference(row, baseline, stats, f"{seeds} seeds")
    (seed,) = row.evaluations.keys() & base.evaluations.keys()
    by_image = _over_images(images_of(row.evaluations[seed]), images_of(base.evaluations[seed]))
    return Difference(row, baseline, stats | by_image, "images" if by_image else "1 seed")


def _over_images(own: dict[str, Images], base: dict[str, Images]) -> dict[str, Stat]:
    stats = {}
    for name, (values, protocol) in own.items():
        others, other_protocol = base.get(name, ({}, None))
        common = values.keys() & others.keys()
        if len(common) > 1 and protocol == other_protocol:
            stats[name] = Stat(*student_t([values[i] - others[i] for i in sorted(common)]), len(common))
    return stats
