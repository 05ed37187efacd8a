"""Downsamplers that choose frequencies; each takes the map as periodic, whatever the network's padding.

Circular shifts by the stride, where it divides H and W, shift their output.
"""

from typing import Annotated

from torch import Tensor

from pooling import functional
from pooling.operators.base import Downsampler2d
from pooling.options import Range
from pooling.registry import register


@register("ideal", kind="downsampler", paper="Shannon 1949; in networks: Michaeli et al. 2023, arXiv:2303.08085")
class IdealPool2d(Downsampler2d):
    """An ideal low-pass filter at the new Nyquist frequency before subsampling.

    Only frequencies below it, |k| < H / (2 stride) along each axis, are kept; at stride 1 all are.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.ideal_pool2d(x, self.window.stride)


@register("flc", kind="downsampler", paper="Grabinski et al. 2022, arXiv:2204.00491")
class FrequencyLowCut2d(Downsampler2d):
    """The centred spectrum cropped to the new size (FrequencyLowCut pooling); the real part.

    Of an even size the band is -n/2 .. n/2 - 1, as the paper crops it.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.flc_pool2d(x, size)


@register("asap", kind="downsampler", paper="Grabinski et al. 2023, arXiv:2307.09804")
class AliasingAndSpectralArtifactFreePool2d(Downsampler2d):
    """`flc` under a Hamming window over the kept band, which keeps the crop's edge from ringing (ASAP).

    The window is 1 at frequency 0: constants stay as they are.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
    """

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.asap_pool2d(x, size)


@register("spectral", kind="downsampler", paper="Rippel et al. 2015, arXiv:1506.03767")
class SpectralPool2d(Downsampler2d):
    """The spectrum cropped to any size, its symmetry kept exactly: a real map's spectrum stays one (spectral pooling).

    Unlike `flc` it keeps both signs of the highest frequency of an even size.

    Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W', or (N, C, size, size).
    Args:
        size: rows and columns of the output, whatever the site says; it may exceed H and W, which interpolates.
    """

    def __init__(self, *, size: Annotated[int, Range(least=1)] | None = None, **site) -> None:
        super().__init__(**site)
        self.size = size

    def subsample(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return functional.spectral_pool2d(x, size if self.size is None else self.size)
