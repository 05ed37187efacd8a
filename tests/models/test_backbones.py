"""Every registered backbone: sizes, gradients, heads, and the theorem about polyphase sampling."""

import itertools

import pytest
import torch
from torch import nn

import models
import pooling
from models.placement import Choice, operator_at
from pooling.operators.context import Context2d
from tests.models.families import ONE_OF_EACH_FAMILY


@pytest.mark.parametrize("size", [8, 28, 32, 64])
def test_lenet_takes_images_of_many_sizes(size):
    assert models.create("lenet5", in_channels=1, image_size=size)(torch.rand(2, 1, size, size)).shape == (2, 10)


PARTNERS = {
    name: getattr(pooling.info(name, "upsample").cls, "partner", None)
    for name in pooling.names("upsample")
}  # fmt: skip


@pytest.mark.parametrize("up", PARTNERS)
@pytest.mark.parametrize("size", [16, 31])
def test_unet_keeps_the_image_size(up, size):
    net = models.create(
        "unet", num_classes=5, in_channels=2, image_size=size, depth=3, width=8, up=up, pooling=PARTNERS[up]
    )
    y = net(torch.rand(2, 2, size, size))
    assert y.shape == (2, 5, size, size)
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert [s.native for s in models.sites(net)] == ["max"] * 3


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_unet_s_max_unpool_takes_the_indices_of_its_own_pools_too(padding_mode):
    """The paper's own pools and pooling=max are one operator."""
    nets = []
    for choice in (None, "max"):
        torch.manual_seed(0)
        nets.append(
            models.create(
                "unet", image_size=16, depth=2, width=4, up="max_unpool", pooling=choice, padding_mode=padding_mode
            )
        )
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(nets[0](x), nets[1](x))


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"up": "max_unpool", "pooling": "blur"},
            "puts back what pooling 'max' took, but pool1 has 'blur'; take pooling=max",
        ),
        (
            {"up": "aps_up"},
            "puts back what pooling 'aps' took, but pool1 has 'max'; take pooling=aps at every site, or up=",
        ),
        ({"up": "aps_up", "pooling": "aps", "sites": ["pool1"]}, "but pool2 has 'max'"),
        ({"up": "aps_up", "pooling": "avg"}, "or up=nearest or bilinear or transposed_conv"),
        ({"rates": [2, 4]}, "take context=aspp or context=ppm"),
        ({"context": "ppm", "rates": [2, 4]}, "pooling 'ppm': no option 'rates'"),
    ],
)
def test_a_decoder_that_does_not_fit_its_encoder_is_told_what_to_take(options, words):
    with pytest.raises(TypeError) as caught:
        models.create("unet", image_size=32, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option, wrong, near", [("up", "nearst", "nearest"), ("context", "asp", "aspp")])
def test_an_unknown_part_of_a_decoder_is_answered_with_the_nearest(option, wrong, near):
    with pytest.raises(ValueError, match=f"'{wrong}' is not registered; did you mean '{near}'"):
        models.create("unet", image_size=32, **{option: wrong})


@pytest.mark.parametrize("context", ["ppm", "aspp"])
@pytest.mark.parametrize("backbone", ["unet", "deeplabv3"])
def test_every_context_in_every_segmenter(backbone, context):
    with torch.device("meta"):
        net = models.create(backbone, num_classes=3, in_channels=1, image_size=32, context=context)
        y = net(torch.rand(1, 1, 32, 32))
    assert y.shape == (1, 3, 32, 32)
    assert [m.operator for m in net.modules() if isinstance(m, Context2d)] == [context]
    y.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_options_of_a_context_reach_it():
    with torch.device("meta"):
        aspp = models.create("deeplabv3", rates=[6, 12], dropout=0.25).classifier[0]
        ppm = models.create("unet", context="ppm", bins=[1, 2]).context
    assert [branch[0].dilation for branch in list(aspp.convs)[1:-1]] == [(6, 6), (12, 12)]
    assert aspp.project[-1].p == 0.25
    assert len(ppm.branches) == 2


@pytest.mark.parametrize("context", ["none", "aspp"])
@pytest.mark.parametrize("up, pooling", [("aps_up", "aps"), ("lps_up", "lps"), ("nearest", "aps")])
def test_an_untrained_polyphase_unet_shifts_with_the_image(up, pooling, context):
    """Chaman & Dokmanic 2021b: exact where the sides divide by the total stride; no other way up is."""
    torch.manual_seed(0)
    common = {"in_channels": 1, "image_size": 16, "depth": 2, "width": 4, "padding_mode": "circular"}
    options = {"context": context} | ({"rates": [2, 5]} if context == "aspp" else {})
    net = models.create("unet", up=up, pooling=pooling, **common, **options).double()
    x = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    settle(net, x)
    change = 0.0
    with torch.no_grad():
        y = net(x)
        for shift in [(1, 0), (0, 1), (3, 5), (-7, 2), (4, 8)]:
            change = max(
                change, float((net(x.roll(shift, (2, 3))) - y.roll(shift, (2, 3))).abs().max() / y.abs().max())
            )
    assert change > 1e-4 if up == "nearest" else change < 1e-12


def dropouts(net):
    return {module.p for module in net.modules() if isinstance(module, nn.Dropout)}


@pytest.mark.parametrize("name", [name for name in models.names() if "dropout" in models.info(name).options])
def test_dropout_is_what_was_asked_for(name):
    """DenseNet's is a function of its layers."""
    with torch.device("meta"):
        net = models.create(name, dropout=0.375)
    found = dropouts(net) or {module.dropout for module in net.modules() if hasattr(module, "dropout")}
    assert 0.375 in found


def test_a_unet_s_dropout_closes_its_encoder():
    """Ronneberger 2015, section 3.1: the lowest map alone; all of it dropped leaves what the skips tell."""
    common = {"image_size": 16, "depth": 2, "width": 4}
    kept, dropped = (models.create("unet", dropout=rate, **common) for rate in (0.0, 1.0))
    dropped.load_state_dict(kept.state_dict())
    x, lowest = torch.rand(2, 3, 16, 16), []
    for net in (kept, dropped):
        net.ups[0].register_forward_pre_hook(lambda _, inputs: lowest.append(inputs[0]))
        assert net(x).std() > 0
    assert lowest[0].any()
    assert not lowest[1].any()


def output_shape(name: str, size: int) -> tuple[int, ...]:
    return (2, 3) if models.info(name).task == "classification" else (2, 3, size, size)


@pytest.mark.parametrize("name", [*models.names("classification"), *models.names("segmentation")])
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


# Without the 4096 hidden units, whose gradients alone would be most of the time.
SLIM = {"alexnet": {"head": "gap"}, "alexnet_2012": {"head": "gap"}, "sppnet": {"head": "gap"}, "vgg11": {"width": 8}}
# Larger than densenet40, resnet20 and vgg11, with the same sorts of sites.
DEAR = ("densenet121", "resnet50", "deeplabv3", "vgg11_bn")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH_FAMILY if name not in DEAR])
def test_every_operator_learns_in_every_family(name):
    """All of them in turn at the sites of one network: building each anew would take longer than running it."""
    net = models.create(
        name, num_classes=3, in_channels=1, image_size=32, pooling="subsample", sites="all", **SLIM.get(name, {})
    )
    paths = {module.site.name: path for path, module in net.named_modules() if hasattr(module, "site")}
    sites, x = models.sites(net), torch.rand(2, 1, 32, 32)
    shape = net(x).shape
    for operator in [*pooling.names("reducer"), *pooling.names("downsampler")]:
        for site in sites:
            net.set_submodule(paths[site.name], operator_at(site, Choice(operator), "zeros"))
        assert [site.operator for site in models.sites(net)] == [operator] * len(sites)
        net.zero_grad()
        y = net(x)
        assert y.shape == shape
        y.square().mean().backward()
        lost = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not lost, (operator, lost)


