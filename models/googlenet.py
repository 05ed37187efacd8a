"""GoogLeNet (Szegedy et al. 2015, arXiv:1409.4842), torchvision's batch-normalised form of it.

Where torchvision departs from the paper's table 1 so does this network, whose keys and outputs are its own: the third
branch of a block has 3x3 convolutions for 5x5 ones, the last max pool is 2x2, batch normalisation is in the place of
local response normalisation. The auxiliary classifiers, which only train, are left out: a run here has one loss.
"""

import torch
from torch import Tensor, nn

import pooling
from models.layers import Rate, initialise, rename_on_load, without
from models.placement import Place, Site
from models.registry import register


class ConvUnit(nn.Module):
    """A convolution that keeps the size, batch normalisation, ReLU."""

    def __init__(
        self, place: Place, in_channels: int, out_channels: int, kernel_size: int, name: str = "", stride: int = 1
    ) -> None:
        super().__init__()
        site = Site(name, "conv", out_channels, kernel_size, stride, kernel_size // 2)
        self.conv, self.down = place.conv(site, in_channels, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.relu(self.bn(self.conv(x))))


class Inception(nn.Module):
    """Four branches side by side: 1x1; 1x1 then 3x3, twice; a 3x3 max pool then 1x1.

    The pool has stride 1: no resolution is lost, so it is no site.
    """

    def __init__(
        self,
        place: Place,
        in_channels: int,
        ones: int,
        threes: tuple[int, int],
        fives: tuple[int, int],
        pooled: int,
    ) -> None:
        super().__init__()
        self.branch1 = ConvUnit(place, in_channels, ones, 1)
        self.branch2 = nn.Sequential(ConvUnit(place, in_channels, threes[0], 1), ConvUnit(place, *threes, 3))
        self.branch3 = nn.Sequential(ConvUnit(place, in_channels, fives[0], 1), ConvUnit(place, *fives, 3))
        pool = pooling.create("max", kernel_size=3, stride=1, padding=1, padding_mode=place.padding_mode)
        self.branch4 = nn.Sequential(pool, ConvUnit(place, in_channels, pooled, 1))
        self.out_channels = ones + threes[1] + fives[1] + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


@register(
    "googlenet",
    paper="Szegedy et al. 2015, arXiv:1409.4842",
    image_size=224,
    least_side=4,
    torchvision="googlenet",
    classifier=("fc",),
)
class GoogLeNet(nn.Module):
    """GoogLeNet: a stem and nine inception blocks, a max pool between groups of them, global average, linear.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    Args:
        dropout: rate before the classifier (0.4 in the paper).
        transform_input: turn images normalised by ImageNet's mean and deviation to the range [-1, 1], on which the
            published weights were trained.
    """

    def __init__(
        self,
        place: Place,
        *,
        num_classes: int,
        in_channels: int,
        image_size: int,
        dropout: Rate = 0.2,
        transform_input: bool = False,
    ) -> None:
        super().__init__()
        if transform_input and in_channels != 3:
            raise ValueError(f"model 'googlenet': transform_input is for images of 3 channels, got {in_channels}")
        self.transform_input = transform_input
        self.conv1 = ConvUnit(place, in_channels, 64, 7, "conv1", stride=2)
        self.maxpool1 = place(Site("maxpool1", "max", 64, 3, 2, ceil_mode=True))
        self.conv2 = ConvUnit(place, 64, 64, 1)
        self.conv3 = ConvUnit(place, 64, 192, 3)
        self.maxpool2 = place(Site("maxpool2", "max", 192, 3, 2, ceil_mode=True))
        self.inception3a = Inception(place, 192, 64, (96, 128), (16, 32), 32)
        self.inception3b = Inception(place, 256, 128, (128, 192), (32, 96), 64)
        self.maxpool3 = place(Site("maxpool3", "max", 480, 3, 2, ceil_mode=True))
        self.inception4a = Inception(place, 480, 192, (96, 208), (16, 48), 64)
        self.inception4b = Inception(place, 512, 160, (112, 224), (24, 64), 64)
        self.inception4c = Inception(place, 512, 128, (128, 256), (24, 64), 64)
        self.inception4d = Inception(place, 512, 112, (144, 288), (32, 64), 64)
        self.inception4e = Inception(place, 528, 256, (160, 320), (32, 128), 128)
        self.maxpool4 = place(Site("maxpool4", "max", 832, 2, 2, ceil_mode=True))
        self.inception5a = Inception(place, 832, 256, (160, 320), (32, 128), 128)
        self.inception5b = Inception(place, 832, 384, (192, 384), (48, 128), 128)
        self.avgpool, features = place.head("gap", 1024)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(features, num_classes)
        rename_on_load(self, without("aux1.", "aux2."))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        if self.transform_input:
            mean, std = x.new_tensor([0.485, 0.456, 0.406]), x.new_tensor([0.229, 0.224, 0.225])
            x = (x * std[:, None, None] + mean[:, None, None]) * 2 - 1
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = self.maxpool4(self.inception4e(self.inception4d(x)))
        x = self.inception5b(self.inception5a(x))
        return self.fc(self.dropout(self.avgpool(x)))
