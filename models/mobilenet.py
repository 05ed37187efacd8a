"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381); torchvision's keys."""

from torch import Tensor, nn

from models.layers import Rate, conv_norm, initialise
from models.placement import Place
from models.registry import register

# Table 2: expansion, output channels, repeats, stride of the first.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """1x1 convolution to a wider map, 3x3 depthwise one, which has the stride, linear 1x1 one back (figure 3)."""

    def __init__(
        self, place: Place, name: str, in_channels: int, out_channels: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = in_channels * expansion
        layers = [] if expansion == 1 else [conv_norm(place, "", in_channels, wide, 1, activation=nn.ReLU6)]
        depthwise = conv_norm(place, name, wide, wide, 3, stride, groups=wide, activation=nn.ReLU6)
        self.conv = nn.Sequential(*layers, depthwise, *conv_norm(place, "", wide, out_channels, 1))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


@register(
    "mobilenet_v2",
    paper="Sandler et al. 2018, arXiv:1801.04381",
    image_size=224,
    least_side=4,
    torchvision="mobilenet_v2",
)
class MobileNetV2(nn.Module):
    """MobileNetV2: strided convolutions alone, the depthwise ones of the inverted residuals among them.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        dropout: rate before the classifier.
    """

    def __init__(
        self, place: Place, *, num_classes: int, in_channels: int, image_size: int, dropout: Rate = 0.2
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm(place, "stem", in_channels, 32, 3, stride=2, activation=nn.ReLU6)]
        channels = 32
        for expansion, width, repeats, first_stride in STAGES:
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                name = f"features.{len(layers)}.depthwise"
                layers.append(InvertedResidual(place, name, channels, width, stride, expansion))
                channels = width
        layers.append(conv_norm(place, "", channels, 1280, 1, activation=nn.ReLU6))
        self.features = nn.Sequential(*layers)
        self.head, features = place.head("gap", 1280)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, num_classes))
        initialise(self)
        nn.init.normal_(self.classifier[1].weight, std=0.01)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.features(x)))
