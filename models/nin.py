"""Network in Network (Lin et al. 2014, arXiv:1312.4400) and All-CNN-C (Springenberg et al. 2015, arXiv:1412.6806)."""

from torch import Tensor, nn

from models.layers import Rate, initialise
from models.placement import Place, Site
from models.registry import register


def linear(features: int, num_classes: int) -> nn.Module:
    """Nothing where the head gives one feature per class, as these papers' global average does; else a linear layer."""
    return nn.Identity() if features == num_classes else nn.Linear(features, num_classes)


@register("nin", paper="Lin et al. 2014, arXiv:1312.4400", image_size=32, least_side=4, classifier=("classifier", "fc"))
class NetworkInNetwork(nn.Module):
    """NIN for small images: three 5x5, 5x5, 3x3 convolutions, each with two 1x1 ones; one map per class at the end.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        dropout: rate after each max pool.
    """

    def __init__(
        self, place: Place, *, num_classes: int, in_channels: int, image_size: int, dropout: Rate = 0.5
    ) -> None:
        super().__init__()

        def mlpconv(before: int, kernel_size: int, *widths: int) -> list[nn.Module]:
            layers: list[nn.Module] = []
            for width, size in zip(widths, (kernel_size, 1, 1), strict=False):
                conv = nn.Conv2d(before, width, size, padding=size // 2, padding_mode=place.padding_mode)
                layers += [conv, nn.ReLU(inplace=True)]
                before = width
            return layers

        self.features = nn.Sequential(
            *mlpconv(in_channels, 5, 192, 160, 96),
            place(Site("pool1", "max", 96, 3, 2, 1)),
            nn.Dropout(dropout),
            *mlpconv(96, 5, 192, 192, 192),
            place(Site("pool2", "max", 192, 3, 2, 1)),
            nn.Dropout(dropout),
            *mlpconv(192, 3, 192, 192),
        )
        self.classifier = nn.Sequential(nn.Conv2d(192, num_classes, 1), nn.ReLU(inplace=True))
        self.head, features = place.head("gap", num_classes)
        self.fc = linear(features, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.head(self.classifier(self.features(x))))


@register(
    "allcnn",
    paper="Springenberg et al. 2015, arXiv:1412.6806",
    image_size=32,
    least_side=4,
    classifier=("classifier", "fc"),
)
class AllCNN(nn.Module):
    """All-CNN-C: 3x3 and 1x1 convolutions alone, two of them with stride 2 in place of pools (table 1 and table 2).

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        dropout: rate after each strided convolution. input_dropout: rate on the image.
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        dropout: Rate = 0.5,
        input_dropout: Rate = 0.2,
    ) -> None:
        super().__init__()

        def conv(before: int, width: int, kernel_size: int = 3) -> list[nn.Module]:
            mode, half = place.padding_mode, kernel_size // 2
            return [nn.Conv2d(before, width, kernel_size, padding=half, padding_mode=mode), nn.ReLU(inplace=True)]

        conv3, down3 = place.conv(Site("conv3", "conv", 96, 3, 2, 1), 96)
        conv6, down6 = place.conv(Site("conv6", "conv", 192, 3, 2, 1), 192)
        self.features = nn.Sequential(
            nn.Dropout(input_dropout),
            *conv(in_channels, 96),
            *conv(96, 96),
            *[conv3, nn.ReLU(inplace=True), down3, nn.Dropout(dropout)],
            *conv(96, 192),
            *conv(192, 192),
            *[conv6, nn.ReLU(inplace=True), down6, nn.Dropout(dropout)],
            *conv(192, 192),
            *conv(192, 192, 1),
        )
        self.classifier = nn.Sequential(*conv(192, num_classes, 1))
        self.head, features = place.head("gap", num_classes)
        self.fc = linear(features, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.head(self.classifier(self.features(x))))
