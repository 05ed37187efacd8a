"""Finished runs, written as train.py writes them."""

import json
from pathlib import Path

import yaml

from evaluation import comparison

MODELS = {"lenet5": 61_706, "resnet20": 272_474}


def add_run(
    runs: Path, data="digits", model="lenet5", pooling="max", seed=0, stamp="20250102-030405", config=None, **figures
) -> Path:
    """Write a finished run as train.py does; `config` holds settings by dotted name."""
    folder = runs / data / model / pooling / f"s{seed}-{stamp}"
    folder.mkdir(parents=True)
    results = {
        "accuracy": 0.9, "accuracy_top5": 0.99, "loss": 0.3, "consistency": 0.93, "consistency_circular": 0.91,
        "accuracy_worst_shift": 0.5, "mean_probability_change": 0.04, "parameters": MODELS[model], "flops": 834_000,
        "train_images_per_second": 4321.0, "seconds": 12.5, "epochs": 5, "seed": seed, "model": model,
        "pooling": pooling, "head": "native", "data": data, "versions": {"torch": "2.10"},
    } | figures  # fmt: skip
    if "mean_iou" in figures:
        for name in ("accuracy", "accuracy_top5", "consistency", "consistency_circular", "accuracy_worst_shift"):
            del results[name]
    (folder / "results.json").write_text(json.dumps(results))
    settings = {"pooling.name": pooling, "trainer.max_epochs": 5, "seed": seed, "runs": str(runs)} | (config or {})
    nested: dict = {}
    for name, value in settings.items():
        *groups, last = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(nested))
    return folder


def summary_of(*folders: Path) -> comparison.Summary:
    return comparison.summarise(comparison.load(folders))
