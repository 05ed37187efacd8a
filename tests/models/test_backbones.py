"""Every registered backbone: sizes, gradients, heads, and the theorem about polyphase sampling."""

import pytest
import torch
from torch import nn

import models
from tests.models.families import ONE_OF_EACH_FAMILY


@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_lenet_takes_images_of_many_sizes(size):
    assert models.create("lenet5", in_channels=1, image_size=size)(torch.rand(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize("up", ["transposed_conv", "nearest", "bilinear"])
@pytest.mark.parametrize("size", [16, 31])
def test_unet_keeps_the_image_size(up, size):
    net = models.create("unet", num_classes=5, in_channels=2, image_size=size, depth=3, width=8, up=up)
    assert net(torch.rand(2, 2, size, size)).shape == (2, 5, size, size)
    assert [s.native for s in models.sites(net)] == ["max"] * 3


def output_shape(name: str, size: int) -> tuple[int, ...]:
    return (2, 3) if models.info(name).task == "classification" else (2, 3, size, size)


@pytest.mark.parametrize("name", models.names())
def test_every_backbone_at_its_usual_and_at_a_small_size(name):
    """What is registered is tested: shapes, filled sites, a gradient for every parameter; without memory for them."""
    for size in sorted({models.info(name).image_size, 32}):
        with torch.device("meta"):
            net = models.create(name, num_classes=3, in_channels=2, image_size=size)
            y = net(torch.rand(2, 2, size, size))
        assert y.shape == output_shape(name, size)
        assert models.sites(net)
        assert all(site.resolution is not None for site in models.sites(net))
        if size == 32:
            y.square().mean().backward()
            assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("pooling", [None, "blur"])
@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_every_family_learns_from_small_images(name, pooling):
    net = models.create(
        name, num_classes=3, in_channels=2, image_size=32, pooling=pooling, sites="all" if pooling else "auto"
    )
    y = net(torch.rand(2, 2, 32, 32))
    assert y.shape == output_shape(name, 32)
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert any(p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("head", ["gap", "gmp", "avgmax", "flatten", "spp", {"name": "spp", "levels": [1, 3]}])
@pytest.mark.parametrize("backbone", ["lenet5", "resnet20", "resnet18", "nin", "convnext_atto", "densenet40", "vgg11"])
def test_every_head_on_every_classifier(backbone, head):
    with torch.device("meta"):
        net = models.create(backbone, num_classes=3, in_channels=1, image_size=32, head=head)
        assert net(torch.rand(2, 1, 32, 32)).shape == (2, 3)


SHIFT_EQUIVARIANT = [
    ("lenet5", 32, "gap"),
    ("resnet20", 32, None),
    ("resnet18", 64, None),
    ("resnet50", 64, None),
    ("vgg11", 32, "gap"),
    ("nin", 32, None),
    ("allcnn", 32, None),
    ("densenet40", 32, None),
    ("convnext_atto", 64, None),
    ("mobilenet_v2", 64, None),
    ("efficientnet_b0", 64, None),
]


def settle(net, x):
    """Make x's statistics the running ones, so that the signal of a deep untrained network does not vanish."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net.train()(x)
    net.eval()


@pytest.mark.parametrize("backbone, size, head", SHIFT_EQUIVARIANT)
def test_an_untrained_polyphase_network_ignores_circular_shifts(backbone, size, head):
    """Chaman & Dokmanic 2021: exact wherever the sides divide by the total stride; with the native sites it is not."""
    torch.manual_seed(0)
    common = {"in_channels": 1, "image_size": size, "head": head, "padding_mode": "circular"}
    aps = models.create(backbone, pooling="aps", sites="all", **common).eval()
    native = models.create(backbone, **common).eval()
    x = torch.rand(4, 1, size, size)
    for net in (aps, native):
        settle(net, x)
    changes = {"aps": 0.0, "native": 0.0}
    with torch.no_grad():
        for dy, dx in [(1, 0), (0, 1), (3, 5), (-7, 2)]:
            for name, net in (("aps", aps), ("native", native)):
                y, shifted = net(x), net(x.roll((dy, dx), (2, 3)))
                changes[name] = max(changes[name], float((y - shifted).abs().max() / y.abs().max()))
    assert changes["aps"] < 1e-5
    assert changes["native"] > 1e-4


def test_a_narrow_vgg_has_the_paper_s_proportions() -> None:
    with torch.device("meta"):
        usual, narrow = (models.create("vgg11", num_classes=10, image_size=32, width=width) for width in (64, 8))
    for one, other in zip(usual.parameters(), narrow.parameters(), strict=True):
        for n, m in zip(one.shape[:2], other.shape[:2], strict=True):
            assert n == 8 * m or n == m in (3, 10)  # the image's channels and the classes


@pytest.mark.parametrize("name", ["alexnet", "alexnet_2012"])
def test_alexnet_s_pools_overlap_unless_asked_not_to(name) -> None:
    with torch.device("meta"):
        nets = [models.create(name), models.create(name, pool_size=2)]
    pools = [[site.kernel_size for site in models.sites(net) if site.is_pool] for net in nets]
    assert pools == [[3, 3, 3], [2, 2, 2]]
