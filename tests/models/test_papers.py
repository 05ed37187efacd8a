"""Each backbone's sites and sizes against the statements of its paper."""

import pytest
import torch
from torch import nn

import models
from models import external, report
from pooling.geometry import pair
from pooling.operators.base import Pool2d
from pooling.operators.heads import FlattenGrid, GlobalAvgPool2d, SpatialPyramidPool2d
from pooling.operators.learned import ScaledSubsample2d

# (native, kernel size, stride, side of the map before it), from the image on, at the paper's image size.
RESNET = [("conv", 7, 2, 224), ("max", 3, 2, 112), *[("conv", 3, 2, side) for side in (56, 28, 14)]]
VGG = [("max", 2, 2, side) for side in (224, 112, 56, 28, 14)]
DENSENET = [("conv", 7, 2, 224), ("max", 3, 2, 112), *[("avg", 2, 2, side) for side in (56, 28, 14)]]
CONVNEXT = [("conv", 4, 4, 224), *[("conv", 2, 2, side) for side in (56, 28, 14)]]
SITES = {
    "lenet5": [("avg", 2, 2, 28), ("avg", 2, 2, 10)],  # LeCun 1998, figure 2
    # Krizhevsky 2012, sections 3.4 and 3.5: overlapping pooling, s = 2 and z = 3
    "alexnet_2012": [("conv", 11, 4, 224), ("max", 3, 2, 55), ("max", 3, 2, 27), ("max", 3, 2, 13)],
    "alexnet": [("conv", 11, 4, 224), ("max", 3, 2, 55), ("max", 3, 2, 27), ("max", 3, 2, 13)],
    # Simonyan 2015, section 2.1: five max-pooling layers, 2x2, stride 2
    **{f"vgg{depth}{bn}": VGG for depth in (11, 13, 16, 19) for bn in ("", "_bn")},
    "nin": [("max", 3, 2, 32), ("max", 3, 2, 16)],  # Lin 2014, section 4.1: halves the image after two mlpconv layers
    "allcnn": [("conv", 3, 2, 32), ("conv", 3, 2, 16)],  # Springenberg 2015, tables 1 and 2: no pool
    # Szegedy 2015, table 1; the last pool as torchvision has it, 2x2 for 3x3
    "googlenet": [("conv", 7, 2, 224), *[("max", 3, 2, side) for side in (112, 56, 28)], ("max", 2, 2, 14)],
    # He 2014, table 1, ZF-5: maps of 55x55 and 27x27 behind the first pool and the second convolution
    "sppnet": [("conv", 7, 2, 224), ("max", 3, 2, 110), ("conv", 5, 2, 55), ("max", 3, 2, 27)],
    **{f"resnet{depth}": RESNET for depth in (18, 34, 50, 101, 152)},  # He 2016, table 1
    **{f"resnet{depth}": [("conv", 3, 2, 32), ("conv", 3, 2, 16)] for depth in (20, 32, 56)},  # section 4.2
    **{f"densenet{depth}": DENSENET for depth in (121, 161, 169, 201)},  # Huang 2017, table 1
    "densenet40": [("avg", 2, 2, 32), ("avg", 2, 2, 16)],
    # Liu 2022, section 2.2: a 4x4 stride 4 "patchify" stem, separate 2x2 stride 2 downsampling layers; no pool
    **{f"convnext_{size}": CONVNEXT for size in ("atto", "tiny", "small", "base", "large")},
    # Sandler 2018, table 2: strided convolutions alone
    "mobilenet_v2": [("conv", 3, 2, side) for side in (224, 112, 56, 28, 14)],
    # Tan 2019, table 1
    "efficientnet_b0": [("conv", k, 2, side) for k, side in zip((3, 3, 5, 3, 5), (224, 112, 56, 28, 14), strict=True)],
    "unet": [("max", 2, 2, side) for side in (64, 32, 16, 8)],  # Ronneberger 2015, section 2
    "fasterrcnn": [("conv", 3, 2, 64), ("conv", 3, 2, 32)],  # the features of resnet20
    # Chen 2017, section 3.1: with output stride 8 the last two stages keep their resolution
    "deeplabv3": [("conv", 7, 2, 513), ("max", 3, 2, 257), ("conv", 3, 2, 129)],
}


def on_meta(name, **options):
    with torch.device("meta"):
        return models.create(name, **options)


@pytest.mark.parametrize("name", models.names())
def test_the_pooling_is_the_papers(name):
    sites = [site for site in models.sites(on_meta(name)) if site.follows is None]
    found = [(s.native, pair(s.kernel_size)[0], pair(s.stride)[0], (s.resolution or (0,))[0]) for s in sites]
    assert found == SITES[name]


@pytest.mark.parametrize(
    "name, head",
    [("lenet5", FlattenGrid), ("alexnet_2012", FlattenGrid), ("vgg16", FlattenGrid), ("sppnet", SpatialPyramidPool2d)]
    + [(name, GlobalAvgPool2d) for name in ("nin", "allcnn", "googlenet", "resnet50", "densenet121", "convnext_atto")],
)
def test_the_head_is_the_papers(name, head):
    assert sum(isinstance(module, head) for module in on_meta(name).modules()) == 1


