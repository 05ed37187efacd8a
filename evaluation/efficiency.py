"""What a network costs: parameters, FLOPs, images per second and memory."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

FLOPS_CONVENTION = "matrix products, convolutions and attention of one image; a multiply-add is two FLOPs"


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode while the context lasts; then every module is in its own mode again."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


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

    mode = evaluating(net) if isinstance(net, nn.Module) else nullcontext()
    with mode, torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(example[:1])
    return counter.get_total_flops()


def throughput(net: nn.Module, images: Tensor, least_seconds: float = 0.5) -> dict[str, Any]:
    """Images per second and peak memory, in bytes, of inference and of training, and what they were measured with.

    Training is a pass forward and backward, in training mode, of a copy of the network, without optimizer and data.
    Memory is known on CUDA devices only.

    Args:
        images: (N, C, H, W), normalised, on the network's device: a batch of this size is timed.
    """

    def infer() -> None:
        with torch.no_grad():
            net(images)

    trained = copy.deepcopy(net).train()

    def step() -> None:
        trained.zero_grad()
        with torch.enable_grad():
            trained(images).float().square().mean().backward()

    device = images.device
    found: dict[str, Any] = {}
    for name, function in (("inference", infer), ("training", step)):
        function()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        best, spent = float("inf"), 0.0
        while spent < least_seconds:
            seconds = timed(function, device)
            best, spent = min(best, seconds), spent + seconds
        found[f"{name}_images_per_second"] = len(images) / best
        memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
        found[f"{name}_peak_memory"] = memory
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return found | {
        "batch_size": len(images),
        "dtype": str(images.dtype).removeprefix("torch."),
        "memory_format": "channels_last" if channels_last else "contiguous",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes, until the device has done its work."""
    _synchronise(device)
    started = time.perf_counter()
    function()
    _synchronise(device)
    return time.perf_counter() - started


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
