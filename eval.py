"""python eval.py run=RUN_DIR: accuracy and shift figures of a trained network, written beside its run."""

from pathlib import Path
from typing import Any

from conf.command import command


@command("eval")
def main(config: dict[str, Any], overrides: list[str]) -> tuple[Path, None]:
    from training.report import EvaluationProgress, print_figures
    from training.testing import evaluate_checkpoint

    with EvaluationProgress() as progress:
        written, evaluation = evaluate_checkpoint(config, progress)
    print_figures(written, evaluation)
    return written.json, None


if __name__ == "__main__":
    main()
