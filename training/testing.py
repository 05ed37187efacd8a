"""Evaluation of a checkpoint: of a run's best one, or of any file."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.module import ImageData
from evaluation import efficiency, report
from evaluation.run import Evaluation, Progress, evaluate, preparer
from training import checkpoints
from training.build import build_data, build_net, build_weighted
from training.folder import checked_config, labels, load_plugins, read_config, versions

log = logging.getLogger(__name__)


class Trained(NamedTuple):
    """A trained network, its data, its choices' names, where its weights are from, and where its evaluations go."""

    net: nn.Module
    data: ImageData
    names: dict[str, str]
    source: dict[str, Any]
    folder: Path


def load_trained(run: str | None, checkpoint: str | None, accelerator: str, plugins: Sequence[str] = ()) -> Trained:
    """The network of a run's best checkpoint, or of a checkpoint file, in evaluation mode.

    Raises:
        ValueError, FileNotFoundError: neither or both of them, or one that cannot be used.
    """
    if (run is None) == (checkpoint is None):
        raise ValueError("give run=RUN_DIR or checkpoint=FILE (one of them)")
    if run is not None:
        folder = Path(run)
        config = read_config(folder)
        file = folder / "checkpoints" / "best.ckpt"
        load_plugins(config, folder, plugins)
        state = checkpoints.read(file)
    else:
        file = Path(str(checkpoint))
        state = checkpoints.read(file)
        config = checked_config(state["config"], file)
        load_plugins(config, None, plugins)
        folder = file.parent.parent if file.parent.name == "checkpoints" else file.parent
    try:
        data = build_data(config["data"], config["seed"])
        net = build_net(config["model"], config["pooling"], config["head"], data)
        names = labels(config)
    except (KeyError, TypeError, ValueError) as error:
        error = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"the config of {str(file)!r} does not fit this version of poolzoo ({versions()['poolzoo']}); "
            f"results.json beside it names the one that made it: {error}"
        ) from None
    checkpoints.load_weights(net, state["state_dict"], file)
    source = {"checkpoint": str(file), "epoch": state.get("epoch"), "seed": config["seed"]}
    return Trained(net.to(device(accelerator)).eval(), data, names, source, folder)


def load_weighted(config: dict[str, Any]) -> Trained:
    """The network of model=NAME model.weights=FILE, which no run here trained, beside data=NAME."""
    if config["model"]["weights"] is None or config.get("data") is None:
        raise ValueError(f"model={config['model']['name']} needs its weights and data: model.weights=FILE data=NAME")
    chosen = {group: config.get(group) or {"name": "native"} for group in ("model", "pooling", "head", "data")}
    chosen["pooling"] = {"sites": "auto"} | chosen["pooling"]
    data = build_data(chosen["data"], seed=0)
    weights = chosen["model"]["weights"]
    net = build_weighted(chosen["model"], chosen["pooling"], chosen["head"], data)
    names = labels(chosen)
    folder = Path(config["runs"], names["data"], names["model"], names["pooling"])
    return Trained(net.to(device(config["accelerator"])).eval(), data, names, {"weights": weights}, folder)


def _trained(config: dict[str, Any]) -> Trained:
    if sum(config.get(what) is not None for what in ("run", "checkpoint", "model")) != 1:
        raise ValueError("give run=RUN_DIR or checkpoint=FILE (one of them), or model, model.weights and data")
    if config.get("model") is not None:
        return load_weighted(config)
    if kept := [group for group in ("data", "pooling", "head") if config.get(group) is not None]:
        raise ValueError(f"{', '.join(kept)} cannot be chosen here: what was trained keeps its data, pooling and head")
    return load_trained(config["run"], config["checkpoint"], config["accelerator"], config.get("plugins") or ())


def evaluate_checkpoint(config: dict[str, Any], progress: Progress | None = None) -> tuple[report.Written, Evaluation]:
    """The figures of a checkpoint, written to `eval/` beside its run; an earlier evaluation is never overwritten.

    Args:
        config: the resolved settings of conf/eval.yaml: run or checkpoint, or model and data (and pooling and head),
            runs; what to measure, split, limit, accelerator.

    Raises:
        ValueError, FileNotFoundError: not one of run, checkpoint and model, or one that cannot be used.
    """
    trained = _trained(config)
    settings = dict(config["evaluation"])
    if config["protocols"] is not None:
        settings["protocols"] = config["protocols"]
    also = [name for name in ("layers", "cam") if config[name]]
    chosen = {"split": config["split"], "limit": config["limit"]}
    size, stem = config.get("size"), config["split"]
    prepare = preparer(trained.net, trained.data)
    if size is not None:
        prepare, stem = _resized(prepare, size, trained.data.task), f"{size}px-{stem}"
    evaluation = evaluate(
        trained.net, trained.data, **settings, also=also, **chosen, prepare=prepare, progress=progress
    )
    names = trained.names
    facts = {
        "title": f"{names['model']} with pooling {names['pooling']} on {names['data']}, {config['split']} split",
        **trained.source, "head": names["head"], **chosen, **({} if size is None else {"size": size}),
    }  # fmt: skip
    written = report.write(
        evaluation, trained.folder / "eval", stem, trained.data.class_names, facts,
        _costs(trained, prepare), versions(),
    )  # fmt: skip
    if (trained.folder / "config.yaml").exists():
        log_evaluation(trained.folder, written, evaluation)
    return written, evaluation


def log_evaluation(folder: Path, written: report.Written, evaluation: Evaluation) -> None:
    """An evaluation's scalars and pictures, for TensorBoard, as `eval-test/...` beside the run's own."""
    from torch.utils.tensorboard import SummaryWriter

    stem = written.json.stem
    with SummaryWriter(folder, filename_suffix=f".eval-{stem}") as writer:
        for name, figure in evaluation.figures.items():
            if figure["value"] is not None:
                writer.add_scalar(f"eval-{stem}/{name}", figure["value"])
        for name, file in written.pictures.items():
            with Image.open(file) as picture:
                writer.add_image(f"eval-{stem}/{name}", np.asarray(picture.convert("RGB")), dataformats="HWC")


def _resized(prepare: Callable[[Tensor], Tensor], size: int, task: str) -> Callable[[Tensor], Tensor]:
    """Images prepared as in training, then enlarged or reduced: the shift protocols count the original's pixels.

    Raises:
        ValueError: a side that is no positive integer, or masks, which would have to be resized too.
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be an integer >= 1, got {size!r}")
    if task == "segmentation":
        raise ValueError(f"size={size}: the masks have the data's size; segmentation is evaluated at that")
    return lambda images: F.interpolate(prepare(images), size=(size, size), mode="bilinear", antialias=True)


def _costs(trained: Trained, prepare: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """At the batch size of training, which the device is known to hold."""
    images, _, _ = next(trained.data.evaluation_batches("test"))
    batch = prepare(images)
    costs = {"parameters": efficiency.parameters(trained.net), "flops": efficiency.flops(trained.net, batch)}
    if trained.data.task == "detection":  # how long it takes depends on what it finds
        return costs
    return costs | {k: v for k, v in efficiency.throughput(trained.net, batch).items() if v is not None}


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
