"""The registry of operators: `register` adds one, `create` builds one, `names` and `info` tell what there is."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from pooling.dispatch import NATIVE_OPERATORS
from pooling.geometry import Pair
from pooling.kernels import native
from pooling.options import Option, check_names, check_option, did_you_mean, signature_options

# What takes (N, C, H, W) to what: "reducer" and "downsampler" to a site's (N, C, H', W'), "adaptive" to an (N, C, h, w)
# that is an option, "global" to (N, D), "context" to (N, C', H, W); "region" pools boxes, "upsample" undoes a reducer.
KINDS = ("reducer", "downsampler", "global", "region", "context", "upsample", "adaptive")

# What every site gives to its operator; an operator takes those that its signature names.
COMMON = ("channels", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "padding_mode", "native")

_operators: dict[tuple[str, str], "Operator"] = {}  # by (kind, name)

Module = TypeVar("Module", bound=type[nn.Module])


@dataclass(frozen=True)
class Operator:
    """A registered operator.

    `learnable`: it can have parameters. `random`: it is random in training mode. `native`: the devices for which a
    compiled kernel is at hand.
    """

    name: str
    kind: str
    cls: type[nn.Module]
    paper: str
    summary: str
    options: dict[str, Option]
    learnable: bool
    random: bool

    @property
    def ours(self) -> bool:
        """Whether it is part of this package, not of a user's plugin."""
        return self.cls.__module__.startswith("pooling.")

    @property
    def compiled(self) -> bool:
        """Whether there is a native reducer for it, built or not; a plugin's class names its `native_reducer`."""
        return self.name in NATIVE_OPERATORS if self.ours else hasattr(self.cls, "native_reducer")

    @property
    def native(self) -> tuple[str, ...]:
        return tuple(native.loaded(getattr(self.cls, "native_reducer", None)).variants) if self.compiled else ()


def register(
    name: str, *, kind: str, paper: str = "", learnable: bool = False, random: bool = False, head: bool = False
) -> Callable[[Module], Module]:
    """Class decorator: make an `nn.Module` available under a name, in every place that lists operators.

    The module's keyword-only parameters, other than those that a site gives (`COMMON`), are its options; they are
    checked against their annotations whenever one is built.

    Args:
        head: register a head of this name too, `cls.Head`: the operator, a `WindowPool2d` that takes windows of any
            size, with the whole map as its window.

    Raises:
        ValueError: unknown kind, or a name that this kind already has.
    """
    if kind not in KINDS:
        raise ValueError(f"pooling {name!r}: kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if (kind, name) in _operators:
        raise ValueError(
            f"pooling {name!r} is registered already, by {_operators[kind, name].cls.__qualname__}; choose another name"
        )

    def decorate(cls: Module) -> Module:
        options = signature_options(cls, without=COMMON)
        summary = (inspect.getdoc(cls) or "").split("\n")[0]
        _operators[kind, name] = Operator(name, kind, cls, paper, summary, options, learnable, random)
        cls.operator = name  # pyright: ignore[reportAttributeAccessIssue]
        cls.__init__ = _checking_options(cls.__init__, name, options)
        if head:
            from pooling.operators.heads import head_of

            register(name, kind="global", paper=paper, learnable=learnable, random=random)(head_of(cls))
        return cls

    return decorate


def _checking_options(init: Callable[..., None], owner: str, options: dict[str, Option]) -> Callable[..., None]:
    @functools.wraps(init)
    def checked_init(self: nn.Module, *args: Any, **arguments: Any) -> None:
        for name in arguments.keys() & options.keys():
            check_option(owner, options[name], arguments[name])
        init(self, *args, **arguments)

    return checked_init


def _known() -> dict[tuple[str, str], Operator]:
    from pooling import plugins  # which registers here

    plugins.discover()
    return _operators


def names(kind: str | None = None) -> list[str]:
    """The registered names, of one kind or of all, in the order of registration."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    return list(dict.fromkeys(n for k, n in _known() if kind in (None, k)))


def info(name: str, kind: str | None = None) -> Operator:
    """What is known of an operator. A name that several kinds share means the first of `KINDS` unless one is given.

    Raises:
        ValueError: no operator of that name; the message suggests the nearest.
    """
    found = [operator for k in KINDS if (operator := _known().get((k, name))) and kind in (None, k)]
    if not found:
        what = {None: "pooling", "global": "head"}.get(kind, f"pooling of kind {kind!r}")
        raise ValueError(
            f"{what} {name!r} is not registered{did_you_mean(name, names(kind))} (registered: {', '.join(names(kind))})"
        )
    return found[0]


def create(
    name: str,
    *,
    kind: str | None = None,
    channels: int | None = None,
    kernel_size: Pair = 2,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    padding_mode: str = "zeros",
    native: str = "max",
    **options: Any,
) -> nn.Module:
    """Build an operator: a module from (N, C, H, W) to (N, C, H', W'), or to (N, D) for kind "global".

    Args:
        channels: C; needed by operators with parameters or weights per channel.
        kernel_size, stride, padding, dilation, ceil_mode: the site's geometry, as for `torch.nn.MaxPool2d`.
        padding_mode: "zeros" (padding is never a member of a window), "reflect" or "circular" (the input is
            continued past its border).
        native: what stood at the site: "max", "avg" or "conv". Downsamplers keep its dense half.
        options: the operator's own; `info(name).options` lists them.

    Raises:
        ValueError, TypeError: unknown name or option, or a value that is not allowed.
    """
    operator = info(name, kind)
    check_names(f"pooling {name!r}", options, operator.options, others=COMMON)
    site = {
        "channels": channels,
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil_mode": ceil_mode,
        "padding_mode": padding_mode,
        "native": native,
    }
    return operator.cls(**_accepted(operator.cls, site), **options)


def _accepted(cls: type[nn.Module], site: dict[str, Any]) -> dict[str, Any]:
    """The common arguments that the class or, where it passes keywords on, one of its bases names."""
    named: set[str] = set()
    for base in cls.__mro__:
        parameters = inspect.signature(base.__init__).parameters.values()
        named.update(p.name for p in parameters)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return {key: value for key, value in site.items() if key in named}
