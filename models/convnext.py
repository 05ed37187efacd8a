"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545): no pool but the head; torchvision's keys."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import DropPath, Rate, own_modules
from models.placement import Place, SameConv2d, Site
from models.registry import register


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each position: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Permute(nn.Module):
    """Reorders the axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class Block(nn.Module):
    """7x7 depthwise convolution, then an inverted bottleneck of two linear layers on each position (figure 4)."""

    def __init__(self, place: Place, channels: int, drop_path: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            SameConv2d(channels, channels, 7, mode=place.padding_mode, groups=channels),
            Permute(0, 2, 3, 1),
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute(0, 3, 1, 2),
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), 1e-6))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop_path(self.layer_scale * self.block(x)) + x


class ConvNeXt(nn.Module):
    """A 4x4 stride 4 convolution, four stages with 2x2 stride 2 convolutions between them, global average, linear.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    def __init__(
        self,
        place: Place,
        depths: tuple[int, int, int, int],
        widths: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        conv, down = place.conv(Site("stem", "conv", widths[0], 4, 4), in_channels)
        self.features = nn.Sequential(nn.Sequential(conv, ChannelNorm(widths[0]), down))
        # The rate grows with depth, from 0 to `drop_path`.
        rates = iter(drop_path * index / (sum(depths) - 1) for index in range(sum(depths)))
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            if stage > 1:
                before = widths[stage - 2]
                conv, down = place.conv(Site(f"downsample{stage - 1}", "conv", width, 2, 2), before)
                self.features.append(nn.Sequential(ChannelNorm(before), conv, down))
            self.features.append(nn.Sequential(*(Block(place, width, next(rates)) for _ in range(depth))))
        self.avgpool, features = place.head("gap", widths[-1])
        norm = nn.LayerNorm(features, eps=1e-6)
        self.classifier = nn.Sequential(norm, nn.Flatten(), nn.Linear(features, num_classes))
        for module in own_modules(self):
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


def _register(
    name: str,
    depths: tuple[int, int, int, int],
    widths: tuple[int, int, int, int],
    rate: float,
    torchvision: str | None,
    paper: str = "Liu et al. 2022, arXiv:2201.03545",
) -> None:
    def build(
        place: Place, *, num_classes: int, in_channels: int, image_size: int, drop_path: Rate = rate
    ) -> nn.Module:
        return ConvNeXt(place, depths, widths, num_classes, in_channels, drop_path)

    build.__doc__ = f"ConvNeXt with {' + '.join(map(str, depths))} blocks of {', '.join(map(str, widths))} channels."
    register(name, paper=paper, image_size=224, least_side=4, torchvision=torchvision)(build)


_register("convnext_atto", (2, 2, 6, 2), (40, 80, 160, 320), 0.0, None, "Liu et al. 2022, the size of Woo et al. 2023")
_register("convnext_tiny", (3, 3, 9, 3), (96, 192, 384, 768), 0.1, "convnext_tiny")
_register("convnext_small", (3, 3, 27, 3), (96, 192, 384, 768), 0.4, "convnext_small")
_register("convnext_base", (3, 3, 27, 3), (128, 256, 512, 1024), 0.5, "convnext_base")
_register("convnext_large", (3, 3, 27, 3), (192, 384, 768, 1536), 0.5, "convnext_large")
