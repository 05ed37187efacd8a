"""The registry of backbones: `register` adds one, `create` builds one with any operator at its sites."""

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

import pooling as operators
from models.placement import Choice, Place, Plan, Site, placed, selected, sites, unstrided, with_followers
from models.weights import load as load_weights
from models.weights import published as published_weights
from models.weights import read as read_weights
from pooling.operators.base import PaddingMode
from pooling.options import Option, check_names, check_option, did_you_mean, signature_options

log = logging.getLogger(__name__)

# What `create` gives to every backbone; a backbone's other keyword-only parameters are its options.
COMMON = ("num_classes", "in_channels", "image_size")

_backbones: dict[str, "Backbone"] = {}

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class Backbone:
    """A registered backbone.

    task: "classification", "segmentation" or "detection". image_size: its usual one. least_side: the side of the last
    feature map below which leading sites give up their stride on small images (None: never). torchvision: the name of
    torchvision's model whose weights fit, with options in braces. classifier: the modules that depend on the number of
    classes.
    """

    name: str
    build: Callable[..., nn.Module]
    task: str
    paper: str
    summary: str
    image_size: int
    least_side: int | None
    options: dict[str, Option]
    torchvision: str | None = None
    classifier: tuple[str, ...] = ("classifier",)


def register(
    name: str,
    *,
    paper: str,
    image_size: int,
    least_side: int | None = None,
    task: str = "classification",
    torchvision: str | None = None,
    classifier: tuple[str, ...] = ("classifier",),
) -> Callable[[Builder], Builder]:
    """Decorator for `build(place, *, num_classes, in_channels, image_size, **options) -> nn.Module`.

    Raises:
        ValueError: the name is taken.
    """
    if name in _backbones:
        raise ValueError(f"model {name!r} is registered already")

    def decorate(build: Builder) -> Builder:
        summary = (inspect.getdoc(build) or "").split("\n")[0]
        options = signature_options(build, without=COMMON)
        _backbones[name] = Backbone(
            name, build, task, paper, summary, image_size, least_side, options, torchvision, classifier
        )
        return build

    return decorate


def names(task: str | None = None) -> list[str]:
    """The registered names, of one task or of all."""
    return [name for name, backbone in _backbones.items() if task in (None, backbone.task)]


def info(name: str) -> Backbone:
    """What is known of a backbone.

    Raises:
        ValueError: no backbone of that name; the message suggests the nearest.
    """
    if name not in _backbones:
        raise ValueError(f"model {name!r} is not known{did_you_mean(name, names())} (known: {', '.join(names())})")
    return _backbones[name]


