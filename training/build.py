"""Networks and data from the plain dictionaries that a run's config holds."""

from typing import Any

from torch import nn

import datamodules
import models
from datamodules.module import ImageData


def build_data(data: dict[str, Any], seed: int) -> ImageData:
    """The data module of a config's `data` part, shuffled and augmented from the run's seed."""
    module = datamodules.create(**data, seed=seed)
    module.setup()
    return module


def build_net(
    model: dict[str, Any],
    pooling: dict[str, Any],
    head: dict[str, Any],
    data: ImageData,
    *,
    weights: str | None = None,
) -> nn.Module:
    """The network of a config's `model`, `pooling` and `head` parts, for these data.

    The weights that `model` names are where training starts; they are read only where they are passed as `weights`,
    so that a run's folder needs no other file.

    Raises:
        ValueError: the network and the data are for different tasks.
    """
    task = models.info(model["name"]).task
    if task != data.task:
        fitting = ", ".join(models.names(data.task))
        raise ValueError(
            f"model {model['name']!r} is for {task}, data {data.name!r} for {data.task}; take model= one of {fitting}"
        )
    choice = dict(pooling)
    sites = choice.pop("sites")
    return models.create(
        **dict(model, weights=weights),
        num_classes=data.num_classes,
        in_channels=data.in_channels,
        image_size=data.image_size,
        pooling=choice,
        head=head,
        sites=sites,
    )
