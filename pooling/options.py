"""Options: keyword-only parameters read from a signature, checked against their annotations.

A registry entry's options *are* its signature; nothing is declared twice. An annotation may carry a range:
`beta: Annotated[float, Range(above=0)] = 1.0`.
"""

import difflib
import inspect
import math
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin


@dataclass(frozen=True)
class Range:
    """The numbers allowed: `> above` or `>= least`, and `<= most`; always finite."""

    above: float | None = None
    least: float | None = None
    most: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        bounds = (("> ", self.above), (">= ", self.least), ("<= ", self.most))
        return " and ".join(f"{sign}{bound:g}" for sign, bound in bounds if bound is not None) or "finite"


@dataclass(frozen=True)
class Option:
    """One option of a registered thing: its annotation and its default (`Option.REQUIRED` if it has none)."""

    name: str
    annotation: Any
    default: Any

    REQUIRED = inspect.Parameter.empty

    @property
    def allowed(self) -> str:
        """The values allowed, in words: `a number > 0`, `'relu', 'shift' or 'error'`."""
        return describe(self.annotation)


def signature_options(function: Callable[..., Any], without: Iterable[str] = ()) -> dict[str, Option]:
    """The keyword-only parameters of a function or class, in order, by name."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {
        p.name: Option(p.name, p.annotation, p.default)
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in set(without)
    }


def check_option(owner: str, option: Option, value: Any) -> None:
    """Raise ValueError or TypeError, with owner, name, value and what is allowed, unless the value fits."""
    if not accepts(option.annotation, value):
        kind = ValueError if accepts(_without_limits(option.annotation), value) else TypeError
        raise kind(f"{owner}: {option.name} must be {option.allowed}, got {value!r}")


def check_names(owner: str, given: Iterable[str], options: Iterable[str], others: Iterable[str] = ()) -> None:
    """Raise TypeError for the first given name that is not an option; the nearest one, or of `others`, is suggested."""
    options = list(options)
    for name in given:
        if name not in options:
            known = f"its options: {', '.join(options)}" if options else "it has no options"
            raise TypeError(f"{owner}: no option {name!r}{did_you_mean(name, [*options, *others])} ({known})")


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """`; did you mean 'stochastic'?`, or the empty string where nothing is near."""
    near = difflib.get_close_matches(str(word), list(candidates), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def accepts(annotation: Any, value: Any) -> bool:
    """Whether a value fits an annotation made of int, float, bool, str, None, Literal, Union, tuple and Annotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *limits = get_args(annotation)
        return accepts(base, value) and all(value in limit for limit in limits if isinstance(limit, Range))
    if origin in (Union, types.UnionType):
        return any(accepts(part, value) for part in get_args(annotation))
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(annotation))
    if origin in (list, tuple):
        item = get_args(annotation)[0]
        return isinstance(value, (list, tuple)) and all(accepts(item, part) for part in value)
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is None:
        return value is None
    return annotation in (Any, inspect.Parameter.empty) or isinstance(value, annotation)


def describe(annotation: Any) -> str:
    """An annotation in words, as the error messages and the catalogue print it."""
    words = {float: "a number", int: "an integer", bool: "true or false", str: "a string", None: "none"}
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *limits = get_args(annotation)
        return f"{describe(base)} {' and '.join(str(limit) for limit in limits)}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(None if part is types.NoneType else part) for part in get_args(annotation))
    if origin is Literal:
        *most, last = map(repr, get_args(annotation))
        return f"{', '.join(most)} or {last}" if most else last
    if origin in (list, tuple):
        return f"a list of {describe(get_args(annotation)[0])}"
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _without_limits(annotation: Any) -> Any:
    """The annotation with ranges and choices dropped: what tells a wrong value from a wrong type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _without_limits(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return Union[tuple(_without_limits(part) for part in get_args(annotation))]
    if origin is Literal:
        return Union[tuple(type(choice) for choice in get_args(annotation))]
    return annotation