def create(
    name: str,
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int | None = None,
    pooling: str | dict[str, Any] | None = None,
    head: str | dict[str, Any] | None = None,
    sites: str | Iterable[str] = "auto",
    padding_mode: PaddingMode = "zeros",
    stem: Literal["auto", "paper"] = "auto",
    weights: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """Build a backbone: (N, in_channels, image_size, image_size) -> logits (N, num_classes), dense for segmentation.

    Args:
        image_size: side of the square images; the backbone's usual one where None.
        pooling: what to put at the sites: None or "native" (the paper's own), a name, or {"name": ..., options}.
        head: the global pool before the classifier, given like `pooling`.
        sites: where: "auto", "pool", "conv", "all", or names and patterns of sites.
        padding_mode: of every convolution and pool: "zeros", "reflect" or "circular".
        stem: "auto" lets leading sites run at stride 1 where a small image would vanish; "paper" never does.
        weights: a file with a state_dict (torch's format, or .safetensors), or "torchvision" for its published
            weights of the model of this name. Another `num_classes` or `head` leaves the classifier out; the log says
            what was.
        options: the backbone's own; `info(name).options` lists them.

    Raises:
        ValueError, TypeError: unknown names or options, values that are not allowed, a choice that fills no site, an
            image too small for the network, or weights that do not fit it.
        OSError: weights that cannot be found or downloaded.
    """
    backbone = info(name)
    size = backbone.image_size if image_size is None else image_size
    owner = f"model {name!r}"
    check_names(owner, options, backbone.options)
    for option, value in options.items():
        check_option(owner, backbone.options[option], value)
    check_option(owner, Option("padding_mode", PaddingMode, "zeros"), padding_mode)
    check_option(owner, Option("stem", Literal["auto", "paper"], "auto"), stem)
    for argument, value in (("num_classes", num_classes), ("in_channels", in_channels), ("image_size", size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{owner}: {argument} must be a positive integer, got {value!r}")

    draft = _Draft(
        backbone,
        {"num_classes": num_classes, "in_channels": in_channels, **options},
        Plan(padding_mode=padding_mode, head=_head(backbone, head)),
        Choice.of(pooling),
        sites,
        stem,
    )
    plan = draft.plan(size)
    resolutions = draft.run(plan, size).resolutions
    if plan.unstrided:
        dropped = ", ".join(name for name in draft.order(size) if name in plan.unstrided)
        log.info("%s at %d pixels: stride 1 at %s (stem=paper keeps the strides)", name, size, dropped)
    net = draft.build(plan, size)
    for site_name, module in placed(net).items():
        module.site = replace(module.site, resolution=resolutions[site_name])  # pyright: ignore
    if weights is not None:
        _load(net, backbone, weights, options, new_head=plan.head is not None)
    return net


def _load(net: nn.Module, backbone: Backbone, source: str | Path, options: dict[str, Any], new_head: bool) -> None:
    owner = f"model {backbone.name!r}"
    if source != "torchvision":
        tensors, words = read_weights(source), f"weights {str(source)!r}"
    elif backbone.torchvision is None:
        there_are = ", ".join(name for name, other in _backbones.items() if other.torchvision)
        raise ValueError(f"{owner}: torchvision publishes no weights of it (it does of {there_are}); give a file")
    else:
        usual = {name: option.default for name, option in backbone.options.items()}
        name = backbone.torchvision.format(**(usual | options))
        tensors, words = published_weights(name), f"weights of torchvision's {name}"
    load_weights(net, tensors, backbone.classifier, new_head, f"{owner}: {words}")


def _head(backbone: Backbone, head: str | dict[str, Any] | None) -> Choice | None:
    choice = Choice.of(head)
    if choice is None:
        return None
    if backbone.task != "classification":
        raise ValueError(f"model {backbone.name!r}: is for {backbone.task} and takes no head, got head={choice.name!r}")
    if choice.name == "native":
        raise TypeError(f"head 'native' is the paper's own and has no options, got {', '.join(choice.options)}")
    if choice.name == "cls":
        raise ValueError(f"model {backbone.name!r}: has no class token for head='cls'; timm's vision transformers have")
    operators.info(choice.name, "global")
    return choice


@dataclass(frozen=True)
class _Trace:
    """What a run of a network without data tells: (H, W) before each site, and the side of the head's map."""

    resolutions: dict[str, tuple[int, int]]
    last_side: int


class _TooSmall(ValueError):
    """The image vanishes in the network."""


@dataclass(frozen=True)
class _Draft:
    """What `create` was asked for, tried out at one image size or another without memory for weights."""

    backbone: Backbone
    common: dict[str, Any]
    base: Plan
    choice: Choice | None
    wanted: str | Iterable[str]
    stem: str

    def build(self, plan: Plan, size: int) -> nn.Module:
        return self._build(Place(plan), size)

    def _build(self, place: Place, size: int) -> nn.Module:
        return self.backbone.build(place, image_size=size, **self.common)

    def sketch(self, plan: Plan, size: int) -> tuple[nn.Module, Place]:
        """The network on the meta device; nothing is drawn from the random generator."""
        place = Place(plan)
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return self._build(place, size), place

    def declared(self, size: int) -> list[Site]:
        return sites(self.sketch(self.base, size)[0])

    def order(self, size: int) -> list[str]:
        """The leading sites' names, from the image on."""
        return [site.name for site in self.declared(size) if site.follows is None]

    def plan(self, size: int) -> Plan:
        """What stands where at this size.

        Raises:
            ValueError, TypeError: the operator cannot stand at a site, or the choice fills none.
        """
        declared = self.declared(size)
        plan = replace(self.base, unstrided=self._unstrided(declared, size))
        if self.choice is None:
            if self.wanted != "auto":
                raise ValueError(
                    f"sites={self.wanted} fills no site without an operator; choose one, for example pooling=blur"
                )
            return plan
        if self.choice.name == "native":
            options = ", ".join(self.choice.options)
            raise TypeError(f"pooling 'native' is the paper's own and has no options, got {options}")
        kind = operators.info(self.choice.name).kind
        if kind not in ("reducer", "downsampler"):
            raise ValueError(f"pooling {self.choice.name!r} is of kind {kind!r}; a site takes a reducer or downsampler")
        strided = [site for site in declared if site.name not in plan.unstrided]
        if declared and not strided:
            raise ValueError(
                f"model {self.backbone.name!r}: at {size} pixels every site runs at stride 1, so there is none for "
                f"pooling {self.choice.name!r}; take a larger image_size, or stem=paper"
            )
        return replace(plan, choice=self.choice, filled=selected(strided, self.wanted))

    def _unstrided(self, declared: list[Site], size: int) -> frozenset[str]:
        """The leading sites to run at stride 1: the fewest that leave the last map the family's least side."""
        least = self.backbone.least_side
        if self.stem == "paper" or least is None:
            return frozenset()
        guess = unstrided(declared, size, least)
        if size >= self.backbone.image_size:
            return guess
        # Unpadded windows shrink the map by more than their stride tells.
        names = [site.name for site in declared if site.follows is None]
        for count in range(len([name for name in names if name in guess]), len(names) + 1):
            dropped = with_followers(declared, names[:count])
            with contextlib.suppress(_TooSmall):
                if self._run(replace(self.base, unstrided=dropped), size).last_side >= least:
                    return dropped
        return guess

    def run(self, plan: Plan, size: int) -> _Trace:
        """A run of the network without data.

        Raises:
            ValueError: the image is too small for the network; the message says which size or `stem` helps.
        """
        try:
            return self._run(plan, size)
        except _TooSmall as error:
            raise ValueError(f"{error}{self._advice(size)}") from error

    def _run(self, plan: Plan, size: int) -> _Trace:
        sketch, place = self.sketch(plan, size)
        resolutions: dict[str, tuple[int, int]] = {}
        maps: list[torch.Size] = []

        def remember(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                resolutions[name] = (inputs[0].shape[-2], inputs[0].shape[-1])

            return hook

        for name in placed(sketch):
            place.entrances[name].register_forward_pre_hook(remember(name))
        for module in place.heads:
            module.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0].shape))
        owner = f"model {self.backbone.name!r}"
        try:
            sketch.eval()(torch.empty((1, self.common["in_channels"], size, size), device="meta"))
        except (ValueError, RuntimeError) as error:
            cause = str(error).split("\n")[0]
            if maps and plan.head is not None:
                C, H, W = maps[-1][1:]
                raise ValueError(
                    f"{owner}: head {plan.head.name!r} does not take the {C}x{H}x{W} map of an image of {size}x{size} "
                    f"pixels ({cause}); take another head or image_size"
                ) from error
            raise _TooSmall(f"{owner}: does not take images of {size}x{size} pixels ({cause})") from error
        return _Trace(resolutions, min(maps[-1][-2:]) if maps else size)

    def _advice(self, size: int) -> str:
        """What to do about an image that is too small: `; the least size is 16x16`."""
        if self.stem == "paper" and self.backbone.least_side is not None and replace(self, stem="auto")._takes(size):
            return "; stem=auto lets leading sites run at stride 1, so that it does"
        too_small, enough = size, max(size + 1, self.backbone.image_size)
        while not self._takes(enough):
            too_small, enough = enough, 2 * enough
            if enough > 4096:
                return ""
        while enough - too_small > 1:
            middle = (too_small + enough) // 2
            too_small, enough = (too_small, middle) if self._takes(middle) else (middle, enough)
        return f"; the least size is {enough}x{enough}"

    def _takes(self, size: int) -> bool:
        try:
            self._run(self.plan(size), size)
        except ValueError:
            return False
        return True
