"""Learning-rate schedules by name, as a factor of the base rate at each step. A new one is a function here."""

import math
from collections.abc import Callable
from typing import Annotated, Any

import torch

from pooling.options import Range, signature_options

Share = Annotated[float, Range(least=0, most=1)]


def constant(progress: float, *, warmup: Share = 0.0) -> float:
    """The base rate throughout."""
    return 1.0


def cosine(progress: float, *, warmup: Share = 0.05, final: Share = 0.0) -> float:
    """Half a cosine from the base rate down to `final` of it (Loshchilov & Hutter 2017)."""
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def step(
    progress: float,
    *,
    warmup: Share = 0.0,
    milestones: tuple[Share, ...] = (0.5, 0.75),
    gamma: Annotated[float, Range(above=0, most=1)] = 0.1,
) -> float:
    """The rate times `gamma` after each milestone, given as a share of the training."""
    return gamma ** sum(progress >= milestone for milestone in milestones)


def one_cycle(progress: float, *, warmup: Share = 0.3, final: Annotated[float, Range(above=0, most=1)] = 1e-4) -> float:
    """A long warm-up to the base rate, then half a cosine down to `final` of it (Smith 2018)."""
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


FUNCTIONS: dict[str, Callable[..., float]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
    "one_cycle": one_cycle,
}
SCHEDULERS = {name: signature_options(function) for name, function in FUNCTIONS.items()}


def factor(name: str, at: int, steps: int, **options: Any) -> float:
    """The factor at step `at` of `steps`: a linear rise over the `warmup` share, then the schedule over the rest."""
    warmup = round(options.get("warmup", SCHEDULERS[name]["warmup"].default) * steps)
    if at < warmup:
        return (at + 1) / (warmup + 1)
    return FUNCTIONS[name]((at - warmup) / max(1, steps - warmup), **options)


def build(
    optimizer: torch.optim.Optimizer, steps: int, name: str, **options: Any
) -> torch.optim.lr_scheduler.LRScheduler:
    """A schedule over `steps` optimizer steps."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: factor(name, at, steps, **options))
