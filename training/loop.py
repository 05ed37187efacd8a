"""Lightning's training loop with our callbacks, and what happens when it is interrupted or goes on."""

import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import RichProgressBarTheme

from datamodules.module import ImageData
from training import checkpoints
from training.callbacks import CheckpointConfig, EpochLog, GradientLog, OperatorLog, RunClock, RunLogger, SitePictures
from training.stability import StabilityLog
from training.tasks import ImageTask

THREADS = torch.get_num_threads()


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; the message says what is kept and how to go on."""


def make_trainer(
    config: dict[str, Any], task: ImageTask, data: ImageData, folder: Path, logger: RunLogger, clock: RunClock
) -> pl.Trainer:
    """A trainer as the `trainer` part of a config says, writing into a run's folder."""
    settings = config["trainer"]
    torch.set_num_threads(settings["threads"] or THREADS)  # always: an earlier job of a sweep may have set it
    kept = {"dirpath": folder / "checkpoints", "enable_version_counter": False}
    callbacks: list[pl.Callback] = [
        # Two of them: Lightning's `save_last` follows the best one and is not the last epoch's.
        ModelCheckpoint(filename="best", monitor=task.monitor, mode="max", **kept),
        ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **kept),
        CheckpointConfig(config),
        EpochLog(folder / "metrics.csv"),
        clock,
        *([] if data.task == "detection" else [StabilityLog()]),
        OperatorLog(),
        GradientLog(),
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


def fit(trainer: pl.Trainer, task: ImageTask, data: ImageData, last: Path | None) -> None:
    """Train, from the checkpoint `last` on where there is one.

    Raises:
        SystemExit: Ctrl-C, for which Lightning ends the process; a further process, where its work ends.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            # Between Lightning and newer releases of torch; nothing that a user could mend.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            if last is not None:
                warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            trainer.fit(task, datamodule=data, ckpt_path=last, weights_only=True)
    except SystemExit:
        # Lightning's answer to Ctrl-C, with SIGINT ignored from then on.
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None
    if torch.distributed.is_initialized():
        # The first process alone evaluates; the others are done.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
        if not trainer.is_global_zero:
            sys.exit(0)


def to_go_on_from(folder: Path, task: ImageTask, max_epochs: int) -> dict[str, Any]:
    """The last checkpoint of a run that is resumed.

    Raises:
        ValueError, FileNotFoundError: none that fits, or nothing left to do.
    """
    file = folder / "checkpoints" / "last.ckpt"
    last = checkpoints.read(file)
    checkpoints.load_weights(task.net, last["state_dict"], file)
    epochs = last["epoch"] + 1
    if epochs >= max_epochs and (folder / "results.json").exists():
        raise ValueError(
            f"{str(folder)!r} has been trained for all its {epochs} epochs and evaluated; to go on give a larger "
            "trainer.max_epochs"
        )
    return last
