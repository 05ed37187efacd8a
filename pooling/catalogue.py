"""The registry in print: a table of all operators, one operator with a worked example, and docs/operators.md.

Everything is read from the registry; an operator registered later needs nothing here.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pooling import reference, registry
from pooling.operators.base import GlobalPool2d
from pooling.options import Option, accepts
from pooling.registry import Operator

INDENT = "    "
COLUMNS = ("name", "kind", "learns", "random", "native", "paper", "in a line")
MAP = torch.from_numpy(reference.EXAMPLE)
MAPS = torch.cat([MAP, MAP.flip(2), MAP.flip(3), MAP.transpose(2, 3)], dim=1)  # for what mixes channels
POOLED = torch.tensor([[6.0, 4.0], [8.0, 6.0]], dtype=torch.float64)[None, None]  # its 2x2 maxima
BOXES = torch.tensor([[0.0, 0, 0, 4, 4], [0, 1, 1, 3, 3]], dtype=torch.float64)  # image, then left, top, right, bottom


def operators(plugins: bool = True) -> list[Operator]:
    """All that are registered, kind by kind."""
    found = [registry.info(name, kind) for kind in registry.KINDS for name in registry.names(kind)]
    return [operator for operator in found if plugins or operator.ours]


def cells(operator: Operator) -> list[str]:
    """A row of the table, in the order of `COLUMNS`."""
    facts = (operator.learnable, operator.random, operator.compiled)
    return [
        operator.name,
        operator.kind,
        *("yes" if fact else "" for fact in facts),
        re.sub(r", arXiv:\S+?(?=;|,|$)", "", operator.paper),
        operator.summary,
    ]


def table(chosen: Iterable[Operator], width: int) -> str:
    """The rows as text of this width; what is too long for its column goes on in the next line."""
    rows = [list(COLUMNS), *map(cells, chosen)]
    widths = [max(len(row[at]) for row in rows) for at in range(5)]
    paper = min(30, max(len(row[5]) for row in rows))
    widths += [paper, max(30, width - sum(widths) - paper - 2 * len(widths) - 2)]
    lines = []
    for number, row in enumerate(rows):
        wrapped = [textwrap.wrap(cell, room) or [""] for cell, room in zip(row, widths, strict=True)]
        for at in range(max(map(len, wrapped))):
            parts = (part[at] if at < len(part) else "" for part in wrapped)
            lines.append("  ".join(part.ljust(room) for part, room in zip(parts, widths, strict=True)).rstrip())
        if number == 0:
            lines.append("  ".join("-" * room for room in widths))
    return "\n".join(lines)


@dataclass(frozen=True)
class Example:
    """An operator at work on a small map: what it was given, what it gave, and the gradient of the sum of that."""

    call: str
    given: Tensor
    result: Tensor
    gradient: Tensor


def example(operator: Operator, training: bool = False, **options: Any) -> Example:
    """The operator on the map of `reference.EXAMPLE` or, where its kind takes something else, on what comes of it.

    Args:
        training: in training mode, with torch's seed 0; the parameters start from seed 0 in either mode.
        options: the operator's own.
    """
    lacking = {name: _some_value(o) for name, o in operator.options.items() if o.default is Option.REQUIRED}
    if operator.kind == "region":
        lacking["output_size"] = 2  # the usual 7 shows nothing on so small a map
    options = {**lacking, **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        given, others = _inputs(operator)
        site = {"channels": given.shape[1], "kernel_size": 2, "stride": 2}
        module = registry.create(operator.name, kind=operator.kind, **site, **options).double().train(training)
        torch.manual_seed(0)
        x = given.clone().requires_grad_()
        result = module(x, *others)
    result = result[0] if isinstance(result, tuple) else result
    (gradient,) = torch.autograd.grad(result.sum(), x, allow_unused=True, materialize_grads=True)
    return Example(_call(operator, module, options, given.shape[1]), given, result.detach(), gradient)


def _some_value(option: Option) -> Any:
    """A value for an option without a default: the first of a few that it allows."""
    for value in (2, (2, 2), 1.0, 0.5, True, "max"):
        if accepts(option.annotation, value):
            return value
    raise ValueError(f"no value for {option.name}: it must be {option.allowed}")


def _inputs(operator: Operator) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The map that this kind of operator takes, and what it takes beside it.

    What mixes channels gets four of them. Regions come with boxes. An upsampling partner brings the pooled map back
    and, where it needs what a pool chose on the way there (its class names the pool as `partner` and what as
    `choice`), is given that.
    """
    if operator.kind == "region":
        return MAP.repeat(1, 4, 1, 1), (BOXES,)
    if operator.learnable and operator.kind in ("global", "context"):
        return MAPS, ()
    if operator.kind != "upsample":
        return MAP, ()
    partner = getattr(operator.cls, "partner", None)
    if partner is None:
        return POOLED, ()
    wish: dict[str, Any] = {f"return_{getattr(operator.cls, 'choice', 'indices')}": True}
    at_creation: dict[str, Any] = wish if wish.keys() <= registry.info(partner).options.keys() else {}
    pool = registry.create(partner, channels=1, kernel_size=2, stride=2, **at_creation).double().eval()
    y, chosen = pool(MAP) if at_creation else pool(MAP, **wish)
    return y.detach(), (chosen,)


