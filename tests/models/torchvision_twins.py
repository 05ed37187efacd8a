"""A backbone beside torchvision's own, with the same random weights."""

import math
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

import models

PUBLISHED = [(name, {}) for name in models.names() if models.info(name).torchvision == name]
PUBLISHED += [("deeplabv3", {"backbone": backbone}) for backbone in ("resnet50", "resnet101")]


def theirs_of(name: str, num_classes: int, auxiliary: bool = False, **options: Any) -> nn.Module:
    """torchvision's model, without published weights."""
    if name == "googlenet":
        options |= {"aux_logits": auxiliary, "init_weights": False}
    if name == "deeplabv3":
        options |= {"aux_loss": auxiliary, "weights_backbone": None}
    title = (models.info(name).torchvision or "").format(backbone=options.pop("backbone", "resnet50"))
    return torchvision.models.get_model(title, weights=None, num_classes=num_classes, **options)


def random_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the usual size for these keys and shapes; cheap to draw, unlike a network's own initialisation."""

    def draw(key: str, like: Tensor) -> Tensor:
        if not like.is_floating_point():
            return torch.zeros(like.shape, dtype=like.dtype)
        if like.dim() > 1 and like[0].numel() > 1:
            return torch.empty(like.shape).uniform_(-1, 1).mul_(math.sqrt(6 / like[0].numel()))
        middle = 0.0 if key.endswith(("bias", "running_mean")) else 1.0
        return torch.empty(like.shape).uniform_(middle - 0.3, middle + 0.3)

    return {key: draw(key, like) for key, like in state.items()}


def both(name: str, num_classes: int = 10, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Ours and torchvision's. Batch statistics of one training pass become the running ones, so that both modes run on
    activations of order 1."""
    with torch.device("meta"):
        pair = models.create(name, num_classes=num_classes, **options), theirs_of(name, num_classes)
    state = random_state(pair[1].state_dict())
    for net in pair:
        net.load_state_dict({key: value.clone() for key, value in state.items()}, strict=True, assign=True)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
    return pair
