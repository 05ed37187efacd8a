"""Optimizers by name. A new one is a function here: its keyword-only parameters become its settings."""

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from torch import nn

from pooling.options import Range, signature_options

Rate = Annotated[float, Range(above=0)]
Decay = Annotated[float, Range(least=0)]


def sgd(
    groups: Iterable[dict[str, Any]],
    *,
    lr: Rate = 0.1,
    momentum: Annotated[float, Range(least=0, most=1)] = 0.9,
    nesterov: bool = True,
    weight_decay: Decay = 5e-4,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0)


def adamw(
    groups: Iterable[dict[str, Any]],
    *,
    lr: Rate = 3e-3,
    beta1: Annotated[float, Range(least=0, most=1)] = 0.9,
    beta2: Annotated[float, Range(least=0, most=1)] = 0.999,
    weight_decay: Decay = 0.01,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2))


FUNCTIONS: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": sgd, "adamw": adamw}
OPTIMIZERS = {name: signature_options(function) for name, function in FUNCTIONS.items()}


def build(net: nn.Module, name: str, **options: Any) -> torch.optim.Optimizer:
    """The optimizer of a network.

    No weight decay for biases, normalisation and other vectors and scalars, and for what a module's `no_weight_decay`
    names (a tuple or, as timm has it, a method).
    """
    weight_decay = options.get("weight_decay", OPTIMIZERS[name]["weight_decay"].default)
    parameters = {key: parameter for key, parameter in net.named_parameters() if parameter.requires_grad}
    kept = _without_decay(net)
    decayed = [parameter for key, parameter in parameters.items() if parameter.dim() > 1 and key not in kept]
    others = [parameter for key, parameter in parameters.items() if parameter.dim() <= 1 or key in kept]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return FUNCTIONS[name]([group for group in groups if group["params"]], **options)


def _without_decay(net: nn.Module) -> set[str]:
    found: set[str] = set()
    for prefix, module in net.named_modules():
        own: Any = getattr(module, "no_weight_decay", ())
        found.update(f"{prefix}.{name}".lstrip(".") for name in (own if isinstance(own, tuple) else own()))
    return found
