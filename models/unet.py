"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) for segmentation."""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.placement import Place, Site
from models.registry import register
from pooling.options import Range


def double_conv(place: Place, in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        conv = nn.Conv2d(channels, out_channels, 3, padding=1, padding_mode=place.padding_mode, bias=False)
        layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Up(nn.Module):
    """Doubles the resolution and halves the channels, to exactly the size of the encoder map that it will join."""

    def __init__(self, channels: int, mode: Literal["transposed_conv", "nearest", "bilinear"]) -> None:
        super().__init__()
        self.mode = mode
        self.conv: nn.Module = (
            nn.ConvTranspose2d(channels, channels // 2, 2, 2)
            if mode == "transposed_conv"
            else nn.Conv2d(channels, channels // 2, 1)
        )

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if self.mode == "transposed_conv":
            x = self.conv(x)
            # An odd side lost its last row or column to the pool.
            return F.pad(x, (0, size[1] - x.shape[3], 0, size[0] - x.shape[2]), mode="replicate")
        align = {"align_corners": False} if self.mode == "bilinear" else {}
        return F.interpolate(self.conv(x), size=size, mode=self.mode, **align)


@register("unet", paper="Ronneberger et al. 2015, arXiv:1505.04597", image_size=64, task="segmentation")
class UNet(nn.Module):
    """U-Net: an encoder with a 2x2 max pool between levels, and a decoder that joins each level's map again.

    Unlike the paper the convolutions are padded, so that the output has the input's size, and batch-normalised.

    Shape: (N, in_channels, H, W) -> (N, num_classes, H, W).
    Args:
        depth: how many times the resolution is halved.
        width: channels of the first level (64 in the paper); each further one doubles them.
        up: how the decoder doubles the resolution.
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        depth: Annotated[int, Range(least=1, most=8)] = 4,
        width: Annotated[int, Range(least=2)] = 16,
        up: Literal["transposed_conv", "nearest", "bilinear"] = "transposed_conv",
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            double_conv(place, before, after) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        self.pools = nn.ModuleList(
            place(Site(f"pool{level}", "max", channels, 2, 2)) for level, channels in enumerate(widths[:-1], start=1)
        )
        self.ups = nn.ModuleList(Up(channels, up) for channels in widths[:0:-1])
        self.decoder = nn.ModuleList(double_conv(place, channels, channels // 2) for channels in widths[:0:-1])
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.encoder[0](x)]
        for pool, block in zip(self.pools, list(self.encoder)[1:], strict=True):
            levels.append(block(pool(levels[-1])))
        y = levels.pop()
        for up, block in zip(self.ups, self.decoder, strict=True):
            joined = levels.pop()
            y = block(torch.cat([joined, up(y, (joined.shape[2], joined.shape[3]))], dim=1))
        return self.classifier(y)
