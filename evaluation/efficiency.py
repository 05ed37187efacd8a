"""What a network costs: parameters and FLOPs."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

FLOPS_CONVENTION = "matrix products, convolutions and attention of one image; a multiply-add is two FLOPs"


def parameters(net: nn.Module) -> int:
    """Number of parameters, frozen ones included, shared ones once."""
    return sum(p.numel() for p in net.parameters())


def flops(net: Callable[[Tensor], object], example: Tensor) -> int:
    """FLOPs of the forward pass of one image, in evaluation mode, counted as `FLOPS_CONVENTION` says.

    `torch.utils.flop_counter` counts by operator, so that functional calls are seen too; pooling, normalisation and
    activations are not counted, as is the custom in the field. Divide by two for what papers call multiply-adds (MACs).

    Args:
        example: (N, C, H, W), of which the first image is used.
    """
    from torch.utils.flop_counter import FlopCounterMode

    training = [m for m in net.modules() if m.training] if isinstance(net, nn.Module) else []
    try:
        for module in training:
            module.training = False
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(example[:1])
    finally:
        for module in training:
            module.training = True
    return counter.get_total_flops()
