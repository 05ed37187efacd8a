"""Networks that are not ours, with our operators: their sites are found where our backbones declare them.

A pool gives way to the operator. A strided convolution runs at stride 1 with the same padding, and the operator follows
the normalisation and the activation that alone read its output, as one run of the network shows; where nothing does, it
follows the convolution itself. In front of a 1x1 convolution without an activation, a shortcut, it costs a quarter.
Operators hang on the network's own modules by hooks, so that classes, keys and methods stay what they were.

Transitions. Sites that see a map of the same size and have the same stride are one transition of the network, from
one grid to the next: the branches of a residual or an inception block, the shortcuts beside them. They are filled
alike (the convolution of the largest kernel leads, the others follow), and a polyphase operator uses one phase for all
of them, chosen by the first that runs. That is the main branch where it runs before its shortcut, as it mostly does. It
is sound as long as maps of one size lie on one grid;
it is not where a network goes back up to a size that it had before (decoders, HRNet's fusions), whose upsampling
knows no phase.
"""

import copy
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import pooling as operators
from models.flow import Flow, Spot
from models.placement import Choice, Site, mark, operator_at, placed, selected
from models.surgery import DenseMerge, FittedWindow, Padded, Transition, hang, numeric_padding, pads_same, same_padding
from pooling.geometry import pair
from pooling.operators.base import PaddingMode
from pooling.operators.polyphase import PolyphasePool2d
from pooling.options import Option, check_option

log = logging.getLogger(__name__)

# Classes by name, of timm's and torchvision's: neither needs to be imported for a network that has nothing of it.
BLUR = ("BlurPool2d",)
MERGE = ("PatchMerging", "PatchMergingV2")
PATCH = 4  # a convolution whose kernel and stride are equal and at least this long cuts the map into patches


@dataclass(frozen=True)
class Found:
    """A site in a network: what stands there, where an operator would, and which transition it belongs to."""

    site: Site
    spot: Spot
    transition: tuple[Any, ...]


def convert(
    net: nn.Module,
    pooling: str | dict[str, Any] | None = "blur",
    sites: str | Iterable[str] = "auto",
    example_input: Any = None,
    padding_mode: PaddingMode | None = None,
) -> nn.Module:
    """A copy of any network, of timm, of torchvision or your own, with an operator at its sites.

    Weights, dtype, device, training mode and the keys of the state_dict stay; an operator adds only its own parameters.
    `models.sites(net)` lists what was found and what stands there now.

    Args:
        pooling: what to put at the sites: a name, {"name": ..., options}, or None or "native", which only finds them.
        sites: where: "auto" (the pools if there are any, else the strided convolutions but for patch embeddings, which
            would cost their stride squared), "pool", "conv", "all", or names and patterns of sites.
        example_input: what the network takes: a batch of one image shows what follows what, and the sites' sizes.
            None: one of 3 channels, of the size that timm states or 224x224.
        padding_mode: of every convolution and pool, instead of what they have: "zeros", "reflect" or "circular".

    Raises:
        ValueError, TypeError: unknown names or options, a choice that fills no site, an example that the network does
            not take, or an operator after which it gives another shape.
    """
    if placed(net):
        raise ValueError(f"{type(net).__name__} has sites already; build it with models.create(..., pooling=...)")
    if padding_mode is not None:
        check_option("convert", Option("padding_mode", PaddingMode, None), padding_mode)
    choice = Choice.of(pooling)
    if choice is not None and operators.info(choice.name).kind not in ("reducer", "downsampler"):
        raise ValueError(f"pooling {choice.name!r}: a site takes a reducer or downsampler")
    example = _example(net, example_input)
    flow = Flow(net, example)
    found = find(net, flow)
    declared = [each.site for each in found]
    filled = frozenset() if choice is None else _filled(declared, sites)
    net = copy.deepcopy(net)
    modules = dict(net.named_modules())
    for each in found:
        mark(modules[each.site.name], each.site)
    if padding_mode is not None:
        for name, module in modules.items():
            if name not in filled:
                _continue(net, module, padding_mode)
    if choice is not None:
        _fill(net, [each for each in found if each.site.name in filled], choice, padding_mode)
        shapes = Flow(net, example).outputs
        if shapes != flow.outputs:
            raise ValueError(
                f"with pooling {choice.name!r} at {', '.join(sorted(filled))} {type(net).__name__} gives {shapes}, "
                f"and gave {flow.outputs}; choose other sites"
            )
    return net


def find(net: nn.Module, flow: Flow) -> list[Found]:
    """The sites of a network that ran, in the order in which operators at them would."""
    containers = {
        name
        for name, module in net.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    }
    seen: list[Found] = []
    fronts: set[str] = set()
    for name, module in net.named_modules():
        calls = flow.calls(name)
        if not calls or (site := _site(name, module, flow.steps[calls[0]].shape)) is None:
            continue
        spot = Spot(name, False, calls[0])
        if site.native == "conv" and len(calls) == 1:
            end = flow.end_of_layer(calls[0])
            if not flow.steps[end].is_activation and pair(site.kernel_size) == (1, 1) and pair(site.padding) == (0, 0):
                assert isinstance(module, nn.Conv2d)
                spot, site = Spot(name, True, calls[0]), replace(site, channels=module.in_channels)
            else:
                spot = flow.spot_behind(end, fronts, containers) or spot
            if spot.in_front:
                fronts.add(spot.module)
        batch = flow.steps[calls[0]].shape[0]
        seen.append(Found(site, spot, (batch, site.resolution, pair(site.stride))))
    seen.sort(key=lambda each: each.spot.step)
    for index, each in enumerate(seen):
        leader = max((other.site for other in seen if other.transition == each.transition), key=_prominence)
        if leader.name != each.site.name:
            seen[index] = replace(each, site=replace(each.site, follows=leader.name))
    _tell_what_stays(net, flow)
    return seen


