"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) for segmentation."""

from typing import Annotated, Any

import torch
from torch import Tensor, nn

import pooling
from models.layers import Rate
from models.placement import Place, Site, with_choice
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
    """Multiplies the resolution and halves the channels, to exactly the size of the encoder map that it will join."""

    def __init__(self, place: Place, site: Site, channels: int, name: str) -> None:
        super().__init__()
        window: dict[str, Any] = {**site.geometry, "padding_mode": place.padding_mode}
        halves = "out_channels" in pooling.info(name, "upsample").options
        self.conv = nn.Identity() if halves else nn.Conv2d(channels, channels // 2, 1)
        if halves:
            window["out_channels"] = channels // 2
        self.up = pooling.create(name, kind="upsample", channels=channels if halves else channels // 2, **window)

    def forward(self, x: Tensor, size: tuple[int, int], choice: Tensor | None = None) -> Tensor:
        return self.up(self.conv(x), choice, size=size)


@register("unet", paper="Ronneberger et al. 2015, arXiv:1505.04597", image_size=64, task="segmentation")
class UNet(nn.Module):
    """U-Net: an encoder with a 2x2 max pool between levels, and a decoder that joins each level's map again.

    Unlike the paper the convolutions are padded, so that the output has the input's size, and batch-normalised.

    Shape: (N, in_channels, H, W) -> (N, num_classes, H, W).
    Args:
        depth: how many times the resolution is halved.
        width: channels of the first level (64 in the paper); each further one doubles them.
        up: how the decoder doubles the resolution: an upsampling operator. max_unpool needs pooling=max (or native),
            aps_up needs pooling=aps, lps_up pooling=lps.
        dropout: rate at the end of the encoder (section 3.1).
        context: a context operator (ppm, aspp) at the lowest resolution, or "none".
        rates: aspp's dilations; its own where None.
        bins: ppm's grids; its own where None.
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
        up: str = "transposed_conv",
        dropout: Rate = 0.0,
        context: str = "none",
        rates: tuple[int, ...] | None = None,
        bins: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            double_conv(place, before, after) for before, after in zip([in_channels, *widths], widths, strict=False)
        )
        sites = [Site(f"pool{level}", "max", channels, 2, 2) for level, channels in enumerate(widths[:-1], start=1)]
        self.pools = nn.ModuleList(place(site) for site in sites)
        self.dropout = nn.Dropout(dropout)
        self.context = nn.Identity()
        if context != "none":
            self.context = place.context(context, widths[-1], rates=rates, bins=bins)
        elif not rates is bins is None:
            raise TypeError("model 'unet': rates and bins are options of a context; take context=aspp or context=ppm")
        self.ups = nn.ModuleList(
            Up(place, site, channels, up) for site, channels in zip(sites[::-1], widths[:0:-1], strict=True)
        )
        self.decoder = nn.ModuleList(double_conv(place, channels, channels // 2) for channels in widths[:0:-1])
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels, choices = [self.encoder[0](x)], []
        for pool, block in zip(self.pools, list(self.encoder)[1:], strict=True):
            y, choice = self.pooled(pool, levels[-1])
            levels.append(block(y))
            choices.append(choice)
        y = self.context(self.dropout(levels.pop()))
        for up, block in zip(self.ups, self.decoder, strict=True):
            joined = levels.pop()
            y = block(torch.cat([joined, up(y, (joined.shape[2], joined.shape[3]), choices.pop())], dim=1))
        return self.classifier(y)

    def pooled(self, pool: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """A pool's output, and the places that it chose where the decoder needs them."""
        up = self.ups[0].up
        partner = getattr(up, "partner", None)
        if partner is None:
            return pool(x), None
        name, site = getattr(pool, "operator", "another"), pool.site
        assert isinstance(site, Site)
        if name != partner:
            classes = {name: pooling.info(name, "upsample").cls for name in pooling.names("upsample")}
            free = [name for name, cls in classes.items() if getattr(cls, "partner", None) is None]
            raise TypeError(
                f"model 'unet': up={getattr(up, 'operator', 'this')} puts back what pooling {partner!r} took, but "
                f"{site.name} has {name!r}; take pooling={partner} at every site, or up={' or '.join(free)}"
            )
        return with_choice(pool, x)
