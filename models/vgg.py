"""VGG (Simonyan & Zisserman 2015, arXiv:1409.1556), plain and with batch normalisation; torchvision's keys."""

from typing import Annotated

from torch import Tensor, nn

from models.layers import Rate, initialise, keeps_positions
from models.placement import Place, Site
from models.registry import register
from pooling.options import Range

WIDTHS = (1, 2, 4, 8, 8)  # of the stages, in units of the first one's


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each closed by a 2x2 max pool, and three fully connected layers (table 1).

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    def __init__(
        self,
        place: Place,
        depths: tuple[int, ...],
        batch_norm: bool,
        num_classes: int,
        in_channels: int,
        dropout: float,
        width: int,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for stage, (depth, times) in enumerate(zip(depths, WIDTHS, strict=True), start=1):
            for _ in range(depth):
                layers.append(nn.Conv2d(channels, times * width, 3, padding=1, padding_mode=place.padding_mode))
                layers += [nn.BatchNorm2d(times * width)] if batch_norm else []
                layers.append(nn.ReLU(inplace=True))
                channels = times * width
            layers.append(place(Site(f"pool{stage}", "max", channels, 2, 2)))
        self.features = nn.Sequential(*layers)
        self.avgpool, features = place.head("flatten", channels, grid=7)
        self.classifier: nn.Module = nn.Linear(features, num_classes)
        hidden = 64 * width  # 4096
        if keeps_positions(self.avgpool):
            self.classifier = nn.Sequential(
                nn.Linear(features, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, num_classes),
            )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


def _register(layers: int, depths: tuple[int, ...], configuration: str, batch_norm: bool) -> None:
    def build(
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        dropout: Rate = 0.5,
        width: Annotated[int, Range(least=1)] = 64,
    ) -> nn.Module:
        return VGG(place, depths, batch_norm, num_classes, in_channels, dropout, width)

    name = f"vgg{layers}{'_bn' if batch_norm else ''}"
    extra = ", batch-normalised" if batch_norm else ""
    build.__doc__ = (
        f"VGG of {layers} layers{extra} (Simonyan & Zisserman 2015, configuration {configuration}), `width` channels "
        "in the first of them."
    )
    paper = "Simonyan & Zisserman 2015, arXiv:1409.1556"
    register(name, paper=paper, image_size=224, least_side=1, torchvision=name)(build)


for _batch_norm in (False, True):
    _register(11, (1, 1, 2, 2, 2), "A", _batch_norm)
    _register(13, (2, 2, 2, 2, 2), "B", _batch_norm)
    _register(16, (2, 2, 3, 3, 3), "D", _batch_norm)
    _register(19, (2, 2, 4, 4, 4), "E", _batch_norm)
