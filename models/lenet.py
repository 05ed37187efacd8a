"""LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B)."""

from typing import Literal

from torch import Tensor, nn

import pooling
from models.placement import Place, Site
from models.registry import register
from pooling.operators.heads import FlattenGrid


@register("lenet5", paper="LeCun et al. 1998", image_size=32, least_side=1)
class LeNet5(nn.Module):
    """LeNet-5: two convolutions, two subsamplings, three fully connected layers.

    As in the paper a subsampling is the sum of four inputs times a learned coefficient plus a bias, then squashed.
    Unlike the paper C3 is connected to every map of S2 and the output layer is linear. Images smaller than 32 pixels
    sit in the middle of the paper's 32x32 field. Under `padding_mode` "reflect" or "circular" the convolutions keep the
    size, so that there is no border.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        activation: the squashing function.
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        activation: Literal["tanh", "relu"] = "tanh",
    ) -> None:
        super().__init__()
        same = place.padding_mode != "zeros"
        field = 2 if same else max(0, (32 - image_size + 1) // 2)
        self.activation = nn.Tanh() if activation == "tanh" else nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=field, padding_mode=place.padding_mode)
        self.pool1 = place(Site("pool1", "avg", 6, 2, 2), native=self._subsampling(6))
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2 if same else 0, padding_mode=place.padding_mode)
        self.pool2 = place(Site("pool2", "avg", 16, 2, 2), native=self._subsampling(16))
        side = image_size // 4 if same else ((image_size + 2 * field - 4) // 2 - 4) // 2
        self.head, features = place.head("flatten", 16, grid=max(1, side))
        if isinstance(self.head, FlattenGrid):
            self.classifier = nn.Sequential(
                nn.Linear(features, 120),
                self.activation,
                nn.Linear(120, 84),
                self.activation,
                nn.Linear(84, num_classes),
            )
        else:
            self.classifier = nn.Linear(features, num_classes)

    def _subsampling(self, channels: int) -> nn.Module:
        return nn.Sequential(
            pooling.create("subsample_scaled", channels=channels, kernel_size=2, stride=2), self.activation
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.activation(self.conv1(x)))
        x = self.pool2(self.activation(self.conv2(x)))
        return self.classifier(self.head(x))
