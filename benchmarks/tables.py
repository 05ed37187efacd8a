"""Files of results: the last rows of each thing that was measured."""

import argparse
import csv
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the CSV file")


def make_output(parser: argparse.ArgumentParser, folder: Path) -> None:
    """The folder, before anything is measured for it; a usage error where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output: no folder can be made at {folder}: {error.strerror}")
    if not os.access(folder, os.W_OK):
        parser.error(f"--output: {folder} cannot be written to; choose another folder")


def keep(rows: Sequence[Sequence[object]], columns: Sequence[str], file: Path) -> None:
    """Put rows into a file of results, in place of those with the same first column, by which all are in groups.

    The file is a whole one at any time.
    """
    held: dict[str, list[Sequence[object]]] = {}
    if file.exists():
        with file.open(newline="") as stream:
            earlier = [[row.get(column, "") for column in columns] for row in csv.DictReader(stream)]
        for row in earlier:
            held.setdefault(str(row[0]), []).append(row)
    held |= {str(name): list(group) for name, group in itertools.groupby(rows, lambda row: row[0])}
    draft = file.with_suffix(".part")
    with draft.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *itertools.chain.from_iterable(held.values())])
    os.replace(draft, file)
