"""Evaluation of a checkpoint: of a run's best one, or of any file."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from datamodules.module import ImageData
from evaluation.run import Progress, evaluate_net, unused, write_json
from training import checkpoints
from training.build import build_data, build_net
from training.folder import checked_config, labels, read_config


def evaluate_checkpoint(
    config: dict[str, Any], progress: Progress | None = None
) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The figures of a checkpoint, written as JSON to `eval/` beside its run; an earlier file is never overwritten.

    Args:
        config: the resolved settings of conf/eval.yaml: run or checkpoint, or model and data (and pooling and head),
            runs; evaluation, split, limit, accelerator.

    Raises:
        ValueError, FileNotFoundError: not one of run, checkpoint and model, or one that cannot be used.
    """
    if sum(config.get(what) is not None for what in ("run", "checkpoint", "model")) != 1:
        raise ValueError("give run=RUN_DIR or checkpoint=FILE (one of them), or model, model.weights and data")
    if config.get("model") is not None:
        return _evaluate_weights(config, progress)
    if kept := [group for group in ("data", "pooling", "head") if config.get(group) is not None]:
        raise ValueError(f"{', '.join(kept)} cannot be chosen here: what was trained keeps its data, pooling and head")
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
    return _evaluate(config, net, data, folder, {"checkpoint": str(file), "epoch": state.get("epoch")}, progress)


def _evaluate_weights(config: dict[str, Any], progress: Progress | None) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The figures of a network with weights that no run here trained."""
    if config["model"]["weights"] is None or config.get("data") is None:
        raise ValueError(f"model={config['model']['name']} needs its weights and data: model.weights=FILE data=NAME")
    chosen = {group: config.get(group) or {"name": "native"} for group in ("model", "pooling", "head", "data")}
    chosen["pooling"] = {"sites": "auto"} | chosen["pooling"]
    data = build_data(chosen["data"], seed=0)
    weights = chosen["model"]["weights"]
    net = build_net(chosen["model"], chosen["pooling"], chosen["head"], data, weights=weights)
    names = labels(chosen)
    folder = Path(config["runs"], names["data"], names["model"], names["pooling"])
    return _evaluate(config, net, data, folder, {"weights": weights, **names}, progress)


def _evaluate(
    config: dict[str, Any],
    net: nn.Module,
    data: ImageData,
    folder: Path,
    facts: dict[str, Any],
    progress: Progress | None,
) -> tuple[Path, dict[str, dict[str, Any]]]:
    net.to(device(config["accelerator"]))
    figures = evaluate_net(
        net, data, **config["evaluation"], split=config["split"], limit=config["limit"], progress=progress
    )
    target = folder / "eval" / f"{config['split']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target = unused(target)
    write_json(target, {**facts, "split": config["split"], "limit": config["limit"], "figures": figures})
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
