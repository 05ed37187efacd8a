"""Finished runs, read from their folders.

A run is a folder with a `results.json`; its `config.yaml` tells apart runs that its names alone do not.
"""

import csv
import json
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

NAMES = ("data", "model", "head", "pooling")
MAIN = ("accuracy", "mean_iou", "map")  # by task; a result has one of them
NOT_FIGURES = (*NAMES, "seed", "versions")
# Settings that do not change what a run is meant to measure.
NEUTRAL = (
    "seed",
    "resume",
    "runs",
    "plugins",
    "data.root",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.threads",
)


class Run(NamedTuple):
    """A finished run: its folder, its results and the settings of its config by dotted name (None: not known).

    evaluations: the files that eval.py has written of it, the newest first.
    """

    folder: Path
    results: dict[str, Any]
    settings: dict[str, Any] | None
    started: tuple[str, float]
    evaluations: list[Path]

    @property
    def names(self) -> tuple[str, str, str, str]:
        data, model, head, pooling = (self.results[name] for name in NAMES)
        return data, model, head, pooling

    @property
    def main(self) -> str:
        return next(name for name in MAIN if name in self.figures())

    def figures(self) -> dict[str, float]:
        numbers = {key: value for key, value in self.results.items() if key not in NOT_FIGURES and _is_number(value)}
        return {key: float(value) for key, value in numbers.items()}


@dataclass(frozen=True)
class Runs:
    runs: list[Run]
    notes: list[str] = field(default_factory=list)


def load(folders: Iterable[Path | str]) -> Runs:
    """All runs in or below these folders; what cannot be read is left out and named in the notes.

    Raises:
        ValueError: a folder that does not exist, or no run anywhere.
    """
    folders = [Path(folder) for folder in folders]
    runs: dict[Path, Run] = {}
    notes: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"there is no folder {str(folder)!r}")
        for file in sorted(folder.rglob("results.json")):
            if file.resolve() not in runs:
                try:
                    runs[file.resolve()] = run = _read(file)
                    notes += _add_evaluations(run)
                except (OSError, ValueError) as error:
                    notes.append(f"skipped {file}: {' '.join(str(error).split())}")
    if not runs:
        where = ", ".join(map(str, folders)) or "no folder"
        raise ValueError("; ".join([f"no finished runs in {where} (python train.py makes one)", *notes]))
    return Runs(list(runs.values()), notes)


def _read(file: Path) -> Run:
    results = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(results, dict):
        raise ValueError("not an object of names and values")
    lacking = [name for name in (*NAMES, "seed") if not isinstance(results.get(name), int if name == "seed" else str)]
    if not any(_is_number(results.get(name)) for name in MAIN):
        lacking.append(" or ".join(MAIN))
    if lacking:
        raise ValueError(f"incomplete, it has no {', no '.join(lacking)}")
    # The folder's name ends with the time of the start, which survives copying; without it the file's time serves.
    written = file.stat().st_mtime
    stamp = file.parent.name.partition("-")[2]
    started = stamp if _is_stamp(stamp) else time.strftime("%Y%m%d-%H%M%S", time.localtime(written))
    return Run(file.parent, results, _settings(file.with_name("config.yaml")), (started, written), [])


def _add_evaluations(run: Run) -> list[str]:
    """Note the evaluations of the test split, and add what the training's own has not measured, the newest first.

    Returns:
        notes on evaluations that are left out.
    """
    notes: list[str] = []
    known = set(run.results)
    for file in sorted((run.folder / "eval").glob("test*.json"), key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            values = {name: figure["value"] for name, figure in content["figures"].items() if "/" not in name}
            whole = content.get("limit") is None
            speeds = {name: v for name, v in content.get("efficiency", {}).items() if name.endswith("_per_second")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            notes.append(f"skipped {file}: not an evaluation ({error})")
            continue
        # Devices round differently, which may turn an image; another checkpoint turns more.
        own = next(name for name in MAIN if _is_number(run.results.get(name)))
        if whole and abs(values.get(own, math.inf) - run.results[own]) > 0.005:
            notes.append(f"skipped {file}: it is of another checkpoint than results.json")
            continue
        run.evaluations.append(file)
        for name, value in (values | speeds).items():
            if name not in known and _is_number(value):
                run.results.setdefault(name, value)
    return notes


class Images(NamedTuple):
    """A figure of each image by its index, and the protocol that it was measured with."""

    values: dict[int, float]
    protocol: dict[str, Any]


def images_of(evaluations: Iterable[Path]) -> dict[str, Images]:
    """What evaluations know of each image, by figure, the first that has it; of figures that are means over images."""
    found: dict[str, Images] = {}
    for file in evaluations:
        try:
            figures = json.loads(file.read_text(encoding="utf-8"))["figures"]
            with file.with_suffix(".csv").open(newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            for name in figures.keys() - found.keys():
                # Of the target layer the name may depend on the pooling.
                protocol = {key: value for key, value in figures[name]["protocol"].items() if key != "layer"}
                values = {
                    int(row["image"]): _of_image(name, row) for row in rows if name == "accuracy" or row.get(name)
                }
                # A mean over pixels or classes is not one over images: it tells itself by its value.
                if values and math.isclose(statistics.fmean(values.values()), figures[name]["value"], rel_tol=1e-4):
                    found[name] = Images(values, protocol)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # an evaluation without its images, or of another version
    return found


def _of_image(name: str, row: dict[str, str]) -> float:
    return float(row["target"] == row["predicted"]) if name == "accuracy" else float(row[name])


def _settings(file: Path) -> dict[str, Any] | None:
    import yaml

    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    flat: dict[str, Any] = {}

    def walk(node: Any, name: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{name}.{key}" if name else str(key))
        elif name not in NEUTRAL:
            flat[name] = node

    walk(config, "")
    if flat.get("data.name") == "image_folder":
        flat["data.root"] = config["data"].get("root")  # there it is what tells one data set from another
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_stamp(text: str) -> bool:
    try:
        time.strptime(text, "%Y%m%d-%H%M%S")
    except ValueError:
        return False
    return True
