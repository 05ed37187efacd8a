"""Other people's networks with our operators: beside our own of the same weights, and what stays as it was."""

import copy
import io
import logging
import pickle

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BlurPool2d, Conv2dSame, ScaledStdConv2dSame, StdConv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor, nn
from torch.nn import functional as F

import models
from tests.models.torchvision_twins import both


def converted(net: nn.Module, size: int = 32, **arguments) -> nn.Module:
    channels = next(m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d))
    return models.convert(net, example_input=torch.zeros(1, channels, size, size), **arguments)


def operators(net: nn.Module) -> dict[str, str]:
    return {site.name: site.operator for site in models.sites(net)}


def assert_same(a: nn.Module, b: nn.Module, x: Tensor, rtol: float = 1e-5) -> None:
    with torch.no_grad():
        y = a(x)
        torch.testing.assert_close(b(x), y, rtol=rtol, atol=rtol * float(y.abs().max()))


# Beside the zoo's own


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize(
    "name, size", [("resnet18", 64), ("mobilenet_v2", 65), ("alexnet", 97), ("googlenet", 85), ("convnext_tiny", 64)]
)
def test_a_converted_network_computes_what_the_zoo_s_own_does(name, size, padding_mode):
    """Whatever the stem, at odd sizes, with shortcuts; ConvNeXt's operator follows its stem's normalisation."""
    common = {"image_size": size, "stem": "paper"}
    native, theirs = both(name, **common)
    x = torch.rand(1, 3, size, size)
    for pooling in ("max", "blur", "aps", "subsample"):
        with torch.device("meta"):
            ours = models.create(name, pooling=pooling, sites="all", padding_mode=padding_mode, **common)
        for operator in ours.modules():
            if getattr(operator, "row", None) is not None:  # a fixed filter is in no state_dict
                operator.row = torch.tensor([0.25, 0.5, 0.25])
                operator.weights = torch.outer(operator.row, operator.row)
        ours.load_state_dict(native.state_dict(), assign=True)
        found = converted(theirs, size, pooling=pooling, sites="all", padding_mode=padding_mode)
        assert_same(ours.eval(), found.eval(), x)


def test_sites_are_those_that_the_zoo_declares():
    ours = models.create("resnet50", image_size=64, stem="paper")
    theirs = converted(torchvision.models.resnet50(), 64, pooling=None)
    known = [(s.name.removesuffix(".0"), s.native, s.stride, s.resolution, s.follows) for s in models.sites(theirs)]
    assert [(k[0], k[1], k[2][0], k[3], k[4]) for k in known] == [
        (s.name, s.native, s.stride, s.resolution, s.follows) for s in models.sites(ours)
    ]


def test_a_converted_polyphase_network_ignores_circular_shifts():
    """Chaman & Dokmanic 2021: the shortcuts use the phase of the main branch."""
    torch.manual_seed(0)
    _, theirs = both("resnet18", image_size=64, stem="paper")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        theirs.train()(x)
    changes = {}
    for pooling in (None, "aps"):
        net = converted(theirs, 64, pooling=pooling, sites="all", padding_mode="circular").eval()
        with torch.no_grad():
            y = net(x)
            moved = [net(x.roll((dy, dx), (2, 3))) for dy, dx in [(1, 0), (0, 1), (3, 5), (-7, 2)]]
        changes[pooling] = max(float((other - y).abs().max() / y.abs().max()) for other in moved)
    assert changes["aps"] < 1e-5
    assert changes[None] > 1e-3


# Padding like TensorFlow's, blur pools, patch merging


class Layers(nn.Sequential):
    """A 1x1 convolution, so that there are parameters, and then what is tested."""

    def __init__(self, layer: nn.Module, channels: int = 3) -> None:
        super().__init__(nn.Conv2d(3, channels, 1), layer)


SAME = [
    (Conv2dSame(3, 4, 3, stride=2), "subsample"),
    (Conv2dSame(3, 4, (2, 5), stride=(3, 2)), "subsample"),
    (StdConv2dSame(3, 4, 5, stride=2), "subsample"),
    (ScaledStdConv2dSame(3, 4, 3, stride=2), "subsample"),
    (MaxPool2dSame(3, stride=2), "max"),
    (MaxPool2dSame((2, 3), stride=(2, 3)), "max"),
    (MaxPool2dSame(3, stride=2), "subsample"),
]


@pytest.mark.parametrize("layer, pooling", SAME, ids=lambda part: type(part).__name__)
@settings(max_examples=15)
@given(height=st.integers(5, 13), width=st.integers(5, 13))
def test_layers_that_pad_like_tensorflow_do_so_at_every_size(layer, pooling, height, width):
    """`subsample` behind a dense layer is that layer strided, wherever its windows begin."""
    net = Layers(layer).eval()
    other = converted(net, 8, pooling=pooling, sites="all")
    assert set(operators(other).values()) == {pooling}
    assert_same(net, other, torch.rand(2, 3, height, width))


