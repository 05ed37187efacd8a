"""Backbones, each written with its sites in plain view, and what is put at those sites.

net = models.create("resnet18", num_classes=10, in_channels=1, image_size=28, pooling="blur")
models.sites(net)       # every place where resolution drops, with what stands there
models.names()
"""

from models import (
    alexnet,
    convnext,
    deeplab,
    densenet,
    efficientnet,
    fasterrcnn,
    googlenet,
    lenet,
    mobilenet,
    nin,
    resnet,
    sppnet,
    unet,
    vgg,
)
from models.library import convert
from models.placement import Place, Site, placed, sites
from models.registry import Backbone, create, info, names, register

__all__ = [
    "Backbone",
    "Place",
    "Site",
    "alexnet",
    "convert",
    "convnext",
    "create",
    "deeplab",
    "densenet",
    "efficientnet",
    "fasterrcnn",
    "googlenet",
    "info",
    "lenet",
    "mobilenet",
    "names",
    "nin",
    "placed",
    "register",
    "resnet",
    "sites",
    "sppnet",
    "unet",
    "vgg",
]