def _call(operator: Operator, module: nn.Module, options: dict[str, Any], channels: int) -> str:
    words = [f'"{operator.name}"']
    if registry.info(operator.name) != operator:
        words.append(f'kind="{operator.kind}"')
    if isinstance(module, GlobalPool2d) or any(True for _ in module.parameters()):
        words.append(f"channels={channels}")
    if operator.kind in ("reducer", "downsampler", "upsample"):
        words += ["kernel_size=2", "stride=2"]
    return f"pooling.create({', '.join([*words, *(f'{name}={value!r}' for name, value in options.items())])})"


def matrix(x: Tensor) -> str:
    """The last two axes of a tensor's first image and channel, in four digits."""
    rows = x.detach().reshape(-1, *x.shape[2:])[:1].flatten(0, -2) if x.dim() > 2 else x
    words = [[number(value) for value in row] for row in rows.tolist()]
    widths = [max(map(len, column)) for column in zip(*words, strict=True)]
    lines = ["[" + "  ".join(word.rjust(room) for word, room in zip(row, widths, strict=True)) + "]" for row in words]
    return "\n".join(lines)


def number(value: float) -> str:
    """Four digits, the same on every machine: a tie is rounded away from 0, and what is but rounding is 0."""
    return "0" if abs(value) < 1e-9 else f"{value * (1 + 1e-9):.4g}"


def shape(x: Tensor) -> str:
    """Where `matrix` does not show everything: how much there is."""
    whole = x.dim() == 2 or x.shape[0] * x.shape[1] == 1
    return "" if whole else f"  (the first of {' x '.join(map(str, x.shape))})"


def option_lines(operator: Operator) -> list[str]:
    """`beta = 1.0   a number > 0`."""
    room = max((len(_default(option)) for option in operator.options.values()), default=0)
    return [f"{_default(option).ljust(room)}   {option.allowed}" for option in operator.options.values()]


def _default(option: Option) -> str:
    return option.name if option.default is Option.REQUIRED else f"{option.name} = {option.default!r}"


def formula(operator: Operator) -> str:
    """What the NumPy definition of the same name says, and where it is; empty where there is none."""
    for name in (f"{operator.name}_pool2d", f"{operator.name}2d", operator.name):
        function: Callable[..., Any] | None = getattr(reference, name, None)
        if function is not None and inspect.isfunction(function):
            says = (inspect.getdoc(function) or "").split("\n\n")[0].split(">>>")[0]
            return textwrap.fill(f"pooling.reference.{name}: {' '.join(says.split())}", 100, subsequent_indent="    ")
    return ""