@given(height=st.integers(5, 13), width=st.integers(5, 13))
def test_an_average_that_pads_like_tensorflow_counts_the_positions_inside(height, width):
    net = Layers(AvgPool2dSame(3, stride=2)).eval()
    other = converted(net, 8, pooling={"name": "avg", "count_include_pad": False})
    x = torch.rand(1, 3, height, width)
    with torch.no_grad():
        dense = net[0](x)
        share = net[1](torch.ones_like(dense))
        torch.testing.assert_close(other(x), net[1](dense) / share)


@pytest.mark.parametrize("filter", [3, 5])
def test_blur_stands_in_for_timm_s_blur_pool(filter):
    net = Layers(BlurPool2d(3, filt_size=filter)).eval()
    assert [site.native for site in models.sites(converted(net, pooling=None))] == ["blur"]
    other = converted(net, pooling={"name": "blur", "filter": filter})
    assert isinstance(other[1], type(models.convert(net, "blur")[1]))
    assert_same(net, other, torch.rand(1, 3, 14, 10))


class Merging(nn.Module):
    """Swin's patch merging between a convolution and (N, C, H, W)."""

    def __init__(self, merge: nn.Module) -> None:
        super().__init__()
        self.stem, self.merge = nn.Conv2d(3, 6, 1), merge

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(self.stem(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


MERGES = [
    timm.models.swin_transformer.PatchMerging(6),
    timm.models.swin_transformer_v2.PatchMerging(6),
    torchvision.models.swin_transformer.PatchMerging(6),
    torchvision.models.swin_transformer.PatchMergingV2(6),
]


@pytest.mark.parametrize("merge", MERGES, ids=lambda merge: f"{type(merge).__module__}.{type(merge).__name__}")
def test_patch_merging_runs_at_every_position_with_the_same_weights(merge):
    net = Merging(merge).eval()
    other = converted(net, 8, pooling="subsample", sites="all")
    assert [(site.native, site.channels) for site in models.sites(other)] == [("merge", 12)]
    assert other.state_dict().keys() == net.state_dict().keys()
    for size in [(8, 8), (7, 8), (9, 5)]:
        assert_same(net, other, torch.rand(2, 3, *size))


def test_polyphase_patch_merging_is_equivariant():
    """The patches begin where the phase says (Rojas-Gomez et al. 2023, adaptive patch merging)."""
    net = Merging(MERGES[0]).eval()
    aps = converted(net, 8, pooling="aps", sites="all", padding_mode="circular").eval()
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        for dy, dx in [(1, 0), (0, 1), (3, 5)]:
            sums = [torch.sort(f(v).flatten()).values for f in (aps, net) for v in (x, x.roll((dy, dx), (2, 3)))]
            torch.testing.assert_close(sums[0], sums[1])
            assert not torch.allclose(sums[2], sums[3], rtol=1e-3)


# Where an operator stands


class Block(nn.Module):
    """A strided convolution and what a forward function does with it."""

    def __init__(self, follow) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.act, self.last = nn.SiLU(), nn.Conv2d(4, 2, 1)
        self.follow = follow

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.follow(self, self.conv(x)))


def shared_activation(net: Block, y: Tensor) -> Tensor:
    return net.act(net.last(net.act(net.norm(y))).repeat(1, 2, 1, 1))


FOLLOWING = {
    "act.after": lambda net, y: net.act(net.norm(y)),
    "last.before": lambda net, y: F.relu(net.norm(y), inplace=True),
    "norm.after": lambda net, y: net.norm(y) * 2,
    "conv.after": lambda net, y: y * y.sigmoid(),  # two readers
}


@pytest.mark.parametrize("spot", FOLLOWING)
def test_an_operator_follows_what_alone_reads_the_convolution(spot):
    net = Block(FOLLOWING[spot]).eval()
    other = models.convert(net, "subsample", example_input=torch.zeros(1, 3, 8, 8))
    (name,) = [name for name, module in other.named_modules() if getattr(module, "site", None)]
    assert name == spot
    assert_same(net, other, torch.rand(2, 3, 9, 6))


def test_an_activation_that_is_used_twice_does_not_run_the_operator_twice():
    net = Block(shared_activation).eval()
    other = models.convert(net, "subsample", example_input=torch.zeros(1, 3, 8, 8))
    assert_same(net, other, torch.rand(2, 3, 8, 8))


class Shared(nn.Module):
    """One pool and one strided convolution, each used twice; the pool has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.again = self.pool
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.down(self.again(self.pool(self.stem(x))))).mean((2, 3))


@pytest.mark.parametrize("pooling", ["blur", "aps", "max", {"name": "lp", "learn_p": "channel"}])
def test_a_shared_module_is_one_site(pooling):
    net = converted(Shared(), pooling=pooling, sites="all")
    assert list(operators(net)) == ["pool", "down"]
    assert net.pool is net.again
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 4)


def test_a_shortcut_s_name_means_its_transition():
    net = torchvision.models.resnet18(num_classes=4)
    for name in ("layer3.0.conv1", "layer3.0.downsample.0", "layer3.*"):
        other = converted(net, 64, pooling="aps", sites=[name])
        filled = {name for name, operator in operators(other).items() if operator == "aps"}
        assert filled == {"layer3.0.conv1", "layer3.0.downsample.0"}


def test_auto_means_the_pools_or_the_convolutions_but_patch_embeddings():
    resnet = operators(converted(torchvision.models.resnet18(), 64))
    assert {name for name, operator in resnet.items() if operator == "blur"} == {"maxpool"}
    convnext = operators(converted(timm.create_model("test_convnext"), 64))
    assert [convnext[name] for name in list(convnext)[:2]] == ["native", "blur"]
    with pytest.raises(
        ValueError, match=r"sites=auto fills no site .* patch embeddings \(patch_embed.proj\); sites=all"
    ):
        models.convert(timm.create_model("test_vit"))


# What stays


def test_the_network_that_was_given_is_left_alone():
    net = torchvision.models.resnet18(num_classes=4).train()
    net.bn1.eval()
    before, x = copy.deepcopy(net.state_dict()), torch.rand(2, 3, 64, 64)
    other = converted(net, 64, pooling="aps", sites="all", padding_mode="circular").double()
    assert type(other) is type(net)
    assert [m.training for m in net.modules()][:3] == [True, True, False]
    assert [n for n, m in other.named_modules() if not m.training] == ["bn1"]
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert other.state_dict().keys() == before.keys()
    assert not models.sites(net)
    assert_same(net.eval(), copy.deepcopy(net), x)


def test_dtype_and_a_file_of_weights():
    net = torchvision.models.resnet18(num_classes=4).bfloat16()
    other = converted(net, 64, pooling={"name": "lp", "learn_p": "channel"}, sites="all")
    assert {tensor.dtype for tensor in other.parameters()} == {torch.bfloat16}
    assert other(torch.rand(1, 3, 64, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16
    added = other.state_dict().keys() - net.state_dict().keys()
    assert sorted(added)[:3] == [
        "layer2.0.conv2.before.theta",
        "layer2.0.downsample.0.before.theta",
        "layer3.0.conv2.before.theta",
    ]


def test_a_converted_network_can_be_copied_pickled_and_compiled():
    net = converted(torchvision.models.resnet18(num_classes=4), 64, pooling="aps", sites="all").eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        net(torch.rand(3, 3, 64, 64))  # a phase of another batch
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_same(net, other, x)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert_same(net, torch.load(file, weights_only=False), x)
    explained = torch._dynamo.explain(net)(x)
    assert explained.graph_break_count == 0


def test_native_finds_the_sites_and_changes_nothing():
    net = torchvision.models.googlenet(num_classes=4, init_weights=False, aux_logits=False).eval()
    other = converted(net, 64, pooling="native")
    assert {site.operator for site in models.sites(other)} == {"native"}
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(net(x), other(x))


class Left(nn.Module):
    """Pools that no operator can replace: one that gives indices, and a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3, stride=2), nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.pool(self.conv(x))[0], 2)


