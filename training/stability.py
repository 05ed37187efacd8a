"""Shift stability while a network is trained: one cheap figure after each validation, the first before any training."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from datamodules.module import ImageData
from evaluation.efficiency import evaluating
from evaluation.metrics import Ratio
from evaluation.protocols import Circular, Crop
from evaluation.run import predictor
from evaluation.views import Batch

FEWEST, MOST, SHARE = 128, 1000, 0.02  # validation images: this share of the training images, within these bounds


class StabilityLog(Callback):
    """Logs `val/consistency` (one pair of crops of some validation images) or `val/shift_equivariance` (one roll).

    The value before the first epoch is what the untrained architecture gives. The same images and offsets every time,
    from a generator of their own: training is what it would be without.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == 0:
            name, value = stability(trainer, pl_module)
            for logger in trainer.loggers:
                logger.log_metrics({name: value}, step=0)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        name, value = stability(trainer, pl_module)
        pl_module.log(name, value, sync_dist=True)


def stability(trainer: pl.Trainer, task: pl.LightningModule) -> tuple[str, float]:
    """The figure's name and its value for the network as it is."""
    data, net = trainer.datamodule, task.net  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(data, ImageData)
    assert isinstance(net, torch.nn.Module)
    segmentation = data.task == "segmentation"
    protocol = Circular(repeats=1) if segmentation else Crop(repeats=1)
    (name, kind), *_ = protocol.figures(segmentation).items()
    limit = min(max(round(SHARE * data.sizes["train"]), FEWEST), MOST)
    figure = Ratio(kind).to(task.device)
    with evaluating(net), torch.no_grad():
        predict = predictor(net, data)
        for images, targets, indices in data.evaluation_batches("val"):
            images, targets = images.to(task.device), targets.to(task.device)
            # A crop is compared with a crop: the plain image's logits, one pass in three, are not needed.
            logits = predict(images) if segmentation else targets
            batch = Batch(images, targets, indices, logits).first(limit)
            if not len(batch.indices):
                break
            figure.update(*protocol.measure(predict, batch, seed=0).counts[name])
    return f"val/{name}", figure.estimate().value
