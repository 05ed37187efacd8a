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

    widths = (64, 192, 384, 256, 256)
    groups = 1  # of the second, fourth and fifth convolution

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

        def conv(before: int, channels: int, size: int, groups: int = 1) -> list[nn.Module]:
            same = {"padding": size // 2, "padding_mode": place.padding_mode}
            return [nn.Conv2d(before, channels, size, groups=groups, **same), nn.ReLU(inplace=True)]

        width1, width2, width3, width4, width5 = self.widths
        conv1, down1 = place.conv(Site("conv1", "conv", width1, 11, 4, 2), in_channels)
        self.features = nn.Sequential(
            conv1,
            after(nn.ReLU(inplace=True), down1),
            *self.normalisation(),
            place(Site("pool1", "max", width1, pool_size, 2)),
            *conv(width1, width2, 5, self.groups),
            *self.normalisation(),
            place(Site("pool2", "max", width2, pool_size, 2)),
            *conv(width2, width3, 3),
            *conv(width3, width4, 3, self.groups),
            *conv(width4, width5, 3, self.groups),
            place(Site("pool5", "max", width5, pool_size, 2)),
        )
        self.avgpool, features = place.head("flatten", width5, grid=6)
        self.classifier = classifier(self.avgpool, features, num_classes, dropout)

    def normalisation(self) -> list[nn.Module]:
        """What precedes the first two pools."""
        return []

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


@register("alexnet_2012", paper="Krizhevsky et al. 2012", image_size=224, least_side=1)
class AlexNet2012(AlexNet):
    """The original AlexNet: convolutions in two groups, local response normalisation, overlapping max pools.

    The groups are the paper's two devices. Its 224 pixels give the paper's 55x55 maps with a padding of 2.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        dropout: rate before each hidden fully connected layer.
        pool_size: 3 for pools that overlap, 2 for pools that do not (section 3.4).
    """

    widths = (96, 256, 384, 384, 256)
    groups = 2

    def normalisation(self) -> list[nn.Module]:
        return [local_response_norm()]