def _prominence(site: Site) -> tuple[bool, int]:
    """The largest in a transition leads it: a convolution before a pool, a large kernel before a small one."""
    kernel = pair(site.kernel_size)
    return not site.is_pool, kernel[0] * kernel[1]


def _site(name: str, module: nn.Module, shape: tuple[int, ...]) -> Site | None:
    """The site that a module is, given the shape of its input; None for one that is none."""
    kind = type(module).__name__
    if kind in MERGE and len(shape) == 4 and isinstance(reduction := getattr(module, "reduction", None), nn.Linear):
        return Site(name, "merge", reduction.out_features, 2, 2, resolution=(shape[1], shape[2]))
    if len(shape) != 4:
        return None
    C, H, W = shape[1:]
    if isinstance(module, nn.Conv2d) and max(module.stride) > 1:
        kernel, stride = pair(module.kernel_size), pair(module.stride)  # pyright: ignore[reportArgumentType]
        padding = same_padding(module, H, W)[:2] if pads_same(module) else numeric_padding(module)
        return Site(name, "conv", module.out_channels, kernel, stride, padding, resolution=(H, W))
    if kind in BLUR and max(pair(module.stride)) > 1:  # pyright: ignore
        left, _, top, _ = module.padding  # pyright: ignore
        return Site(name, "blur", C, module.filt_size, module.stride, (top, left), resolution=(H, W))  # pyright: ignore
    if not replaceable(module) or max(pair(module.stride)) == 1:  # pyright: ignore
        return None
    window = FittedWindow(module)(H, W)
    native = "max" if isinstance(module, nn.MaxPool2d) else "avg"
    return Site(
        name, native, C, window.kernel_size, window.stride, window.padding, window.ceil_mode, resolution=(H, W)
    )  # fmt: skip


def replaceable(module: nn.Module) -> bool:
    """Whether a module is a pool that an operator can stand in for."""
    if isinstance(module, nn.MaxPool2d):
        return pair(module.dilation) == (1, 1) and not module.return_indices  # pyright: ignore
    return isinstance(module, nn.AvgPool2d)


def _tell_what_stays(net: nn.Module, flow: Flow) -> None:
    modules = dict(net.named_modules())
    pools = ("max_pool2d", "avg_pool2d")
    calls = (step for step in flow.steps if step.unit and not step.leaf and step.shrinks)
    functions = [step.module for step in calls if step.what in pools]
    functions += [
        name for name, m in modules.items() if isinstance(m, nn.MaxPool2d) and not replaceable(m) and flow.calls(name)
    ]
    if functions:
        names = ", ".join(dict.fromkeys(name or "the network itself" for name in functions))
        log.info("%s: pools in %s are functions or give indices, and stay as they are", type(net).__name__, names)


def _filled(declared: list[Site], wanted: str | Iterable[str]) -> frozenset[str]:
    if wanted != "auto":
        return selected(declared, wanted)
    usual = [site for site in declared if not _is_patchify(site)]
    if declared and not [site for site in usual if site.follows is None]:
        there_are = ", ".join(site.name for site in declared)
        raise ValueError(
            f"sites=auto fills no site of this network, whose sites are patch embeddings ({there_are}); sites=all "
            "does, and computes a patch at every pixel"
        )
    return selected(usual, "auto")


def _is_patchify(site: Site) -> bool:
    kernel, stride = pair(site.kernel_size), pair(site.stride)
    return site.native == "conv" and kernel == stride and min(stride) >= PATCH


def _fill(net: nn.Module, found: list[Found], choice: Choice, padding_mode: PaddingMode | None) -> None:
    modules = dict(net.named_modules())
    tensor = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
    transitions: dict[tuple[Any, ...], Transition] = {}
    for each in found:
        site, module, spot = each.site, modules[each.site.name], each.spot
        mode = padding_mode or _mode_of(module)
        operator = operator_at(site, choice, mode).to(tensor).train(module.training)
        if isinstance(operator, PolyphasePool2d):
            shared = transitions.setdefault(each.transition, Transition())
            shared.join(operator)
        del module.site
        if site.native in ("max", "avg", "blur"):
            if site.native != "blur":
                FittedWindow(module).hang_on(operator)
            _replace(net, module, operator)
        elif site.native == "merge":
            DenseMerge(wraps=mode == "circular").hang_on(module, operator)
        else:
            assert isinstance(module, nn.Conv2d)
            Padded(module, mode, dense=True).hang_on(module)
            hang(operator, modules[spot.module], spot.in_front)


def _mode_of(module: nn.Module) -> PaddingMode:
    mode = getattr(module, "padding_mode", "zeros")
    return mode if mode in ("reflect", "circular") else "zeros"


def _continue(net: nn.Module, module: nn.Module, mode: PaddingMode) -> None:
    """Give a module that stays another padding mode."""
    if isinstance(module, nn.Conv2d):
        Padded(module, mode, dense=False).hang_on(module)
    elif replaceable(module):
        assert isinstance(module, nn.MaxPool2d | nn.AvgPool2d)
        fitted = FittedWindow(module)
        operator = fitted.native(mode)
        if (site := getattr(module, "site", None)) is not None:
            mark(operator, site)
        _replace(net, module, operator)


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put one module in the place of another, wherever the network has it."""
    for parent in net.modules():
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def _example(net: nn.Module, example: Any) -> Any:
    tensor = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
    if example is None:
        stated: Any = getattr(net, "pretrained_cfg", None) or {}
        example = torch.zeros(1, *stated.get("input_size", (3, 224, 224)))
    return example.to(tensor) if isinstance(example, Tensor) else example
