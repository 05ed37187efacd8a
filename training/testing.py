"""Evaluation of a checkpoint: of a run's best one, or of any file."""

from pathlib import Path
from typing import Any

import torch

from evaluation.run import Progress, evaluate_net, unused, write_json
from training import checkpoints
from training.build import build_data, build_net
from training.folder import checked_config, read_config


def evaluate_checkpoint(
    config: dict[str, Any], progress: Progress | None = None
) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The figures of a checkpoint, written as JSON to `eval/` beside its run; an earlier file is never overwritten.

    Args:
        config: the resolved settings of conf/eval.yaml: run or checkpoint, evaluation, split, limit, accelerator.

    Raises:
        ValueError, FileNotFoundError: neither or both of run and checkpoint, or one that cannot be used.
    """
    if (config["run"] is None) == (config["checkpoint"] is None):
        raise ValueError("give run=RUN_DIR or checkpoint=FILE (one of them)")
    if config["run"] is not None:
        folder = Path(config["run"])
        trained = read_config(folder)
        file = folder / "checkpoints" / "best.ckpt"
        state = checkpoints.read(file)
    else:
        file = Path(config["checkpoint"])
        state = checkpoints.read(file)
        trained = checked_config(state["config"], file)
        folder = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    data = build_data(trained["data"], trained["seed"])
    net = build_net(trained["model"], trained["pooling"], trained["head"], data)
    checkpoints.load_weights(net, state["state_dict"], file)
    net.to(device(config["accelerator"]))
    figures = evaluate_net(
        net, data, **config["evaluation"], split=config["split"], limit=config["limit"], progress=progress
    )
    target = folder / "eval" / f"{config['split']}.json"
    target.parent.mkdir(exist_ok=True)
    target = unused(target)
    facts = {"checkpoint": str(file), "epoch": state.get("epoch"), "split": config["split"], "limit": config["limit"]}
    write_json(target, {**facts, "figures": figures})
    return target, figures


def device(accelerator: str) -> torch.device:
    """The device that `auto`, `cpu`, `gpu` (`cuda`) or `mps` means here.

    Raises:
        ValueError: another name, or a device that is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    name = "cuda" if accelerator == "gpu" else accelerator
    if not there.get(name):
        usable = ", ".join(name for name in there if there[name])
        raise ValueError(f"accelerator={accelerator} is not to be had here (usable: auto, {usable})")
    return torch.device(name)
