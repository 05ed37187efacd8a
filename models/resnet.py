"""ResNets (He et al. 2016, arXiv:1512.03385): the ImageNet family of table 1 and the CIFAR family of section 4.2.

Keys and outputs of the ImageNet family are torchvision's, whose published weights load. As there, the stride of a
bottleneck is in its 3x3 convolution.
"""

import torch.nn.functional as F
from torch import Tensor, nn

import pooling
from models.layers import initialise
from models.placement import Place, Site, downsample
from models.registry import register


def projection(place: Place, main: Site, in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module | None]:
    """Option B of He 2016: the shortcut's operator, and a 1x1 convolution where the shape changes."""
    if main.stride == 1 and in_channels == out_channels:
        return nn.Identity(), None
    down, conv = place.skip(beside(main, in_channels), out_channels, bias=False)
    return down, nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def padding(place: Place, main: Site, in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module | None]:
    """Option A of He 2016: the shortcut subsamples and fills the new channels with zeros; no parameters."""
    if main.stride == 1 and in_channels == out_channels:
        return nn.Identity(), None
    native = pooling.create("subsample", kernel_size=1, stride=main.stride, native="conv")
    return place(beside(main, in_channels), native=native), ZeroChannels(out_channels - in_channels)


def beside(main: Site, channels: int) -> Site:
    """The site of the shortcut around a block's main site."""
    block = main.name.rpartition(".")[0]
    return Site(f"{block}.downsample", "conv", channels, 1, main.stride, follows=main.name)


class ZeroChannels(nn.Module):
    """(N, C, H, W) -> (N, C + count, H, W), the new channels zero."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.count))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first has the stride."""

    expansion = 1
    shortcut = staticmethod(projection)

    def __init__(self, place: Place, name: str, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        site = Site(f"{name}.conv1", "conv", width, 3, stride, 1)
        self.conv1, self.down = place.conv(site, in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, padding_mode=place.padding_mode, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.skip_down, self.downsample = self.shortcut(place, site, in_channels, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y, x = downsample(self.down, self.skip_down, y, x)
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the 3x3 has the stride."""

    expansion = 4

    def __init__(self, place: Place, name: str, in_channels: int, width: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        site = Site(f"{name}.conv2", "conv", width, 3, stride, dilation)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2, self.down = place.conv(site, width, bias=False, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.skip_down, self.downsample = projection(place, site, in_channels, width * self.expansion)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y, x = downsample(self.down, self.skip_down, y, x)
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The ImageNet family: a 7x7 stride 2 convolution, a 3x3 stride 2 max pool, four stages, global average, linear.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        place: Place,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.conv1, self.down1 = place.conv(Site("conv1", "conv", 64, 7, 2, 3), in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = place(Site("maxpool", "max", 64, 3, 2, 1))
        channels = 64
        for stage, depth in enumerate(depths, start=1):
            width, blocks = 32 * 2**stage, []
            for index in range(depth):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(block(place, f"layer{stage}.{index}", channels, width, stride))
                channels = width * block.expansion
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.avgpool, features = place.head("gap", channels)
        self.fc = nn.Linear(features, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.down1(self.relu(self.bn1(self.conv1(x)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x))


class CifarBlock(BasicBlock):
    """A basic block whose shortcut has no parameters."""

    shortcut = staticmethod(padding)


class CifarResNet(nn.Module):
    """The CIFAR family: a 3x3 convolution, three stages of 16, 32, 64 channels, global average, linear.

    Shape: (N, in_channels, image_size, image_size) -> (N, num_classes).
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, place: Place, depth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, padding_mode=place.padding_mode, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        channels = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            blocks = []
            for index in range((depth - 2) // 6):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(CifarBlock(place, f"layer{stage}.{index}", channels, width, stride))
                channels = width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.avgpool, features = place.head("gap", channels)
        self.fc = nn.Linear(features, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x))


def _register_imagenet(
    name: str, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, int, int, int]
) -> None:
    def build(place: Place, *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        return ResNet(place, block, depths, num_classes, in_channels)

    build.__doc__ = f"ResNet with {' + '.join(map(str, depths))} {block.__name__} blocks (He 2016, table 1)."
    paper = "He et al. 2016, arXiv:1512.03385"
    register(name, paper=paper, image_size=224, least_side=4, torchvision=name, classifier=("fc",))(build)


def _register_cifar(name: str, depth: int) -> None:
    def build(place: Place, *, num_classes: int, in_channels: int, image_size: int) -> nn.Module:
        return CifarResNet(place, depth, num_classes, in_channels)

    build.__doc__ = f"ResNet of {depth} layers for small images, with parameter-free shortcuts (He 2016, section 4.2)."
    paper = "He et al. 2016, arXiv:1512.03385"
    register(name, paper=paper, image_size=32, least_side=4, classifier=("fc",))(build)


_register_cifar("resnet20", 20)
_register_cifar("resnet32", 32)
_register_cifar("resnet56", 56)
_register_imagenet("resnet18", BasicBlock, (2, 2, 2, 2))
_register_imagenet("resnet34", BasicBlock, (3, 4, 6, 3))
_register_imagenet("resnet50", Bottleneck, (3, 4, 6, 3))
_register_imagenet("resnet101", Bottleneck, (3, 4, 23, 3))
_register_imagenet("resnet152", Bottleneck, (3, 8, 36, 3))
