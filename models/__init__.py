"""Backbones, each written with its sites in plain view, and what is put at those sites.

net = models.create("resnet18", num_classes=10, in_channels=1, image_size=28, pooling="blur")
models.sites(net)       # every place where resolution drops, with what stands there
models.names()
"""

from models import lenet, resnet, unet
from models.placement import Place, Site, placed, sites
from models.registry import Backbone, create, info, names, register

__all__ = [
    "Backbone",
    "Place",
    "Site",
    "create",
    "info",
    "lenet",
    "names",
    "placed",
    "register",
    "resnet",
    "sites",
    "unet",
]