def test_lenets_average_is_learned_and_has_the_papers_size():
    """LeCun 1998, section II.B: S2 has 12 trainable parameters, S4 has 32, C1 156, C5 48,120, F6 10,164."""
    net = models.create("lenet5", in_channels=1)
    subsamplings = [m for m in net.modules() if isinstance(m, ScaledSubsample2d)]
    assert [sum(p.numel() for p in m.parameters()) for m in subsamplings] == [12, 32]
    assert sum(p.numel() for p in net.conv1.parameters()) == 156
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert [sum(p.numel() for p in m.parameters()) for m in linear] == [48_120, 10_164, 850]


@pytest.mark.parametrize(
    "name, millions, classes",
    [
        ("resnet20", 0.27, 10),  # He 2016, table 6
        ("resnet32", 0.46, 10),
        ("resnet56", 0.85, 10),
        ("alexnet_2012", 60.97, 1000),  # Krizhevsky 2012: "60 million parameters"
        ("vgg11", 133, 1000),  # Simonyan 2015, table 2
        ("vgg13", 133, 1000),
        ("vgg16", 138, 1000),
        ("vgg19", 144, 1000),
        ("allcnn", 1.4, 10),  # Springenberg 2015, table 3
        ("densenet40", 1.0, 10),  # Huang 2017, table 2
        ("mobilenet_v2", 3.5, 1000),  # torchvision's; Sandler 2018, table 4, has 3.4
        ("efficientnet_b0", 5.3, 1000),  # Tan 2019, table 2
        ("convnext_atto", 3.7, 1000),  # Woo 2023
        ("convnext_tiny", 29, 1000),  # Liu 2022, table 1
        ("convnext_small", 50, 1000),
        ("convnext_base", 89, 1000),
        ("convnext_large", 198, 1000),
    ],
)
def test_the_size_is_the_papers(name, millions, classes):
    count = sum(p.numel() for p in on_meta(name, num_classes=classes).parameters()) / 1e6
    digits = len(str(millions).partition(".")[2])
    assert round(count, digits) == millions


def test_the_cifar_resnets_have_as_many_layers_as_their_names_say():
    for depth in (20, 32, 56):
        layers = [m for m in on_meta(f"resnet{depth}").modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(layers) == depth


def test_local_response_normalisation_is_the_papers_formula():
    """Krizhevsky 2012, section 3.3: b_i = a_i / (2 + 1e-4 * sum over 5 channels of a_j^2) ^ 0.75."""
    (norm, _) = [m for m in on_meta("alexnet_2012").modules() if isinstance(m, nn.LocalResponseNorm)]
    a = torch.rand(1, 9, 2, 2, dtype=torch.float64) * 100
    for i in range(9):
        near = a[:, max(0, i - 2) : i + 3].square().sum(dim=1)
        torch.testing.assert_close(norm(a)[:, i], a[:, i] / (2 + 1e-4 * near) ** 0.75)


def test_sppnet_sees_50_bins_of_every_channel_of_any_image():
    """He 2014, section 2.2: fc6 takes 50 * 256 = 12,800 values whatever the image's size."""
    net = models.create("sppnet", num_classes=3)
    assert next(m for m in net.modules() if isinstance(m, nn.Linear)).in_features == 12_800
    assert net(torch.rand(1, 3, 180, 224)).shape == (1, 3)


def test_deeplabs_context_is_the_papers():
    """Chen 2017, section 3.3: a 1x1 convolution, three 3x3 ones with rates 6, 12, 18, doubled for output stride 8, and
    the map's mean."""
    branches = on_meta("deeplabv3").classifier[0].convs
    convs = [next(m for m in branch if isinstance(m, nn.Conv2d)) for branch in branches]
    assert [(conv.kernel_size[0], conv.dilation[0]) for conv in convs] == [(1, 1), (3, 12), (3, 24), (3, 36), (1, 1)]
    assert isinstance(branches[-1][0], nn.AdaptiveAvgPool2d)
    assert branches[-1][0].output_size == 1


def test_a_vision_transformer_has_patches_for_its_only_site():
    """Dosovitskiy 2021, section 3.1: patches of 16x16 pixels, and a class token in place of a pool."""
    net = external.create("timm", "vit_tiny_patch16_224", num_classes=10)
    (site,) = models.sites(net)
    assert (site.native, site.kernel_size, site.stride, site.resolution) == ("conv", (16, 16), (16, 16), (224, 224))
    assert net.cls_token.shape == (1, 1, site.channels)
    assert not any(isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d) for module in net.modules())


def test_googlenets_pools_inside_blocks_lose_no_resolution_and_are_no_sites():
    net = on_meta("googlenet")
    inner = [net.get_submodule(f"inception{block}.branch4.0") for block in "3a 3b 4a 4b 4c 4d 4e 5a 5b".split()]
    assert all(pool.window.stride == (1, 1) and not hasattr(pool, "site") for pool in inner)


def test_strided_convolutions_are_all_that_convnext_and_its_like_have():
    for name, pools in (("convnext_tiny", 0), ("mobilenet_v2", 0), ("allcnn", 0), ("resnet18", 1)):
        assert sum(isinstance(module, Pool2d) for module in on_meta(name).modules()) == pools


def test_the_cost_is_the_papers():
    """He 2016, table 1: 1.8 and 3.6 billion multiply-adds; Sandler 2018, table 4: 300 million; Liu 2022, table 1: 4.5
    billion."""
    costs = {
        row.name: row.flops / 2e9 for row in report.rows(["resnet18", "resnet34", "mobilenet_v2", "convnext_tiny"])
    }
    assert costs == pytest.approx(
        {"resnet18": 1.8, "resnet34": 3.6, "mobilenet_v2": 0.3, "convnext_tiny": 4.5}, rel=0.02
    )
