"""The registry: what is registered can be listed, described and built; a mistake is answered with the way out."""

from collections.abc import Iterator
from typing import Annotated, Literal

import pytest
import torch
from torch import Tensor, nn

import pooling
from pooling import registry
from pooling.geometry import Window
from pooling.options import Range


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    return


def register_mine() -> type[nn.Module]:
    @pooling.register("mine", kind="reducer", paper="nobody 2030", learnable=True)
    class Mine(pooling.WindowPool2d):
        """A scaled mean.

        More of it.
        """

        def __init__(
            self,
            *,
            scale: Annotated[float, Range(above=0)] = 2.0,
            sign: Literal["plus", "minus"] = "plus",
            channels: int | None = None,
            **geometry,
        ) -> None:
            super().__init__(**geometry)
            self.scale, self.sign, self.channels = scale, 1 if sign == "plus" else -1, channels

        def reduce(self, x: Tensor, window: Window) -> Tensor:
            return self.sign * self.scale * pooling.functional.avg_pool2d(x, window)

    return Mine


def test_a_user_s_operator_is_listed_described_and_built() -> None:
    Mine = register_mine()
    assert "mine" in pooling.names()
    assert "mine" in pooling.names("reducer")
    assert "mine" not in pooling.names("downsampler")
    operator = pooling.info("mine")
    assert (operator.name, operator.kind, operator.cls) == ("mine", "reducer", Mine)
    assert (operator.paper, operator.summary) == ("nobody 2030", "A scaled mean.")
    assert operator.learnable
    assert not operator.random
    assert list(operator.options) == ["scale", "sign"]
    assert operator.options["scale"].default == 2.0
    assert operator.options["scale"].allowed == "a number > 0"

    built = pooling.create("mine", channels=5, kernel_size=3, stride=2, padding=1, scale=3, sign="minus")
    assert isinstance(built, Mine)
    assert built.channels == 5
    assert built.window == Window.of(3, 2, 1)
    x = torch.rand(1, 5, 7, 7)
    torch.testing.assert_close(built(x), -3 * nn.AvgPool2d(3, 2, 1)(x))


def test_a_user_s_mistakes_are_answered_by_name() -> None:
    register_mine()
    with pytest.raises(ValueError, match="mine: scale must be a number > 0, got 0"):
        pooling.create("mine", scale=0)
    with pytest.raises(TypeError, match="mine: scale must be a number > 0, got '3'"):
        pooling.create("mine", scale="3")
    with pytest.raises(
        TypeError, match=r"'mine': no option 'scal'; did you mean 'scale'\? \(its options: scale, sign\)"
    ):
        pooling.create("mine", scal=2)
    with pytest.raises(ValueError, match="mine: stride must be at least 1, got 0"):
        pooling.create("mine", stride=0)
    with pytest.raises(ValueError, match="mine: the input must be"):
        pooling.create("mine")(torch.zeros(4, 4))


def test_options_are_checked_where_the_class_is_called_too() -> None:
    with pytest.raises(ValueError, match="mine: scale must be a number > 0, got -1"):
        register_mine()(scale=-1)


def test_a_plain_module_can_be_registered() -> None:
    @pooling.register("plain", kind="reducer")
    class Plain(nn.Module):
        def __init__(self, kernel_size: int, stride: int | None = None) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(kernel_size, stride)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(x)

    # It is given what its signature names and nothing else.
    assert pooling.create("plain", kernel_size=2, stride=2, padding=1)(torch.zeros(1, 1, 4, 4)).shape == (1, 1, 2, 2)
    assert pooling.info("plain").options == {}


def test_a_name_belongs_to_one_operator_of_a_kind() -> None:
    register_mine()
    with pytest.raises(ValueError, match="'mine' is registered already"):
        register_mine()
    with pytest.raises(ValueError, match=r"'other': kind must be one of reducer, .*, got 'reduce'"):
        pooling.register("other", kind="reduce")


def test_a_name_that_two_kinds_share_means_the_reducer_unless_a_kind_is_given() -> None:
    register_mine()

    @pooling.register("mine", kind="global")
    class Head(pooling.GlobalPool2d):
        def reduce(self, x: Tensor) -> Tensor:
            return x.mean(dim=(2, 3))

    assert pooling.info("mine").kind == "reducer"
    assert pooling.info("mine", "global").cls is Head
    assert isinstance(pooling.create("mine", kind="global", channels=3), Head)
    assert pooling.names().count("mine") == 1


