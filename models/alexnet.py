"""AlexNet: torchvision's (Krizhevsky 2014, arXiv:1404.5997) and the original (Krizhevsky et al. 2012)."""

from typing import Literal

from torch import Tensor, nn

from models.layers import Rate, after, keeps_positions, local_response_norm
from models.placement import Place, Site
from models.registry import register


def classifier(head: nn.Module, features: int, num_classes: int, dropout: float) -> nn.Module:
    """Two hidden layers of 4096 units, each behind dropout (Krizhevsky et al. 2012, section 4.2)."""
    if not keeps_positions(head):
        return nn.Linear(features, num_classes)
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(features, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, num_classes),
    )


@register("alexnet", paper="Krizhevsky 2014, arXiv:1404.5997", image_size=224, least_side=1, torchvision="alexnet")
class AlexNet(nn.Module):
    """AlexNet on one device, without local response normalisation: torchvision's.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        dropout: rate before each hidden fully connected layer.
        pool_size: 3 for pools that overlap, 2 for pools that do not (section 3.4 of the paper of 2012).
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        dropout: Rate = 0.5,
        pool_size: Literal[2, 3] = 3,
    ) -> None:
        super().__init__()
        mode = place.padding_mode
        conv1, down1 = place.conv(Site("conv1", "conv", 64, 11, 4, 2), in_channels)
        self.features = nn.Sequential(
            conv1,
            after(nn.ReLU(inplace=True), down1),
            place(Site("pool1", "max", 64, pool_size, 2)),
            nn.Conv2d(64, 192, 5, padding=2, padding_mode=mode),
            nn.ReLU(inplace=True),
            place(Site("pool2", "max", 192, pool_size, 2)),
            nn.Conv2d(192, 384, 3, padding=1, padding_mode=mode),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, padding_mode=mode),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1, padding_mode=mode),
            nn.ReLU(inplace=True),
            place(Site("pool5", "max", 256, pool_size, 2)),
        )
        self.avgpool, features = place.head("flatten", 256, grid=6)
        self.classifier = classifier(self.avgpool, features, num_classes, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


@register("alexnet_2012", paper="Krizhevsky et al. 2012", image_size=224, least_side=1)
class AlexNet2012(nn.Module):
    """The original AlexNet: convolutions in two groups, local response normalisation, overlapping max pools.

    The groups are the paper's two devices. Its 224 pixels give the paper's 55x55 maps with a padding of 2.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        dropout: rate before each hidden fully connected layer.
        pool_size: 3 for pools that overlap, 2 for pools that do not (section 3.4 of the paper of 2012).
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        dropout: Rate = 0.5,
        pool_size: Literal[2, 3] = 3,
    ) -> None:
        super().__init__()
        mode = place.padding_mode
        conv1, down1 = place.conv(Site("conv1", "conv", 96, 11, 4, 2), in_channels)
        self.features = nn.Sequential(
            conv1,
            after(nn.ReLU(inplace=True), down1),
            local_response_norm(),
            place(Site("pool1", "max", 96, pool_size, 2)),
            nn.Conv2d(96, 256, 5, padding=2, padding_mode=mode, groups=2),
            nn.ReLU(inplace=True),
            local_response_norm(),
            place(Site("pool2", "max", 256, pool_size, 2)),
            nn.Conv2d(256, 384, 3, padding=1, padding_mode=mode),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1, padding_mode=mode, groups=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, padding_mode=mode, groups=2),
            nn.ReLU(inplace=True),
            place(Site("pool5", "max", 256, pool_size, 2)),
        )
        self.head, features = place.head("flatten", 256, grid=6)
        self.classifier = classifier(self.head, features, num_classes, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.features(x)))