def test_pools_that_stay_are_named(caplog):
    caplog.set_level(logging.INFO)
    net = converted(Left(), pooling="blur")
    assert operators(net) == {"conv": "blur"}
    assert "Left: pools in the network itself, pool are functions or give indices, and stay as they are" in caplog.text


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"pooling": "blurr"}, ValueError, "did you mean 'blur'"),
        ({"pooling": "gap"}, ValueError, "'gap': a site takes a reducer or downsampler"),
        ({"pooling": {"name": "blur", "filter": 9}}, ValueError, "site maxpool: blur: filter must be"),
        ({"sites": "layer9"}, ValueError, r"'layer9' is no site.*layer2.0.conv1 \(conv\)"),
        ({"padding_mode": "mirror"}, ValueError, "padding_mode must be"),
        (
            {"example_input": torch.zeros(1, 2, 32, 32)},
            ValueError,
            r"ResNet does not take example_input \(1, 2, 32, 32\)",
        ),
    ],
)
def test_mistakes_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        models.convert(torchvision.models.resnet18(), **{"example_input": torch.zeros(1, 3, 32, 32)} | arguments)


def test_a_network_with_sites_is_created_with_its_operator():
    with pytest.raises(ValueError, match=r"ResNet has sites already; build it with models.create"):
        models.convert(models.create("resnet18"), "blur")
