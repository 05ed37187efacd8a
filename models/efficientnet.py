"""EfficientNet-B0 (Tan & Le 2019, arXiv:1905.11946); torchvision's keys."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import DropPath, Rate, conv_norm, initialise
from models.placement import Place
from models.registry import register

# Table 1: expansion, kernel size, stride of the first, output channels, repeats.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class SqueezeExcitation(nn.Module):
    """Scales each channel by what two layers make of all channels' means (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.silu(self.fc1(F.adaptive_avg_pool2d(x, 1)), inplace=True)
        return x * self.fc2(scale).sigmoid()


class MBConv(nn.Module):
    """An inverted residual with squeeze-and-excitation; the depthwise convolution has the stride."""

    def __init__(
        self,
        place: Place,
        name: str,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expansion: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        layers = [] if expansion == 1 else [conv_norm(place, "", in_channels, wide, 1, activation=nn.SiLU)]
        self.block = nn.Sequential(
            *layers,
            conv_norm(place, name, wide, wide, kernel_size, stride, groups=wide, activation=nn.SiLU),
            SqueezeExcitation(wide, max(1, in_channels // 4)),
            conv_norm(place, "", wide, out_channels, 1),
        )
        self.residual = stride == 1 and in_channels == out_channels
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.block(x)) if self.residual else self.block(x)


@register(
    "efficientnet_b0",
    paper="Tan & Le 2019, arXiv:1905.11946",
    image_size=224,
    least_side=4,
    torchvision="efficientnet_b0",
)
class EfficientNetB0(nn.Module):
    """EfficientNet-B0: strided convolutions alone, the depthwise ones of the inverted residuals among them.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        dropout: rate before the classifier.
        drop_path: rate of stochastic depth, reached from 0 over the blocks.
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        dropout: Rate = 0.2,
        drop_path: Rate = 0.2,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_norm(place, "stem", in_channels, 32, 3, stride=2, activation=nn.SiLU))
        channels, number, total = 32, 0, sum(stage[-1] for stage in STAGES)
        for expansion, kernel_size, first_stride, width, repeats in STAGES:
            blocks: list[nn.Module] = []
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                name = f"features.{len(self.features)}.{index}.depthwise"
                rate = drop_path * number / total
                blocks.append(MBConv(place, name, channels, width, kernel_size, stride, expansion, rate))
                channels, number = width, number + 1
            self.features.append(nn.Sequential(*blocks))
        self.features.append(conv_norm(place, "", channels, 1280, 1, activation=nn.SiLU))
        self.avgpool, features = place.head("gap", 1280)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))
