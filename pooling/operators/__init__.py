"""The operators as modules, one file per family; importing them registers them."""

from pooling.operators import (
    adaptive,
    antialias,
    attention,
    context,
    fixed,
    heads,
    learned,
    polyphase,
    random,
    rank,
    regions,
    spectral,
    upsample,
)
from pooling.operators.base import Downsampler2d, GlobalPool2d, WindowPool2d
from pooling.operators.context import Context2d
from pooling.operators.upsample import Upsample2d

__all__ = [
    "Context2d",
    "Downsampler2d",
    "GlobalPool2d",
    "Upsample2d",
    "WindowPool2d",
    "adaptive",
    "antialias",
    "attention",
    "context",
    "fixed",
    "heads",
    "learned",
    "polyphase",
    "random",
    "rank",
    "regions",
    "spectral",
    "upsample",
]
