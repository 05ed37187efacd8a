"""python train.py [GROUP=CHOICE ...] [KEY=VALUE ...]: train a network with any pooling operator at its sites."""

from pathlib import Path
from typing import Any

from conf.command import command


def compare(runs: list[Path]) -> None:
    """After a sweep: the runs side by side."""
    from evaluation import comparison

    if runs:
        comparison.render(comparison.summarise(comparison.load(runs)))


@command("train", summarise=compare)
def main(config: dict[str, Any], overrides: list[str]) -> tuple[Path, float]:
    from evaluation.results import MAIN
    from training.folder import resumed_config
    from training.report import EvaluationProgress, print_results
    from training.run import train

    if config["resume"]:
        config = resumed_config(Path(config["resume"]), overrides, config)
    with EvaluationProgress() as progress:
        folder, results = train(config, progress)
    print_results(folder, results, Path(config["runs"]))
    return folder, next(results[name] for name in MAIN if name in results)


if __name__ == "__main__":
    main()
