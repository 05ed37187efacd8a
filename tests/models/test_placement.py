"""Sites: what a choice fills, what a small image does to the stem, and what a filled site computes."""

import re

import pytest
import torch
from torch import nn

import models
import pooling
from models.placement import Choice, Place, Plan, SameConv2d, Site, downsample, selected, unstrided
from pooling import registry
from pooling.operators.base import GlobalPool2d, Pool2d
from tests.models.families import ONE_OF_EACH_FAMILY

POOL = Site("pool1", "max", 8, 3, 2, 1)
MAIN = Site("layer2.0.conv1", "conv", 16, 3, 2, 1)
SKIP = Site("layer2.0.downsample", "conv", 8, 1, 2, follows="layer2.0.conv1")
LATE = Site("layer3.0.conv1", "conv", 32, 3, 2, 1)
DECLARED = [POOL, MAIN, SKIP, LATE]


@pytest.mark.parametrize(
    "wanted, expected",
    [
        ("auto", {"pool1"}),
        ("pool", {"pool1"}),
        ("conv", {"layer2.0.conv1", "layer2.0.downsample", "layer3.0.conv1"}),
        ("all", {"pool1", "layer2.0.conv1", "layer2.0.downsample", "layer3.0.conv1"}),
        (["layer2.*"], {"layer2.0.conv1", "layer2.0.downsample"}),
        (["pool1", "layer3.0.conv1"], {"pool1", "layer3.0.conv1"}),
        ("layer[23].0.conv1", {"layer2.0.conv1", "layer2.0.downsample", "layer3.0.conv1"}),
    ],
)
def test_a_choice_of_sites_fills_these(wanted, expected):
    assert selected(DECLARED, wanted) == expected


def test_auto_means_the_convolutions_where_there_is_no_pool():
    assert selected([MAIN, SKIP, LATE], "auto") == {site.name for site in (MAIN, SKIP, LATE)}


@pytest.mark.parametrize("wanted", ["layer9", ["pool1", "nothing*"], []])
def test_a_choice_that_fills_no_site_lists_the_sites(wanted):
    with pytest.raises(ValueError, match=r"pool1 \(max\), layer2.0.conv1 \(conv\)"):
        selected(DECLARED, wanted)
    with pytest.raises(ValueError, match="sites=pool fills no site"):
        selected([MAIN], "pool")


def test_sites_that_are_no_names_are_told_what_is_allowed():
    with pytest.raises(TypeError, match=r"auto, pool, conv, all or a list of names, got 3 .*pool1 \(max\)"):
        selected(DECLARED, 3)


@pytest.mark.parametrize(
    "image_size, dropped",
    [
        (224, set()),
        (64, set()),
        (32, {"pool1"}),
        (28, {"pool1"}),  # ceil(28 / 4) = 7 >= 7; with pool1 it would be 4
        (14, {"pool1", "layer2.0.conv1", "layer2.0.downsample"}),
        (7, {site.name for site in DECLARED}),
    ],
)
def test_leading_sites_give_up_their_stride_until_the_last_map_is_large_enough(image_size, dropped):
    assert unstrided(DECLARED, image_size, least_side=7) == dropped


def test_resnet18_on_28_pixels_gets_the_usual_small_image_stem():
    net = models.create("resnet18", image_size=28, in_channels=1)
    assert [s.name for s in models.sites(net) if s.follows is None] == [f"layer{i}.0.conv1" for i in (2, 3, 4)]
    paper = models.create("resnet18", image_size=28, in_channels=1, stem="paper")
    assert [s.name for s in models.sites(paper)][:2] == ["conv1", "maxpool"]


def test_sites_tell_resolution_and_operator():
    net = models.create("resnet18", num_classes=3, image_size=224, pooling={"name": "blur", "filter": 5})
    by_name = {site.name: site for site in models.sites(net)}
    assert by_name["conv1"].resolution == (224, 224)
    assert by_name["conv1"].operator == "native"
    assert by_name["maxpool"].resolution == (112, 112)
    assert by_name["maxpool"].operator == "blur"
    assert by_name["layer4.0.downsample"].resolution == (14, 14)


SITE_OPERATORS = [*pooling.names("reducer"), *pooling.names("downsampler")]


