"""Pooling (downsampling) operators: a registry, and for each operator a module, a function and a NumPy definition.

    pooling.create("soft", kernel_size=3, stride=2, padding=1)    # an nn.Module
    pooling.functional.soft_pool2d(x, 3, 2, 1)                    # a function
    pooling.reference.soft_pool2d(x_numpy, 3, 2, 1)               # the definition
    pooling.names(), pooling.info("soft")                         # the catalogue
    pooling.plugins.load(["mine.py"])                             # your own, in the same registry
    with pooling.backend("composite"): ...                        # "auto", "native" or "composite"

Needs torch and numpy only.
"""

from pooling import functional, plugins, reference
from pooling.dispatch import backend
from pooling.geometry import Window
from pooling.operators import Context2d, Downsampler2d, GlobalPool2d, Upsample2d, WindowPool2d
from pooling.registry import Operator, create, info, names, register

__all__ = [
    "Context2d",
    "Downsampler2d",
    "GlobalPool2d",
    "Operator",
    "Upsample2d",
    "Window",
    "WindowPool2d",
    "backend",
    "create",
    "functional",
    "info",
    "names",
    "plugins",
    "reference",
    "register",
]
