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
    """The optimizer of a network. Biases, normalisation and other vectors and scalars have no weight decay."""
    weight_decay = options.get("weight_decay", OPTIMIZERS[name]["weight_decay"].default)
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return FUNCTIONS[name]([group for group in groups if group["params"]], **options)
