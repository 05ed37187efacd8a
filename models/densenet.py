"""DenseNets (Huang et al. 2017, arXiv:1608.06993): the ImageNet family of table 1, with torchvision's keys, and the
small-image network of 40 layers."""

import re
from collections import OrderedDict
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import Rate, initialise, rename_on_load
from models.placement import Place, Site
from models.registry import register
from pooling.options import Range


class DenseLayer(nn.Module):
    """BN, ReLU, 3x3 convolution; with a bottleneck, a 1x1 convolution to 4 * growth channels before (section 3).

    Shape: (N, in_channels, H, W) -> (N, growth, H, W).
    """

    def __init__(self, place: Place, in_channels: int, growth: int, bottleneck: bool, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm1 = nn.BatchNorm2d(in_channels)
        width = 4 * growth if bottleneck else growth
        same = {"padding": 1, "padding_mode": place.padding_mode}
        self.conv1 = nn.Conv2d(in_channels, width, 1 if bottleneck else 3, bias=False, **({} if bottleneck else same))
        self.norm2 = nn.BatchNorm2d(width) if bottleneck else None
        self.conv2 = nn.Conv2d(width, growth, 3, bias=False, **same) if bottleneck else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x), inplace=True))
        if self.norm2 is not None and self.conv2 is not None:
            y = self.conv2(F.relu(self.norm2(y), inplace=True))
        return F.dropout(y, self.dropout, self.training) if self.dropout else y


class DenseBlock(nn.Module):
    """Layers each of which sees what all earlier ones gave.

    Shape: (N, C, H, W) -> (N, C + depth * growth, H, W).
    """

    def __init__(
        self, place: Place, depth: int, in_channels: int, growth: int, bottleneck: bool, dropout: float
    ) -> None:
        super().__init__()
        for index in range(depth):
            layer = DenseLayer(place, in_channels + index * growth, growth, bottleneck, dropout)
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


def transition(place: Place, index: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """BN, ReLU, a 1x1 convolution, and a 2x2 average pool: the site."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(in_channels, out_channels, 1, bias=False),
            pool=place(Site(f"transition{index}.pool", "avg", out_channels, 2, 2)),
        )
    )


class DenseNet(nn.Module):
    """Dense blocks joined by transitions; the last map passes BN, ReLU, global average, linear.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    def __init__(
        self,
        place: Place,
        stem: "OrderedDict[str, nn.Module]",
        channels: int,
        depths: tuple[int, ...],
        growth: int,
        num_classes: int,
        dropout: float,
        bottleneck: bool = True,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(stem)
        for index, depth in enumerate(depths, start=1):
            block = DenseBlock(place, depth, channels, growth, bottleneck, dropout)
            self.features.add_module(f"denseblock{index}", block)
            channels += depth * growth
            if index < len(depths):
                # The bottleneck form (DenseNet-BC) also halves the channels between blocks.
                kept = channels // 2 if bottleneck else channels
                self.features.add_module(f"transition{index}", transition(place, index, channels, kept))
                channels = kept
        self.features.add_module(f"norm{len(depths) + 1}", nn.BatchNorm2d(channels))
        self.head, features = place.head("gap", channels)
        self.classifier = nn.Linear(features, num_classes)
        initialise(self)
        nn.init.zeros_(self.classifier.bias)
        rename_on_load(self, current_key)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(F.relu(self.features(x), inplace=True)))


def current_key(key: str) -> str:
    """`denselayer1.norm.1.weight`, as the files that torchvision publishes have it, -> `denselayer1.norm1.weight`."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)


def _register(name: str, channels: int, growth: int, depths: tuple[int, int, int, int]) -> None:
    def build(place: Place, *, num_classes: int, in_channels: int, image_size: int, dropout: Rate = 0.0) -> nn.Module:
        conv0, down0 = place.conv(Site("conv0", "conv", channels, 7, 2, 3), in_channels, bias=False)
        stem = OrderedDict(
            conv0=conv0,
            norm0=nn.BatchNorm2d(channels),
            relu0=nn.ReLU(inplace=True),
            down0=down0,
            pool0=place(Site("pool0", "max", channels, 3, 2, 1)),
        )
        return DenseNet(place, stem, channels, depths, growth, num_classes, dropout)

    build.__doc__ = f"DenseNet-BC of {name[8:]} layers, growth {growth} (Huang 2017, table 1)."
    paper = "Huang et al. 2017, arXiv:1608.06993"
    register(name, paper=paper, image_size=224, least_side=4, torchvision=name)(build)


_register("densenet121", 64, 32, (6, 12, 24, 16))
_register("densenet161", 96, 48, (6, 12, 36, 24))
_register("densenet169", 64, 32, (6, 12, 32, 32))
_register("densenet201", 64, 32, (6, 12, 48, 32))


@register("densenet40", paper="Huang et al. 2017, arXiv:1608.06993", image_size=32, least_side=4)
def densenet40(
    place: Place,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    growth: Annotated[int, Range(least=1)] = 12,
    dropout: Rate = 0.0,
) -> nn.Module:
    """DenseNet of 40 layers for small images, without bottlenecks (Huang 2017, section 4.2 and table 2).

    Args:
        growth: channels that each layer adds.
        dropout: rate after each convolution (0.2 in the paper where images are not augmented).
    """
    stem: OrderedDict[str, nn.Module] = OrderedDict(
        conv0=nn.Conv2d(in_channels, 16, 3, padding=1, padding_mode=place.padding_mode, bias=False)
    )
    return DenseNet(place, stem, 16, (12, 12, 12), growth, num_classes, dropout, bottleneck=False)