@pytest.mark.parametrize("name", SITE_OPERATORS)
@pytest.mark.parametrize("backbone, size", [("lenet5", 32), ("resnet20", 32), ("resnet18", 64), ("unet", 37)])
def test_every_operator_stands_at_every_site_without_a_shape_changing(name, backbone, size):
    net = models.create(backbone, num_classes=4, in_channels=1, image_size=size, pooling=name, sites="all")
    native = models.create(backbone, num_classes=4, in_channels=1, image_size=size)
    assert [site.operator for site in models.sites(net)] == [name] * len(models.sites(native))
    assert [s.resolution for s in models.sites(net)] == [s.resolution for s in models.sites(native)]
    x = torch.rand(2, 1, size, size)
    y = net(x)
    assert y.shape == native(x).shape
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", SITE_OPERATORS)
@pytest.mark.parametrize(
    "backbone, size",
    [("alexnet", 97), ("googlenet", 85), ("densenet40", 33), ("convnext_atto", 69), ("mobilenet_v2", 65)],
)
def test_every_operator_keeps_the_sizes_of_every_family(name, backbone, size):
    """At odd sides, under the paper's stem, without memory for weights."""
    common = {"num_classes": 4, "image_size": size, "stem": "paper"}
    with torch.device("meta"):
        net = models.create(backbone, pooling=name, sites="all", **common)
        native = models.create(backbone, **common)
    assert {site.operator for site in models.sites(net)} == {name}
    assert [s.resolution for s in models.sites(net)] == [s.resolution for s in models.sites(native)]


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "circular"])
@pytest.mark.parametrize("backbone", ["lenet5", "resnet20", "resnet18", "unet"])
def test_padding_modes(backbone, padding_mode):
    net = models.create(backbone, in_channels=3, image_size=32, pooling="aps", sites="all", padding_mode=padding_mode)
    assert net(torch.rand(2, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("padding_mode", ["reflect", "circular"])
@pytest.mark.parametrize("backbone", ONE_OF_EACH_FAMILY)
def test_padding_modes_of_every_family_at_its_usual_size(backbone, padding_mode):
    """All convolutions and pools that pad take the mode."""
    with torch.device("meta"):
        net = models.create(backbone, padding_mode=padding_mode)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    modes = {m.mode if isinstance(m, SameConv2d) else m.padding_mode for m in convs if max(m.kernel_size) > 1}
    modes |= {m.padding_mode for m in net.modules() if isinstance(m, Pool2d) and any(m.window.padding)}
    assert modes == {padding_mode}


@pytest.mark.parametrize("padding_mode", ["reflect", "circular"])
@pytest.mark.parametrize("backbone", models.names())
def test_padding_modes_of_small_images(backbone, padding_mode):
    """A map may be smaller than what a convolution reaches past it."""
    with torch.device("meta"):
        assert models.create(backbone, image_size=32, padding_mode=padding_mode)


@pytest.mark.parametrize("kernel_size, dilation", [(2, 1), (4, 1), (11, 1), (3, 12), ((2, 5), (3, 1))])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular"])
def test_a_same_convolution_keeps_the_size_of_maps_smaller_than_itself(kernel_size, dilation, mode):
    conv = SameConv2d(1, 1, kernel_size, mode=mode, dilation=dilation, bias=False)
    x = torch.rand(1, 1, 5, 7)
    assert conv(x).shape == x.shape
    if (mode, dilation) == ("zeros", 12):
        return  # only the middle tap lies inside
    rolled = conv(x.roll((2, 3), (2, 3))).roll((-2, -3), (2, 3))
    assert torch.allclose(rolled, conv(x), atol=1e-5) == (mode == "circular")


def test_a_strided_convolution_is_a_dense_one_subsampled():
    """So a site filled with `subsample` computes what the native convolution does, whatever its kernel and padding."""
    torch.manual_seed(0)
    for backbone, mode in [("convnext_atto", "zeros"), ("convnext_atto", "circular"), ("mobilenet_v2", "zeros")]:
        common = {"image_size": 64, "stem": "paper", "padding_mode": mode}
        native = models.create(backbone, **common).eval()
        filled = models.create(backbone, pooling="subsample", sites="all", **common).eval()
        filled.load_state_dict(native.state_dict())
        x = torch.rand(1, 3, 64, 64)
        torch.testing.assert_close(filled(x), native(x))


def test_weights_are_the_same_for_every_parameter_free_operator():
    """So that a comparison starts all its networks at one point."""
    states = []
    for name in (None, "max", "blur", "aps", "stochastic"):
        torch.manual_seed(0)
        states.append(models.create("resnet20", pooling=name).state_dict())
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[key], states[0][key]) for key in state)


@pytest.mark.parametrize("backbone, size", [("lenet5", 28), ("resnet20", 32), ("convnext_atto", 64), ("unet", 32)])
def test_operators_keep_the_starting_point_of_their_own(backbone, size):
    """A backbone initialises its convolutions, not those inside of an operator."""
    net = models.create(backbone, image_size=size, pooling="lip", sites="all")
    inside = [module.conv for module in net.modules() if getattr(module, "operator", "") == "lip"]
    assert inside
    assert all((conv.weight == 0).all() for conv in inside)


def test_planning_a_network_draws_nothing_from_the_generator_but_its_weights():
    torch.manual_seed(0)
    expected = models.info("resnet20").build(Place(Plan()), num_classes=10, in_channels=3, image_size=32).state_dict()
    after = torch.rand(1)
    torch.manual_seed(0)
    net = models.create("resnet20")
    assert all(torch.equal(value, expected[key]) for key, value in net.state_dict().items())
    assert torch.equal(torch.rand(1), after)


