"""What is learned: classification, segmentation and detection as Lightning modules."""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from datamodules import UNLABELLED
from evaluation.detection import average_precision
from models.fasterrcnn import described
from training import optimizers, schedulers
from training.seeding import seed_all


class LossNotFinite(ArithmeticError):
    """The loss became NaN or infinite."""


class ImageTask(pl.LightningModule):
    """A network, its loss, its figures and its optimizer.

    Args:
        net: (N, C, H, W) normalised images -> logits.
        optimizer, scheduler: {"name": ..., options}.
        seed: the run's; each epoch starts from (seed, epoch).
    """

    monitor: str  # the validation figure that chooses the best checkpoint; more is better

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net = net
        self.optimizer_choice = optimizer
        self.scheduler_choice = scheduler
        self.label_smoothing = label_smoothing
        self.seed = seed
        self.train_figures = self.make_figures(num_classes)
        self.val_figures = self.make_figures(num_classes)

    def make_figures(self, num_classes: int) -> MetricCollection:
        """The figures beside the loss, updated with logits and targets."""
        raise NotImplementedError

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Shape: logits (N, num_classes, ...), targets (N, ...) -> ()."""
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def on_train_epoch_start(self) -> None:
        seed_all(self.seed, self.current_epoch, self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._step(batch, "val")

    def _step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        images, targets = batch
        logits = self.net(images)
        loss = self.loss(logits, targets)
        self.check_finite(loss, stage)
        figures = self.train_figures if stage == "train" else self.val_figures
        figures.update(logits.detach(), targets)
        self.log(
            f"{stage}/loss", loss, on_epoch=True, on_step=False, prog_bar=True, batch_size=len(images), sync_dist=True
        )
        named = {f"{stage}/{name}": figure for name, figure in figures.items()}
        self.log_dict(named, on_epoch=True, on_step=False, prog_bar=True, batch_size=len(images))
        return loss

    def check_finite(self, loss: Tensor, stage: str) -> None:
        """Raise LossNotFinite, with what to do, unless the loss is finite."""
        if not torch.isfinite(loss):
            which = "loss" if stage == "train" else "validation loss"
            raise LossNotFinite(
                f"the {which} is {loss.item()} at step {self.global_step} (epoch {self.current_epoch}); the "
                "checkpoints of earlier epochs are kept; try a smaller optimizer.lr or trainer.gradient_clip=1"
            )

    def configure_optimizers(self) -> Any:
        optimizer = optimizers.build(self.net, **self.optimizer_choice)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = schedulers.build(optimizer, steps, **self.scheduler_choice)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Classification(ImageTask):
    """One class an image. Logits (N, num_classes), targets (N,)."""

    monitor = "val/accuracy"

    def make_figures(self, num_classes: int) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(num_classes, average="micro")})


class Segmentation(ImageTask):
    """One class a pixel, `UNLABELLED` ones left out. Logits (N, num_classes, H, W), targets (N, H, W)."""

    monitor = "val/mean_iou"

    def make_figures(self, num_classes: int) -> MetricCollection:
        return MetricCollection(
            {
                "mean_iou": MulticlassJaccardIndex(num_classes, ignore_index=UNLABELLED),
                "pixel_accuracy": MulticlassAccuracy(num_classes, average="micro", ignore_index=UNLABELLED),
            }
        )

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing, ignore_index=UNLABELLED)


class Detection(ImageTask):
    """Boxes with a class each. The network gives its losses in training and detections otherwise; targets (N, K, 5)."""

    monitor = "val/map"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.label_smoothing:
            raise ValueError(f"label_smoothing={self.label_smoothing} is not for detection; leave it out")
        self.precision = average_precision()

    def make_figures(self, num_classes: int) -> MetricCollection:
        return MetricCollection({})

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, targets = batch
        losses = self.net(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        self.check_finite(loss, "train")
        self.log("train/loss", loss, on_epoch=True, on_step=False, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, targets = batch
        self.precision.update(self.net(images), described(targets))

    def on_validation_epoch_end(self) -> None:
        found = self.precision.compute()
        self.log_dict({f"val/{name}": found[name] for name in ("map", "map_50")}, prog_bar=True)
        self.precision.reset()


TASKS: dict[str, type[ImageTask]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "detection": Detection,
}
