"""DeepLabv3 (Chen et al. 2017, arXiv:1706.05587): a dilated ResNet and atrous spatial pyramid pooling.

Keys and outputs are torchvision's; its auxiliary classifier, which only trains, is left out: a run here has one loss.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import Rate, initialise, rename_on_load, without
from models.placement import Place, Site
from models.registry import register
from models.resnet import Bottleneck
from pooling.operators.context import unit

DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


class DilatedResNet(nn.Module):
    """A bottleneck ResNet whose last two stages keep their resolution and dilate by 2 and 4 instead: 1/8 of the image.

    Shape: (N, in_channels, H, W) -> (N, 2048, H / 8, W / 8).
    """

    def __init__(self, place: Place, depths: tuple[int, int, int, int], in_channels: int) -> None:
        super().__init__()
        self.conv1, self.down1 = place.conv(Site("conv1", "conv", 64, 7, 2, 3), in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = place(Site("maxpool", "max", 64, 3, 2, 1))
        channels, layers = 64, []
        for stage, (depth, dilation) in enumerate(zip(depths, (1, 1, 2, 4), strict=True), start=1):
            blocks = []
            for index in range(depth):
                stride = 2 if stage == 2 and index == 0 else 1
                # The first block of a stage still sees the grid of the stage before.
                reach = max(1, dilation // 2) if index == 0 else dilation
                blocks.append(Bottleneck(place, f"layer{stage}.{index}", channels, 32 * 2**stage, stride, reach))
                channels = 4 * 32 * 2**stage
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.down1(self.relu(self.bn1(self.conv1(x)))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


@register(
    "deeplabv3",
    paper="Chen et al. 2017, arXiv:1706.05587",
    image_size=513,
    task="segmentation",
    torchvision="deeplabv3_{backbone}",
)
class DeepLabV3(nn.Module):
    """DeepLabv3: a ResNet of output stride 8, its context (aspp), and bilinear interpolation to the image's size.

    Shape: (N, in_channels, H, W) -> (N, num_classes, H, W).
    Args:
        backbone: the ResNet.
        context: what tells each position of its surroundings: "aspp" (the paper's) or another context operator.
        rates: aspp's dilations; 12, 24, 36 where None, for output stride 8.
        bins: ppm's grids; 1, 2, 3, 6 where None.
        dropout: rate after it.
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        backbone: Literal["resnet50", "resnet101"] = "resnet50",
        context: str = "aspp",
        rates: tuple[int, ...] | None = None,
        bins: tuple[int, ...] | None = None,
        dropout: Rate = 0.5,
    ) -> None:
        super().__init__()
        self.backbone = DilatedResNet(place, DEPTHS[backbone], in_channels)
        around = place.context(context, 2048, out_channels=256, rates=rates, bins=bins, dropout=dropout)
        conv = nn.Conv2d(256, 256, 3, padding=1, padding_mode=place.padding_mode, bias=False)
        self.classifier = nn.Sequential(around, *unit(conv, 256), nn.Conv2d(256, num_classes, 1))
        rename_on_load(self, without("aux_classifier."))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.classifier(self.backbone(x))
        return F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)