def test_a_polyphase_pair_uses_the_phase_of_the_main_branch():
    main, skip = (pooling.create("aps", native="conv", stride=2) for _ in range(2))
    y, x = torch.zeros(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    y[0, :, 1::2, 0::2] = 1.0  # phase 2 has all the norm
    y[1, :, 1::2, 1::2] = 1.0  # phase 3
    out, shortcut = downsample(main, skip, y, x)
    assert torch.equal(out, torch.ones(2, 3, 2, 2))
    assert torch.equal(shortcut[0], x[0, :, 1::2, 0::2])
    assert torch.equal(shortcut[1], x[1, :, 1::2, 1::2])


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"pooling": "stochastc"}, ValueError, "did you mean 'stochastic'"),
        ({"pooling": "gap"}, ValueError, "kind 'global'"),
        ({"pooling": 3}, TypeError, "by its name, .* not by 3"),
        ({"head": ["gap"]}, TypeError, r"by its name, .* not by \['gap'\]"),
        ({"pooling": {"name": "blur", "filter": 9}}, ValueError, "site pool1: blur: filter must be"),
        ({"pooling": {"name": "blur", "fliter": 3}}, TypeError, "did you mean 'filter'"),
        ({"pooling": {"name": "native", "filter": 3}}, TypeError, "has no options"),
        ({"head": "gapp"}, ValueError, "head 'gapp' is not registered; did you mean 'gap'"),
        ({"head": "cls"}, ValueError, "has no class token .*timm's vision transformers have"),
        ({"head": {"name": "gap", "grid": 3}}, TypeError, "no option 'grid'"),
        ({"activation": "gelu"}, ValueError, "activation must be 'tanh' or 'relu'"),
        ({"activatoin": "relu"}, TypeError, "did you mean 'activation'"),
        ({"padding_mode": "mirror"}, ValueError, "padding_mode must be"),
        ({"stem": "none"}, ValueError, "stem must be"),
        ({"num_classes": 0}, ValueError, "num_classes must be a positive integer"),
        ({"image_size": -3}, ValueError, "image_size must be a positive integer"),
    ],
)
def test_bad_input_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        models.create("lenet5", **arguments)


def test_a_growth_of_nothing_is_refused():
    with pytest.raises(ValueError, match="growth must be an integer >= 1, got 0"):
        models.create("densenet40", growth=0)


def test_unknown_backbone_and_head_of_a_dense_network():
    with pytest.raises(ValueError, match=r"did you mean .*'resnet20'"):
        models.create("resnet2O")
    with pytest.raises(ValueError, match="takes no head"):
        models.create("unet", head="gap")


@pytest.mark.parametrize(
    "name, arguments, advice",
    [
        ("unet", {"image_size": 3}, "the least size is 16x16"),
        ("unet", {"image_size": 64, "depth": 8}, "the least size is 256x256"),
        ("vgg11", {"image_size": 28, "stem": "paper"}, "stem=auto lets leading sites run at stride 1"),
        ("alexnet", {"image_size": 32, "stem": "paper"}, "stem=auto lets leading sites run at stride 1"),
        ("alexnet", {"image_size": 5}, "the least size is 7x7"),
    ],
)
def test_an_image_too_small_for_the_network_is_refused_with_what_helps(name, arguments, advice):
    with pytest.raises(ValueError, match=rf"{name}.*does not take images of .* pixels .*{advice}") as refusal:
        models.create(name, **arguments)
    if found := re.search(r"least size is (\d+)x", str(refusal.value)):
        least = int(found.group(1))
        with torch.device("meta"):
            models.create(name, **(arguments | {"image_size": least}))
            with pytest.raises(ValueError, match="does not take"):
                models.create(name, **(arguments | {"image_size": least - 1}))


def test_a_head_that_needs_another_size_is_named(monkeypatch):
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))

    @pooling.register("four_by_four", kind="global", paper="none")
    class FourByFour(GlobalPool2d):
        def __init__(self, *, channels: int) -> None:
            super().__init__(channels)

        def reduce(self, x):
            if x.shape[-2:] != (4, 4):
                raise ValueError("four_by_four: the map must be 4x4")
            return x.mean(dim=(2, 3))

    assert models.create("resnet20", image_size=16, head="four_by_four")
    with pytest.raises(ValueError, match=r"head 'four_by_four' does not take the 64x8x8 map of an image of 32x32"):
        models.create("resnet20", head="four_by_four")


def test_an_image_so_small_that_no_site_is_left_is_named():
    with pytest.raises(ValueError, match=r"at 12 pixels every site runs at stride 1, so there is none for .*'blur'"):
        models.create("googlenet", image_size=12, pooling="blur")
    assert not models.sites(models.create("googlenet", image_size=12))


def test_choice_takes_names_dictionaries_and_none():
    assert Choice.of(None) is None
    assert Choice.of("native") is None
    assert Choice.of({"name": "native"}) is None
    assert Choice.of("blur") == Choice("blur")
    assert Choice.of({"name": "blur", "filter": 4}) == Choice("blur", {"filter": 4})