def test_a_reducer_that_asks_for_it_is_a_head_too() -> None:
    @pooling.register("midrange", kind="reducer", paper="nobody 2030", head=True)
    class Midrange(pooling.WindowPool2d):
        """The share of max in max and min of each window.

        Shape: (N, C, H, W) -> (N, C, H', W') with MaxPool2d's H', W'.
        """

        def __init__(self, *, share: Annotated[float, Range(least=0, most=1)] = 0.5, **geometry) -> None:
            super().__init__(**geometry)
            self.share = share

        def reduce(self, x: Tensor, window: Window) -> Tensor:
            low, high = pooling.functional.min_pool2d(x, window), pooling.functional.max_pool2d(x, window)
            return self.share * high + (1 - self.share) * low

    x = torch.rand(2, 3, 5, 4)
    head = pooling.create("midrange", kind="global", channels=3, share=1)
    assert torch.equal(head(x), x.amax(dim=(2, 3)))
    assert head.out_features == 3
    described = pooling.info("midrange", "global")
    assert (described.paper, described.options["share"].default) == ("nobody 2030", 0.5)
    assert described.summary == "The share of max in max and min of the whole map."
    with pytest.raises(ValueError, match="midrange: share must be a number >= 0 and <= 1, got 2"):
        pooling.create("midrange", kind="global", channels=3, share=2)
    with pytest.raises(TypeError, match="must derive from WindowPool2d"):
        pooling.register("other", kind="reducer", head=True)(nn.Identity)


def test_names_are_those_of_each_kind() -> None:
    for kind in registry.KINDS:
        for name in pooling.names(kind):
            assert pooling.info(name, kind).kind == kind
            assert name in pooling.names()
    with pytest.raises(ValueError, match=r"kind must be one of reducer, .*, got 'pool'"):
        pooling.names("pool")


def test_every_operator_tells_its_source_and_what_it_does() -> None:
    for kind in registry.KINDS:
        for name in pooling.names(kind):
            operator = pooling.info(name, kind)
            assert operator.paper
            assert operator.summary.endswith(".") or operator.summary.endswith(").")
            documented = operator.cls.__doc__ or ""
            assert "Shape:" in documented
            for option in operator.options:
                assert f"{option}:" in documented, f"{name}: option {option} is not documented"


@pytest.mark.parametrize(
    "name, nearest", [("stochastc", "stochastic"), ("sotf", "soft"), ("Blur", "blur"), ("subsamples", "subsample")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"pooling '{name}' is not registered; did you mean '{nearest}'"):
        pooling.create(name)


def test_an_unknown_name_lists_those_of_its_kind() -> None:
    with pytest.raises(ValueError, match=r"'blur' is not registered.*\(registered: .*gap, gmp"):
        pooling.create("blur", kind="global", channels=3)


def test_a_misspelt_argument_of_the_site_is_answered_with_the_right_one() -> None:
    with pytest.raises(TypeError, match=r"pooling 'max': no option 'kernal_size'; did you mean 'kernel_size'\?"):
        pooling.create("max", kernal_size=3)


@pytest.mark.parametrize("name", ["subsample_scaled", "conv"])
def test_an_operator_with_weights_per_channel_asks_for_channels(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .*needs channels, a positive int, got None"):
        pooling.create(name)


@pytest.mark.parametrize(
    "name, options", [("lp", {"learn_p": "channel"}), ("mixed", {"a": "learned", "per": "channel"})]
)
def test_a_parameter_per_channel_asks_for_channels(name: str, options: dict) -> None:
    with pytest.raises(ValueError, match=f"{name}: a parameter per channel needs channels, got None"):
        pooling.create(name, **options)


@pytest.mark.parametrize("channels", [0, None, 1.5])
def test_a_head_asks_for_channels(channels) -> None:
    with pytest.raises(ValueError, match=f"gap: channels must be a positive int, got {channels}"):
        pooling.create("gap", channels=channels)
