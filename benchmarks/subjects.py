"""What benchmarks.operators times: every native operator, its inputs, and the time that it should stay within."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import pooling
from pooling import functional, ranks
from pooling.geometry import Window

WINDOWS = {"2x2": Window.of(2, 2), "3x3": Window.of(3, 2, 1)}  # stride 2, the larger with padding 1
FORWARD, BACKWARD = "forward", "forward+backward"

# In copies of the input, on the CPU: forward 2x2, forward 3x3, forward+backward 2x2, forward+backward 3x3.
BOUNDS: dict[str, tuple[float, float, float, float]] = {
    **dict.fromkeys(["max", "max_indices", "min", "avg", "mixed", "mixed_learned"], (1.5, 2, 3, 4)),
    **dict.fromkeys(["blur", "lp2", "aps"], (2, 2.5, 4, 5)),
    **dict.fromkeys(["max_blur"], (3, 4, 6, 7)),
    **dict.fromkeys(["soft", "lse", "stochastic", "stochastic_eval", "weighted_mean"], (3, 5, 6, 9)),
    **dict.fromkeys(["median", "rap", "rwp", "rsp", "max_dropout", "ordinal"], (4, 9, 7, 12)),
}


def bound(name: str, window: str, mode: str) -> float | None:
    """The copies that a benchmark should take at most; None where nothing is said."""
    if name not in BOUNDS:
        return None
    return BOUNDS[name][2 * (mode == BACKWARD) + (window == "3x3")]


@dataclass(frozen=True)
class Subject:
    """One benchmark.

    Attributes:
        operator: the registered operator that it measures, or the name of a function of `pooling.functional`.
        bind: (window, *extra) -> the native operator as a function of x.
        extra: (x, window) -> the other tensors that the operator and the programs of PROGRAMS take. Those that require
            a gradient get one in forward+backward.
        random: two calls differ.
    """

    operator: str
    bind: Callable[..., Callable[[Tensor], Any]]
    extra: Callable[[Tensor, Window], tuple[Tensor, ...]] = lambda x, window: ()
    random: bool = False


def function(operation: Callable[..., Any], *names: str, **options: Any) -> Callable[..., Callable[[Tensor], Any]]:
    """Binds a function of `pooling.functional`, whose keywords `names` are the extra tensors."""

    def bind(window: Window, *extra: Tensor) -> Callable[[Tensor], Any]:
        return partial(operation, kernel_size=window, **options, **dict(zip(names, extra, strict=True)))

    return bind


def module(name: str, **options: Any) -> Callable[..., Callable[[Tensor], Any]]:
    """Binds a registered module."""

    def bind(window: Window) -> Callable[[Tensor], Any]:
        geometry = {"kernel_size": window.kernel_size, "stride": window.stride, "padding": window.padding}
        return pooling.create(name, **geometry, **options)

    return bind


def add_plugins() -> None:
    """A benchmark for each reducer and downsampler that is not poolzoo's own; nothing is known to compare it with."""
    for kind in ("reducer", "downsampler"):
        for name in pooling.names(kind):
            operator = pooling.info(name, kind)
            if not operator.ours:
                SUBJECTS[name] = Subject(name, own(name, kind), lambda x, window: (), random=operator.random)


def own(name: str, kind: str) -> Callable[..., Callable[[Tensor], Any]]:
    """Binds a user's module, built when the input shows how many channels there are."""

    def bind(window: Window) -> Callable[[Tensor], Any]:
        geometry: dict[str, Any] = {
            "kernel_size": window.kernel_size,
            "stride": window.stride,
            "padding": window.padding,
        }
        built: dict[int, Any] = {}

        def call(x: Tensor) -> Any:
            channels = x.shape[1]
            if channels not in built:
                built[channels] = pooling.create(name, kind=kind, channels=channels, **geometry).to(x.device)
            return built[channels](x)

        return call

    return bind


