"""The registry of backbones: `register` adds one, `create` builds one with any operator at its sites."""

import inspect
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import nn

import pooling as operators
from models.placement import Choice, Place, Plan, Site, placed, selected, sites, unstrided
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

    task: "classification" or "segmentation". image_size: its usual one. least_side: the side of the last feature map
    below which leading sites give up their stride on small images (None: never).
    """

    name: str
    build: Callable[..., nn.Module]
    task: str
    paper: str
    summary: str
    image_size: int
    least_side: int | None
    options: dict[str, Option]


def register(
    name: str, *, paper: str, image_size: int, least_side: int | None = None, task: str = "classification"
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
        _backbones[name] = Backbone(name, build, task, paper, summary, image_size, least_side, options)
        return build

    return decorate


def names(task: str | None = None) -> list[str]:
    """The registered names, of one task or of both."""
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
        options: the backbone's own; `info(name).options` lists them.

    Raises:
        ValueError, TypeError: unknown names or options, values that are not allowed, a choice that fills no site, or
            an image too small for the network.
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

    common = {"num_classes": num_classes, "in_channels": in_channels, "image_size": size, **options}
    plan = Plan(padding_mode=padding_mode, head=_head(backbone, head))
    plan = _planned(plan, _declared(backbone, plan, common), backbone, size, Choice.of(pooling), sites, stem)
    sketch = _sketch(backbone, plan, common)
    resolutions = _resolutions(sketch, (1, in_channels, size, size), owner)
    net = backbone.build(Place(plan), **common)
    for site_name, module in placed(net).items():
        module.site = replace(module.site, resolution=resolutions[site_name])  # pyright: ignore
    return net


def _head(backbone: Backbone, head: str | dict[str, Any] | None) -> Choice | None:
    choice = Choice.of(head)
    if choice is None:
        return None
    if backbone.task != "classification":
        raise ValueError(f"model {backbone.name!r}: has a dense output and takes no head, got head={choice.name!r}")
    if choice.name == "native":
        raise TypeError(f"head 'native' is the paper's own and has no options, got {', '.join(choice.options)}")
    operators.info(choice.name, "global")
    return choice


def _sketch(backbone: Backbone, plan: Plan, common: dict[str, Any]) -> nn.Module:
    """The backbone without memory for its weights, and without drawing from the random generator."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return backbone.build(Place(plan), **common)


def _declared(backbone: Backbone, plan: Plan, common: dict[str, Any]) -> list[Site]:
    return sites(_sketch(backbone, plan, common))


def _planned(
    plan: Plan,
    declared: list[Site],
    backbone: Backbone,
    image_size: int,
    choice: Choice | None,
    wanted: str | Iterable[str],
    stem: str,
) -> Plan:
    if stem == "auto" and backbone.least_side is not None:
        plan = replace(plan, unstrided=unstrided(declared, image_size, backbone.least_side))
        if plan.unstrided:
            names = ", ".join(site.name for site in declared if site.name in plan.unstrided)
            log.info("%s at %d pixels: stride 1 at %s (stem=paper keeps the strides)", backbone.name, image_size, names)
    if choice is None:
        if wanted != "auto":
            raise ValueError(f"sites={wanted} fills no site without an operator; choose one, for example pooling=blur")
        return plan
    if choice.name == "native":
        raise TypeError(f"pooling 'native' is the paper's own and has no options, got {', '.join(choice.options)}")
    operator = operators.info(choice.name)
    if operator.kind not in ("reducer", "downsampler"):
        raise ValueError(f"pooling {choice.name!r} is of kind {operator.kind!r}; a site takes a reducer or downsampler")
    strided = [site for site in declared if site.name not in plan.unstrided]
    return replace(plan, choice=choice, filled=selected(strided, wanted))


def _resolutions(sketch: nn.Module, shape: tuple[int, ...], owner: str) -> dict[str, tuple[int, int]]:
    """(H, W) before each site, from a run of the network without data.

    Raises:
        ValueError: the image is too small for the network.
    """
    seen: dict[str, tuple[int, int]] = {}

    def remember(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        name: str = module.site.name  # pyright: ignore
        seen[name] = (inputs[0].shape[-2], inputs[0].shape[-1])

    for module in placed(sketch).values():
        module.register_forward_pre_hook(remember)
    try:
        sketch.eval()(torch.empty(shape, device="meta"))
    except (ValueError, RuntimeError) as error:
        cause = str(error).split("\n")[0]
        raise ValueError(f"{owner}: does not take images of {shape[2]}x{shape[3]} pixels ({cause})") from error
    return seen