def worked(operator: Operator, **options: Any) -> str:
    """As text: the example in evaluation mode and, of a random operator, one draw in training."""
    first = example(operator, **options)
    lines = [first.call, "", "x" + shape(first.given), matrix(first.given)]
    modes = [("", first)]
    if operator.random:
        drawn = example(operator, training=True, **options)
        same = torch.equal(drawn.result, first.result)
        modes = [("", first)] if same else [(" in eval mode", first), (" in training, seed 0", drawn)]
    for mode, found in modes:
        lines += ["", f"y{mode}{shape(found.result)}", matrix(found.result)]
        lines += ["", f"gradient of sum(y) by x{mode}", matrix(found.gradient)]
    return "\n".join(lines)


def description(operator: Operator, **options: Any) -> str:
    """Everything about one operator, as text."""
    facts = [word for word, fact in (("learns", operator.learnable), ("random", operator.random)) if fact]
    devices = ", ".join(operator.native)
    if operator.compiled:
        facts.append(f"native for {devices}" if devices else "native, not built here: python -m pooling.kernels.build")
    parts = [f"{operator.name} ({', '.join([operator.kind, *facts])})", operator.paper]
    parts += ["", inspect.getdoc(operator.cls) or "", ""]
    parts += [f"Definition: {formula(operator)}", ""] if formula(operator) else []
    parts += ["Options:", textwrap.indent("\n".join(option_lines(operator)), INDENT), ""] if operator.options else []
    parts += ["Example:", textwrap.indent(worked(operator, **options), INDENT)]
    return "\n".join(parts)


def markdown() -> str:
    """The page docs/operators.md, without plugins."""
    ours = operators(plugins=False)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_escaped([f"[`{cells(o)[0]}`](#{_anchor(o)})", *cells(o)[1:]])) + " |" for o in ours]
    return PAGE.format(table="\n".join(lines), sections="\n\n".join(map(_section, ours)))


def _section(operator: Operator) -> str:
    parts = [f"## {_title(operator)}", f"{operator.paper}." if operator.paper else ""]
    parts += ["```text\n" + (inspect.getdoc(operator.cls) or "") + "\n```"]
    parts += [f"Definition: `{formula(operator).partition(':')[0]}`."] if formula(operator) else []
    if operator.options:
        rows = [[f"`{o.name}`", _given(o), o.allowed] for o in operator.options.values()]
        header = "| option | default | allowed |\n|---|---|---|\n"
        parts.append(header + "\n".join("| " + " | ".join(_escaped(row)) + " |" for row in rows))
    parts.append(f"```text\n{worked(operator)}\n```")
    return "\n\n".join(part for part in parts if part)


def _given(option: Option) -> str:
    return "must be given" if option.default is Option.REQUIRED else f"`{option.default!r}`"


def _title(operator: Operator) -> str:
    return f"{operator.name} ({operator.kind})"


def _anchor(operator: Operator) -> str:
    return f"{operator.name}-{operator.kind}"


def _escaped(words: list[str]) -> list[str]:
    return [word.replace("|", "\\|") for word in words]


PAGE = """# The operators

Made by `python -m pooling --markdown > docs/operators.md`. `python -m pooling NAME` prints one of them, with options of
your choice: `python -m pooling lp p=3`.

A *reducer* takes the place of a whole pool, a *downsampler* that of the subsampling alone, and a *global* operator is a
head. An *upsample* operator undoes a pool in a decoder, *context* tells each position of its surroundings, and an
*adaptive* pool gives a map of the size you ask for; it keeps no site's size and stands at none. `learns`: it can have
parameters. `random`: it draws in training. `native`: it has a compiled kernel. The examples are worked on one 4x4 map,
with windows of 2x2 at stride 2; parameters start from seed 0.

{table}

{sections}
"""
