"""Sites: the places of a backbone where resolution drops, and what is put there.

A backbone declares its sites where it is built, through the `place` it is given:

    self.pool1 = place(Site("pool1", "max", 64, 3, 2, 1))
    self.conv1, self.down1 = place.conv(Site("layer2.0.conv1", "conv", 128, 3, 2, 1), in_channels=64, bias=False)

Which operator stands at a site is a `Plan`, made from the sites before the backbone is built for good. A placed module
carries its site as `.site`.
"""

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from torch import Tensor, nn

import pooling
from pooling.geometry import Pair, pair
from pooling.operators.base import PaddingMode
from pooling.operators.context import SameConv2d
from pooling.operators.fixed import MaxPool2d
from pooling.operators.polyphase import PolyphasePool2d
from pooling.options import did_you_mean

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class Site:
    """A place where resolution drops.

    name: unique in its network. native: what its paper puts there: "max", "avg" or "conv"; in other people's networks
    "blur" and "merge" (Swin's patch merging) too. channels: of the map that an operator sees. kernel_size, stride,
    padding, ceil_mode: the native operator's. follows: for a shortcut, the site of its block's main branch; the two are
    always filled alike. resolution: (H, W) of the map before it. operator: the name of what stands there, "native" for
    the paper's own.
    """

    name: str
    native: str
    channels: int
    kernel_size: Pair
    stride: Pair
    padding: Pair = 0
    ceil_mode: bool = False
    follows: str | None = None
    resolution: tuple[int, int] | None = None
    operator: str = "native"

    @property
    def is_pool(self) -> bool:
        return self.native in ("max", "avg", "blur")

    @property
    def dense(self) -> str:
        """What is dense before an operator's subsampling: of a blur pool and a patch merging that half has run."""
        return self.native if self.native in ("max", "avg") else "conv"

    @property
    def geometry(self) -> dict[str, Any]:
        """The window of an operator put here.

        A pool is replaced by a window of its own size. A convolution has seen its neighbourhood already, so its
        operator gets the least odd window without gaps, padded to half: 3x3 at stride 2. From the H1 positions of
        the convolution at stride 1 that gives ceil(H1 / stride), the strided convolution's size.
        """
        if self.dense != "conv":
            names = ("kernel_size", "stride", "padding", "ceil_mode")
            return {name: getattr(self, name) for name in names}
        sh, sw = pair(self.stride)
        kernel = (sh + 1 - sh % 2, sw + 1 - sw % 2)
        return {"kernel_size": kernel, "stride": (sh, sw), "padding": (kernel[0] // 2, kernel[1] // 2)}


@dataclass(frozen=True)
class Choice:
    """An operator of the registry with its options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: "str | dict[str, Any] | Choice | None", native: str = "native") -> "Choice | None":
        """None, a name, {"name": ..., options} or a Choice; None where it means the paper's own.

        Raises:
            TypeError: anything else.
        """
        if isinstance(value, Choice) or value is None:
            return value
        if not isinstance(value, str | Mapping):
            raise TypeError(f"an operator is given by its name, or by {{'name': NAME, options}}, not by {value!r}")
        options = {"name": value} if isinstance(value, str) else dict(value)
        name = options.pop("name", native) or native
        return None if name == native and not options else cls(name, options)


@dataclass(frozen=True)
class Plan:
    """What stands where: `choice` at the sites named in `filled`, stride 1 at those in `unstrided`."""

    choice: Choice | None = None
    filled: frozenset[str] = frozenset()
    unstrided: frozenset[str] = frozenset()
    padding_mode: PaddingMode = "zeros"
    head: Choice | None = None


class Place:
    """Puts modules at sites, as a plan says, while a backbone is being built."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.heads: list[nn.Module] = []
        self.entrances: dict[str, nn.Module] = {}  # by site: the module whose input is the map before it

    @property
    def padding_mode(self) -> PaddingMode:
        """For the backbone's own convolutions."""
        return self.plan.padding_mode

    def __call__(self, site: Site, native: nn.Module | None = None) -> nn.Module:
        """The module of a site without a convolution: the plan's operator, or `native`, or the pool the site names."""
        if site.name in self.plan.unstrided:
            return self._pool(replace(site, stride=1)) if site.is_pool else nn.Identity()
        operator = self._operator(site) if site.name in self.plan.filled else mark(native or self._pool(site), site)
        self.entrances[site.name] = operator
        return operator

    def conv(self, site: Site, in_channels: int, **arguments: Any) -> tuple[nn.Conv2d, nn.Module]:
        """The convolution of a site and the operator that follows its activation (an identity where none does)."""
        filled, unstrided = site.name in self.plan.filled, site.name in self.plan.unstrided
        stride = 1 if filled or unstrided else site.stride
        kernel, padding = pair(site.kernel_size), pair(site.padding)
        dilation = pair(arguments.get("dilation", 1))
        odd = all(2 * p == d * (k - 1) for p, d, k in zip(padding, dilation, kernel, strict=True))
        # A dilated convolution may reach further than a small map can be mirrored.
        far = max(dilation) > 1 and max(pair(stride)) == 1 and self.padding_mode == "reflect"
        if far or (not odd and (unstrided or (filled and self.padding_mode == "circular"))):
            # A small image must not lose its border to a stem that no longer subsamples; around a circle there is none.
            near = padding if filled else None
            conv = SameConv2d(in_channels, site.channels, kernel, near=near, mode=self.padding_mode, **arguments)
        else:
            mode = self.padding_mode
            conv = nn.Conv2d(in_channels, site.channels, kernel, pair(stride), padding, padding_mode=mode, **arguments)
        self.entrances[site.name] = conv
        if filled:
            return conv, self._operator(site)
        return (mark(conv, site) if max(pair(stride)) > 1 else conv), nn.Identity()

    def skip(self, site: Site, out_channels: int, **arguments: Any) -> tuple[nn.Module, nn.Conv2d]:
        """A shortcut's operator and its 1x1 convolution, in that order: at a filled site the operator runs on the
        block's input (`site.channels`), which a 1x1 convolution lets it do at a quarter of the cost."""
        filled = site.name in self.plan.filled
        stride = 1 if filled or site.name in self.plan.unstrided else site.stride
        conv = nn.Conv2d(site.channels, out_channels, 1, pair(stride), **arguments)
        operator = self._operator(site) if filled else None
        self.entrances[site.name] = conv if operator is None else operator
        if operator is not None:
            return operator, conv
        return nn.Identity(), (mark(conv, site) if max(pair(stride)) > 1 else conv)

    def head(self, native: str, channels: int, **options: Any) -> tuple[nn.Module, int]:
        """The head, and the number of features it gives: the plan's, or the paper's with its options."""
        chosen = self.plan.head or Choice(native)
        if chosen.name == native:
            chosen = Choice(native, {**options, **chosen.options})
        head = pooling.create(chosen.name, kind="global", channels=channels, **chosen.options)
        features = getattr(head, "out_features", None)
        if not isinstance(features, int):
            raise TypeError(f"head {chosen.name!r}: its class needs an int attribute out_features, got {features!r}")
        self.heads.append(head)
        return head, features

    def context(self, name: str, channels: int, **options: Any) -> nn.Module:
        """A context operator; options that are None are left to it."""
        given = {key: value for key, value in options.items() if value is not None}
        return pooling.create(name, kind="context", channels=channels, padding_mode=self.padding_mode, **given)

    def _pool(self, site: Site) -> nn.Module:
        return pooling.create(site.native, channels=site.channels, padding_mode=self.padding_mode, **site.geometry)

    def _operator(self, site: Site) -> nn.Module:
        assert self.plan.choice is not None, "a filled site has an operator"
        return operator_at(site, self.plan.choice, self.padding_mode)


def operator_at(site: Site, choice: Choice, padding_mode: PaddingMode) -> nn.Module:
    """The operator of a choice with a site's geometry, marked with the site.

    Raises:
        ValueError, TypeError: it cannot stand there; the message names the site.
    """
    try:
        operator = pooling.create(
            choice.name,
            channels=site.channels,
            native=site.dense,
            padding_mode=padding_mode,
            **site.geometry,
            **choice.options,
        )
    except (ValueError, TypeError) as error:
        raise type(error)(f"site {site.name}: {error}") from error
    if site.follows is not None and isinstance(operator, PolyphasePool2d):
        operator.follow()
    return mark(operator, replace(site, operator=choice.name))


def mark(module: AnyModule, site: Site) -> AnyModule:
    """The module, as what stands at a site."""
    module.site = site  # pyright: ignore[reportArgumentType]
    return module


def downsample(main: nn.Module, skip: nn.Module, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """A residual block's two operators: `main` on y, `skip` on x.

    A polyphase pair uses one phase, the one that the main branch chooses; otherwise the sum of the branches would mix
    two grids.
    """
    if isinstance(main, PolyphasePool2d) and isinstance(skip, PolyphasePool2d):
        y, phase = main(y, return_phase=True)
        return y, skip(x, phase=phase)
    return main(y), skip(x)


def with_choice(pool: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """A pool's output and the places that it chose, for its upsampling partner: the indices of `max`, the phase of a
    polyphase operator, None of others."""
    if isinstance(pool, PolyphasePool2d):
        return pool(x, return_phase=True)
    if isinstance(pool, MaxPool2d):
        return pool(x, return_indices=True)
    return pool(x), None


def placed(net: nn.Module) -> dict[str, nn.Module]:
    """The modules at a network's sites, by the site's name, in the order of the network."""
    found: dict[str, nn.Module] = {}
    for module in net.modules():
        site = getattr(module, "site", None)
        if isinstance(site, Site):
            found[site.name] = module
    return found


def sites(net: nn.Module) -> list[Site]:
    """A network's sites with the operator that stands at each."""
    return [module.site for module in placed(net).values()]  # pyright: ignore[reportReturnType]


def selected(declared: Sequence[Site], wanted: str | Iterable[str]) -> frozenset[str]:
    """The names of the sites that a `sites` option means; a shortcut goes with its main branch, and the other way.

    "auto": the pooling sites if there are any, else the convolution sites; "pool", "conv", "all"; or names, which may
    be patterns ("layer[34].*").

    Raises:
        ValueError, TypeError: no site is meant; the message lists the sites there are.
    """
    leading = [site for site in declared if site.follows is None]
    pools = [site.name for site in leading if site.is_pool]
    convs = [site.name for site in leading if not site.is_pool]
    groups = {"auto": pools or convs, "pool": pools, "conv": convs, "all": pools + convs}
    there_are = f"its sites: {', '.join(f'{site.name} ({site.native})' for site in leading) or 'none'}"
    if not isinstance(wanted, Iterable):
        raise TypeError(f"sites must be {', '.join(groups)} or a list of names, got {wanted!r} ({there_are})")
    if isinstance(wanted, str) and wanted in groups:
        if not groups[wanted]:
            raise ValueError(f"sites={wanted} fills no site of this network ({there_are})")
        return with_followers(declared, groups[wanted])
    names: set[str] = set()
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        matches = [site.follows or site.name for site in declared if fnmatch.fnmatchcase(site.name, str(pattern))]
        if not matches:
            near = did_you_mean(str(pattern), [*groups, *(site.name for site in leading)])
            raise ValueError(f"sites: {pattern!r} is no site, group or pattern of this network{near} ({there_are})")
        names.update(matches)
    if not names:
        raise ValueError(f"sites={list(wanted)} fills no site of this network ({there_are})")
    return with_followers(declared, names)


def unstrided(declared: Sequence[Site], image_size: int, least_side: int) -> frozenset[str]:
    """The leading sites to run at stride 1 so that the last map keeps a side of at least `least_side`."""
    leading = [site for site in declared if site.follows is None]
    dropped: list[str] = []
    total = math.prod(max(pair(site.stride)) for site in leading)
    for site in leading:
        if -(-image_size // total) >= least_side:
            break
        dropped.append(site.name)
        total //= max(pair(site.stride))
    return with_followers(declared, dropped)


def with_followers(declared: Sequence[Site], names: Iterable[str]) -> frozenset[str]:
    """The names, and those of the shortcuts that go with them."""
    names = set(names)
    return frozenset(names | {site.name for site in declared if site.follows in names})
