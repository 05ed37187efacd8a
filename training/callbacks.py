"""What happens beside training: a table of the figures, a log line per epoch, throughput, pictures for TensorBoard."""

import csv
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from datamodules.transforms import normalise
from evaluation.efficiency import evaluating
from models import placed
from pooling.operators.base import logged
from training import pictures

log = logging.getLogger(__name__)


class RunLogger(TensorBoardLogger):
    """TensorBoard events directly in the run's folder, and nothing else (the config is in config.yaml)."""

    def __init__(self, folder: Path) -> None:
        # Ctrl-C may come between putting an event down and telling the thread that writes, which then finds it at its
        # next flush: by default in two minutes, for which a process that was told to end would wait.
        super().__init__(save_dir=folder, name="", version="", default_hp_metric=False, flush_secs=5)

    def save(self) -> None:
        self.experiment.flush()


class EpochLog(Callback):
    """One line per epoch in the log, one row in metrics.csv; a resumed run appends to both."""

    def __init__(self, table: Path) -> None:
        self.table = table
        self.started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self.started
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(seconds, 3),
        }
        row |= {name: float(value) for name, value in sorted(trainer.callback_metrics.items()) if "/" in name}
        for logger in trainer.loggers:
            logger.log_metrics({"lr": row["lr"]}, step=trainer.global_step)
        if not trainer.is_global_zero:
            return
        new = not self.table.exists()
        with self.table.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        epochs = trainer.max_epochs or 0
        figures = "  ".join(f"{name} {value:.4f}" for name, value in row.items() if "/" in str(name))
        left = seconds * (epochs - trainer.current_epoch - 1)
        log.info("epoch %d/%d  %s  %.0f s left", trainer.current_epoch + 1, epochs, figures, left)


class CheckpointConfig(Callback):
    """Puts the run's config into its checkpoints, so that a checkpoint alone can be evaluated."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config


class RunClock(Callback):
    """A run's seconds, over all its sittings, and its training images per second.

    The latter counts batches only, without validation, pictures and the first, slower batch of an epoch.
    """

    def __init__(self) -> None:
        self.images = 0
        self.batch_seconds = 0.0
        self.earlier_seconds = 0.0
        self.started = time.perf_counter()
        self.last: float | None = None

    @property
    def state_key(self) -> str:
        return "RunClock"

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.batch_seconds if self.batch_seconds else None

    @property
    def seconds(self) -> float:
        return self.earlier_seconds + time.perf_counter() - self.started

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images, "batch_seconds": self.batch_seconds, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images, self.batch_seconds = state_dict["images"], state_dict["batch_seconds"]
        self.earlier_seconds = state_dict["seconds"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.last = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cuda" and trainer.is_last_batch:
            torch.cuda.synchronize(pl_module.device)
        now = time.perf_counter()
        if self.last is not None:
            self.images += len(batch[0]) * trainer.world_size
            self.batch_seconds += now - self.last
        self.last = now


class OperatorLog(Callback):
    """Before training and after each epoch: what the operators have learned, as scalars `pooling/SITE/PARAMETER`."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == 0:
            self.write(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.write(trainer, pl_module)

    def write(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        numbers = learned_parameters(task.net)  # pyright: ignore[reportArgumentType]
        for logger in trainer.loggers if numbers else ():
            logger.log_metrics(numbers, step=trainer.global_step)


def learned_parameters(net: nn.Module) -> dict[str, float]:
    """`pooling/SITE/PARAMETER` for each number that an operator logs; for one per channel its mean, min and max.

    An operator away from the sites, such as the head, goes by its module's name.
    """
    found: dict[str, float] = {}
    places = {inner: site for site, module in placed(net).items() for inner in module.modules()}
    for path, module in net.named_modules():
        if not getattr(module, "operator", ""):
            continue
        for name, value in logged(module).items():
            tag = f"pooling/{places.get(module, path)}/{name}"
            value = value.detach().float()
            if value.numel() == 1:
                found[tag] = value.item()
            else:
                found |= {f"{tag}/{each}": getattr(value, each)().item() for each in ("mean", "min", "max")}
    return found


class GradientLog(Callback):
    """Of each epoch's first batch, the share of the cells before each site that a gradient reaches, as scalars
    `pooling/SITE/gradient_share`: a quarter where 2x2 windows take their maximum, all of them under an average."""

    def __init__(self) -> None:
        self.shares: dict[str, float] = {}
        self.hooks: list[RemovableHandle] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            net: Any = pl_module.net
            self.hooks = [m.register_forward_pre_hook(self.watch(site)) for site, m in placed(net).items()]

    def watch(self, site: str) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def note(gradient: Tensor) -> None:
            self.shares[f"pooling/{site}/gradient_share"] = (gradient != 0).float().mean().item()

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            seen = inputs[0].view_as(inputs[0])  # what reaches the map by another branch does not count
            if seen.requires_grad:
                seen.register_hook(note)
            return seen, *inputs[1:]

        return hook

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            for hook in self.hooks:
                hook.remove()
            for logger in trainer.loggers:
                logger.log_metrics(self.shares, step=trainer.global_step)


class SitePictures(Callback):
    """Before training and after it: an image's feature maps before and after each site, as TensorBoard images."""

    def __init__(self, images: Tensor) -> None:
        self.images = images  # uint8 (N, C, H, W); the first is shown

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            self.draw(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.draw(trainer, pl_module)

    def draw(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.logger is None:
            return
        net, data = task.net, trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(net, nn.Module)
        maps = site_maps(net, normalise(self.images[:1].to(task.device), data.mean, data.std))
        writer = trainer.logger.experiment  # pyright: ignore[reportAttributeAccessIssue]
        for name, (operator, before, after) in maps.items():
            figure = pictures.feature_maps(f"{name}: {operator}", before, after)
            writer.add_figure(f"sites/{name}", figure, global_step=trainer.global_step)


def site_maps(net: nn.Module, images: Tensor) -> dict[str, tuple[str, Tensor, Tensor]]:
    """For each site its operator's name and the maps before and after it, (C, H, W), of the first image."""
    maps: dict[str, tuple[str, Tensor, Tensor]] = {}

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        site: Any = module.site
        first = output[0] if isinstance(output, tuple) else output
        maps[site.name] = (site.operator, inputs[0][0].float().cpu(), first[0].float().cpu())

    hooks = [module.register_forward_hook(remember) for module in placed(net).values()]
    try:
        with evaluating(net), torch.no_grad():
            net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return maps
