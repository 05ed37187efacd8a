"""SPP-net (He et al. 2014, arXiv:1406.4729): the ZF-5 network with a spatial pyramid before its classifier."""

from torch import Tensor, nn

from models.alexnet import classifier
from models.layers import Rate, after, local_response_norm
from models.placement import Place, Site
from models.registry import register


@register("sppnet", paper="He et al. 2014, arXiv:1406.4729", image_size=224, least_side=6)
class SPPNet(nn.Module):
    """ZF-5 of table 1 and a pyramid of 6x6, 3x3, 2x2 and 1x1 bins: 50 values a channel for an image of any size.

    Shape: (N, in_channels, H, W) -> (N, num_classes).
    Args:
        dropout: rate before each hidden fully connected layer.
    """

    def __init__(
        self, place: Place, *, num_classes: int, in_channels: int, image_size: int, dropout: Rate = 0.5
    ) -> None:
        super().__init__()
        mode = place.padding_mode
        # The paper "adjusts" the padding to maps of 55x55, 27x27 and 13x13 for 224 pixels; these paddings do.
        conv1, down1 = place.conv(Site("conv1", "conv", 96, 7, 2, 1), in_channels)
        conv2, down2 = place.conv(Site("conv2", "conv", 256, 5, 2, 1), 96)
        self.features = nn.Sequential(
            conv1,
            after(nn.ReLU(inplace=True), down1),
            local_response_norm(),
            place(Site("pool1", "max", 96, 3, 2, 1)),
            conv2,
            after(nn.ReLU(inplace=True), down2),
            local_response_norm(),
            place(Site("pool2", "max", 256, 3, 2)),
            nn.Conv2d(256, 384, 3, padding=1, padding_mode=mode),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 384, 3, padding=1, padding_mode=mode),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, padding_mode=mode),
            nn.ReLU(inplace=True),
        )
        self.head, features = place.head("spp", 256, levels=(6, 3, 2, 1))
        self.classifier = classifier(self.head, features, num_classes, dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.head(self.features(x)))
