"""Networks and data from the plain dictionaries that a run's config holds."""

from dataclasses import replace
from typing import Any

from torch import nn

import datamodules
import models
from datamodules.module import ImageData
from models import external

IMAGENET_CLASSES = 1000


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
    num_classes: int | None = None,
) -> nn.Module:
    """The network of a config's `model`, `pooling` and `head` parts, for these data.

    The weights that `model` names are where training starts; they are read only where they are passed as `weights`,
    so that a run's folder needs no other file. With a library's weights the data are normalised as those expect.

    Raises:
        ValueError: the network and the data are for different tasks.
    """
    choice = dict(pooling)
    arguments = {
        "num_classes": num_classes or data.num_classes,
        "in_channels": data.in_channels,
        "image_size": data.image_size,
        "sites": choice.pop("sites"),
        "pooling": choice,
        "head": head,
    }
    library = model.get("library")
    task = "classification" if library else models.info(model["name"]).task
    if task != data.task:
        fitting = ", ".join(models.names(data.task))
        raise ValueError(
            f"model {model['name']!r} is for {task}, data {data.name!r} for {data.task}; take model= one of {fitting}"
        )
    if library is None:
        return models.create(**dict(model, weights=weights), **arguments)
    if model.get("weights") not in (None, "none") and data.in_channels == 3:
        mean, std = external.normalisation(library, model["name"])
        data.dataset = replace(data.dataset, mean=mean, std=std)
    return external.create(**dict(model, weights=weights), **arguments)


def build_weighted(model: dict[str, Any], pooling: dict[str, Any], head: dict[str, Any], data: ImageData) -> nn.Module:
    """`build_net` with the weights that `model` names and the classes that these tell apart.

    Of a library's 1000 classes the data may have a few, by ImageNet's names: the network's logits are then theirs.

    Raises:
        ValueError: the weights know other classes than the data.
    """
    weights, library = model["weights"], model.get("library")
    if library is None or weights in (None, "none"):
        return build_net(model, pooling, head, data, weights=weights)
    known = external.read(library, model["name"], weights).classes
    if known == data.num_classes:
        return build_net(model, pooling, head, data, weights=weights)
    chosen = external.imagenet_classes(data.class_names) if known == IMAGENET_CLASSES else None
    if chosen is None:
        raise ValueError(
            f"weights {weights!r} tell {known} classes apart, data {data.name!r} has {data.num_classes} "
            f"({', '.join(data.class_names[:3])}, ...), which are not ImageNet's by name or WordNet identifier; "
            "train.py fits a classifier to them"
        )
    return external.Selected(build_net(model, pooling, head, data, weights=weights, num_classes=known), chosen)
