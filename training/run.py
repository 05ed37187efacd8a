"""A run: from plain settings to a folder with checkpoints, logs, TensorBoard events and results.json."""

import logging
import os
import platform
import shutil
import signal
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme

from datamodules.module import ImageData
from evaluation.efficiency import flops, parameters
from evaluation.run import Progress, check_evaluation, evaluate_net, predictor, unused, write_json
from pooling.options import check_option
from training import checkpoints, pictures
from training.build import build_data, build_net
from training.callbacks import EpochLog, RunLogger, SitePictures, Throughput
from training.folder import RunLog, head_label, model_label, new_folder, pooling_label, write_config
from training.optimizers import OPTIMIZERS
from training.schedulers import SCHEDULERS
from training.seeding import seed_all
from training.tasks import TASKS, ImageTask

log = logging.getLogger(__name__)

# For several devices Lightning starts the command again, once for each further process; those use the first's folder.
FOLDER = "POOLZOO_RUN_FOLDER"

# Its notes on hardware and its advertisements are not this project's.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training; the message says what is kept and how to go on."""


class CheckpointConfig(pl.Callback):
    """Puts the run's config into its checkpoints, so that a checkpoint alone can be evaluated."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config


def train(config: dict[str, Any], progress: Progress | None = None) -> tuple[Path, dict[str, Any]]:
    """Train, evaluate the best checkpoint on the test split, and write everything into a new run folder.

    Args:
        config: the resolved settings of conf/train.yaml: data, model, pooling, head, optimizer, scheduler, trainer,
            evaluation (each a dictionary), seed, label_smoothing, runs and resume.
        progress: called with (images seen, images in all) during the evaluation at the end.

    Returns:
        the folder, and the content of results.json.

    Raises:
        ValueError, TypeError, OSError: wrong settings, or a folder that cannot be written.
        LossNotFinite: the loss became NaN. Interrupted: Ctrl-C. Either leaves the last epoch's checkpoints.
    """
    started = time.perf_counter()
    check_settings(config)
    with RunLog() as run_log:
        data = build_data(config["data"], config["seed"])
        check_evaluation(data.task, **config["evaluation"])
        seed_all(config["seed"])
        net = build_net(config["model"], config["pooling"], config["head"], data)
        if FOLDER in os.environ:  # a further process, which ends where training does
            return Path(os.environ[FOLDER]), _train(config, data, net, Path(os.environ[FOLDER]), None, started)
        folder = Path(config["resume"]) if config["resume"] else new_folder(config)
        run_log.open(folder / "train.log")
        if not config["resume"]:
            write_config(folder, config)
        log.info("run folder: %s", folder)
        os.environ[FOLDER] = str(folder.absolute())
        try:
            results = _train(config, data, net, folder, progress, started)
        finally:
            del os.environ[FOLDER]
    return folder, results


def _train(
    config: dict[str, Any],
    data: ImageData,
    net: torch.nn.Module,
    folder: Path,
    progress: Progress | None,
    started: float,
) -> dict[str, Any]:
    task = TASKS[data.task](
        net, data.num_classes, config["optimizer"], config["scheduler"], config["label_smoothing"], config["seed"]
    )
    throughput = Throughput()
    logger = RunLogger(folder)
    trainer = make_trainer(config["trainer"], task, folder, logger, throughput, data, config)
    fit(trainer, task, data, folder, resume=bool(config["resume"]))

    best = folder / "checkpoints" / "best.ckpt"
    checkpoints.load_weights(net, checkpoints.read(best)["state_dict"], best)
    net.to(task.device)
    log.info("evaluating %s on the test split", best)
    figures = evaluate_net(net, data, **config["evaluation"], progress=progress)
    previous = checkpoints.read(folder / "checkpoints" / "last.ckpt")
    results = {name: figure["value"] for name, figure in figures.items()} | {
        "parameters": parameters(net),
        "flops": flops(net, torch.zeros(1, data.in_channels, data.image_size, data.image_size, device=task.device)),
        "train_images_per_second": throughput.images_per_second,
        "seconds": time.perf_counter() - started,
        "epochs": previous["epoch"] + 1,
        "seed": config["seed"],
        "model": model_label(config["model"]),
        "pooling": pooling_label(config["pooling"]),
        "head": head_label(config["head"]),
        "data": config["data"]["name"],
        "versions": versions(),
    }
    show(logger, net, data, trainer.global_step, config, results)
    if (folder / "results.json").exists():
        shutil.move(folder / "results.json", unused(folder / "results-earlier.json"))
    write_json(folder / "results.json", results)
    return results


def check_settings(config: dict[str, Any]) -> None:
    """Raise ValueError or TypeError for settings that no registry checks when it is used."""
    for group, registry in (("optimizer", OPTIMIZERS), ("scheduler", SCHEDULERS)):
        options = registry[config[group]["name"]]
        for name, value in config[group].items():
            if name != "name":
                check_option(group, options[name], value)
    if not 0 <= config["label_smoothing"] < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {config['label_smoothing']}")
    if not isinstance(config["seed"], int) or config["seed"] < 0:
        raise ValueError(f"seed must be an integer >= 0, got {config['seed']!r}")
    for name, least in (("max_epochs", 1), ("devices", 1), ("patience", 0), ("limit_batches", 1), ("threads", 1)):
        value = config["trainer"][name]
        if value is None and name not in ("max_epochs", "devices"):
            continue
        if not isinstance(value, int) or value < least:
            raise ValueError(f"trainer.{name} must be an integer >= {least}, got {value!r}")


def make_trainer(
    settings: dict[str, Any],
    task: ImageTask,
    folder: Path,
    logger: RunLogger,
    throughput: Throughput,
    data: ImageData,
    config: dict[str, Any],
) -> pl.Trainer:
    """Lightning's trainer with our callbacks; `settings` are conf/trainer's."""
    if settings["threads"] is not None:
        torch.set_num_threads(settings["threads"])
    checkpoint_folder = folder / "checkpoints"
    callbacks: list[pl.Callback] = [
        # Two of them: Lightning's `save_last` follows the best one and is not the last epoch's.
        ModelCheckpoint(
            checkpoint_folder, filename="best", monitor=task.monitor, mode="max", enable_version_counter=False
        ),
        ModelCheckpoint(checkpoint_folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False),
        CheckpointConfig(config),
        EpochLog(folder / "metrics.csv"),
        throughput,
        SitePictures(next(data.evaluation_batches("val", 1))[0]),
    ]
    if settings["patience"] is not None:
        callbacks.append(EarlyStopping(task.monitor, patience=settings["patience"], mode="max"))
    interactive = sys.stdout.isatty()
    if interactive:
        callbacks.append(RichProgressBar(leave=False, theme=RichProgressBarTheme(metrics_format=".4f")))
    return pl.Trainer(
        accelerator=settings["accelerator"],
        devices=settings["devices"],
        precision=settings["precision"],
        max_epochs=settings["max_epochs"],
        gradient_clip_val=settings["gradient_clip"],
        limit_train_batches=settings["limit_batches"],
        deterministic="warn",
        callbacks=callbacks,
        logger=logger,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=interactive,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def fit(trainer: pl.Trainer, task: ImageTask, data: ImageData, folder: Path, resume: bool) -> None:
    """Train, from the last checkpoint on where `resume`; Ctrl-C becomes `Interrupted`."""
    last = folder / "checkpoints" / "last.ckpt"
    if resume:
        saved = checkpoints.read(last)
        checkpoints.load_weights(task.net, saved["state_dict"], last)
        if saved["epoch"] + 1 >= (trainer.max_epochs or 0):
            raise ValueError(
                f"{str(folder)!r} has been trained for all its {saved['epoch'] + 1} epochs; "
                "to go on give a larger trainer.max_epochs"
            )
    handler = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            # Between Lightning and newer releases of torch; nothing that a user could mend.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            if resume:
                warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            trainer.fit(task, datamodule=data, ckpt_path=last if resume else None, weights_only=True)
    except SystemExit:
        # Lightning ends the process after Ctrl-C, with exit code 1 and SIGINT ignored.
        signal.signal(signal.SIGINT, handler)
        kept = f"kept {last}; go on with: python train.py resume={folder}" if last.exists() else "no epoch was finished"
        raise Interrupted(kept) from None
    if torch.distributed.is_initialized():
        # The first process alone evaluates; the others are done.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        if not trainer.is_global_zero:
            sys.exit(0)


def show(
    logger: RunLogger, net: torch.nn.Module, data: ImageData, step: int, config: dict[str, Any], results: dict[str, Any]
) -> None:
    """The final figures, the choices behind them and a few predictions, for TensorBoard."""
    leading = ("accuracy", "mean_iou", "consistency", "consistency_circular", "shift_equivariance")
    names = [*(name for name in leading if name in results), *(name for name in results if name not in leading)]
    numbers = {f"final/{name}": results[name] for name in names if isinstance(results[name], (int, float))}
    # TensorBoard shows the first five choices in the order of their names, and the first figures in this order.
    choices = {name: results[name] for name in ("data", "head", "model", "pooling", "seed")} | {
        "training/batch_size": config["data"]["batch_size"],
        "training/epochs": results["epochs"],
        "training/lr": config["optimizer"]["lr"],
        "training/optimizer": config["optimizer"]["name"],
    }
    for name in ("final/seed", "final/epochs"):
        numbers.pop(name)
    logger.log_hyperparams(choices, numbers)
    images, targets, _ = next(data.evaluation_batches("test", 8))
    with torch.no_grad():
        probabilities = predictor(net, data)(images).softmax(dim=1).cpu()
    if data.task == "classification":
        figure = pictures.predictions(images, probabilities, targets, data.class_names)
    else:
        figure = pictures.segmentations(images, probabilities.argmax(dim=1), targets, data.class_names)
    logger.experiment.add_figure("predictions", figure, global_step=step)
    logger.experiment.flush()


def versions() -> dict[str, str]:
    """What the figures were made with."""
    packages = ("poolzoo", "torch", "torchvision", "pytorch-lightning")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}