LIGHT = ["lenet5", "alexnet", "alexnet_2012", "vgg11", "vgg11_bn", "nin", "allcnn", "sppnet", "resnet20"]
DEEP = ["googlenet", "resnet50", "densenet40", "convnext_atto", "mobilenet_v2", "efficientnet_b0"]
HEADS = [*pooling.names("global"), {"name": "spp", "levels": [1, 3]}]
# One of each sort: features by channel, by pair of channels, by position; learned.
SORTS = ["gem", "covariance", "flatten", "map"]


@pytest.mark.parametrize("backbone, head", [*itertools.product(LIGHT, HEADS), *itertools.product(DEEP, SORTS)], ids=str)
def test_every_head_on_every_classifier(backbone, head):
    with torch.device("meta"):
        net = models.create(backbone, num_classes=3, in_channels=1, image_size=32, head=head)
        assert net(torch.rand(2, 1, 32, 32)).shape == (2, 3)


def test_every_family_of_classifiers_has_its_heads_tried():
    classifiers = {name for name in ONE_OF_EACH_FAMILY if models.info(name).task == "classification"}
    assert classifiers - {"densenet121"} <= {*LIGHT, *DEEP}  # densenet40 is its small twin


@pytest.mark.parametrize("head", pooling.names("global"))
@pytest.mark.parametrize("backbone", ["lenet5", "resnet20", "vgg11"])
def test_every_head_takes_a_training_step(backbone, head):
    """On small images vgg11's last map is a single position, which no head may turn into a NaN."""
    torch.manual_seed(0)
    width = {"width": 8} if backbone == "vgg11" else {}
    net = models.create(backbone, in_channels=1, image_size=32, head=head, **width)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    logits = net(torch.rand(4, 1, 32, 32))
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    optimizer.step()
    assert net.eval()(torch.rand(1, 1, 32, 32)).isfinite().all()


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