def ordinal(window: Window, theta: Tensor) -> Callable[[Tensor], Tensor]:
    beyond = ranks.beyond(len(theta)).to(theta.device)

    def call(x: Tensor) -> Tensor:
        return functional.ranked_pool2d(x, window, table=ranks.softmax(theta, beyond), owner="ordinal")

    return call


def wide(x: Tensor) -> torch.dtype:
    """What parameters are in: float32 beside half precision too."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def table(make: Callable[[int], Tensor]) -> Callable[[Tensor, Window], tuple[Tensor, ...]]:
    """The extra tensor of an operator with weights by rank."""
    return lambda x, window: (make(window.kernel_size[0] * window.kernel_size[1]).to(x.device, wide(x)),)


def parameter(x: Tensor, *shape: int) -> Tensor:
    """A learned parameter, in [1/4, 3/4)."""
    return (0.25 + torch.rand(shape, dtype=wide(x), device=x.device) / 2).requires_grad_()


def drawn(probabilities: Callable[[int], Tensor], certain: bool) -> Callable[[int], Tensor]:
    return lambda taps: ranks.cumulative(probabilities(taps), certain=certain)


geometric, first_kept = partial(ranks.geometric, a=0.5), partial(ranks.first_kept, q=0.5)

SUBJECTS: dict[str, Subject] = {
    "max": Subject("max", function(functional.max_pool2d)),
    "max_indices": Subject("max", function(functional.max_pool2d, return_indices=True)),
    "min": Subject("min", function(functional.min_pool2d)),
    "avg": Subject("avg", function(functional.avg_pool2d)),
    "mixed": Subject("mixed", function(functional.mixed_pool2d)),
    "mixed_learned": Subject("mixed", function(functional.mixed_pool2d, "a"), lambda x, _: (parameter(x),)),
    "subsample_scaled": Subject(
        "subsample_scaled",
        function(functional.subsample_scaled2d, "scale", "bias"),
        lambda x, _: (parameter(x, x.shape[1]), parameter(x, x.shape[1])),
    ),
    "blur": Subject("blur", module("blur", native="conv")),
    "max_blur": Subject("blur", module("blur", native="max")),
    "aps": Subject("aps", module("aps", native="conv")),
    "lp2": Subject("lp", function(functional.lp_pool2d)),
    "lp3": Subject("lp", function(functional.lp_pool2d, p=3.0)),
    "gem": Subject("gem", function(functional.gem_pool2d)),
    "lse": Subject("lse", function(functional.lse_pool2d)),
    "soft": Subject("soft", function(functional.soft_pool2d)),
    "weighted_mean": Subject(
        "weighted_mean",
        function(functional.weighted_mean_pool2d, "logits"),
        lambda x, _: (torch.randn_like(x).requires_grad_(),),
    ),
    "stochastic": Subject("stochastic", function(functional.stochastic_pool2d), random=True),
    "stochastic_eval": Subject("stochastic", function(functional.stochastic_pool2d, training=False)),
    "edscw": Subject("edscw", function(functional.edscw_pool2d)),
    "idw": Subject("idw", function(functional.idw_pool2d)),
    "ada": Subject("ada", function(functional.ada_pool2d, "b"), lambda x, _: (parameter(x, x.shape[1], 1, 1),)),
    "median": Subject("median", function(functional.median_pool2d)),
    "rap": Subject("rap", function(functional.ranked_pool2d, "table"), table(ranks.largest)),
    "rwp": Subject("rwp", function(functional.ranked_pool2d, "table"), table(geometric)),
    "rsp": Subject("rsp", function(functional.rank_draw_pool2d, "table"), table(drawn(geometric, True)), random=True),
    "max_dropout": Subject(
        "max_dropout", function(functional.rank_draw_pool2d, "table"), table(drawn(first_kept, False)), random=True
    ),
    "ordinal": Subject(
        "ordinal", ordinal, lambda x, window: (parameter(x, window.kernel_size[0] * window.kernel_size[1]),)
    ),
}
