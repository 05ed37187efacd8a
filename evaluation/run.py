"""Evaluation of a network on a data module: the figures of `evaluation.shift`, and the files they are kept in."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from datamodules.transforms import normalise
from evaluation.shift import PROTOCOLS, Protocol, choose, evaluate_shift, passes

if TYPE_CHECKING:
    from datamodules.module import ImageData

Progress = Callable[[int, int], object]  # images seen, images in all


def predictor(net: nn.Module, data: "ImageData") -> Callable[[Tensor], Tensor]:
    """images (N, C, H, W), uint8 or in [0, 1] -> logits, on the network's device and normalised as in training."""
    device = next((tensor.device for tensor in net.parameters()), torch.device("cpu"))
    mean, std = torch.tensor(data.mean, device=device), torch.tensor(data.std, device=device)
    net.eval()
    return lambda images: net(normalise(images.to(device), mean, std))


def build_protocols(names: list[str] | None, segmentation: bool, settings: dict[str, dict[str, Any]]) -> list[Protocol]:
    """The protocols of these names (None: the usual ones for the task), each with its settings.

    Raises:
        ValueError: an unknown name, a setting out of range, or a protocol that does not fit the task.
    """
    usual = choose(names, segmentation)
    return [PROTOCOLS[protocol.name](**settings.get(protocol.name, {})) for protocol in usual]


def check_evaluation(task: str, *, batch_size: int, protocols: list[str] | None, seed: int, **settings: Any) -> None:
    """Raise ValueError or TypeError for settings of `evaluate_net` that it would not take."""
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"evaluation.{name} must be an integer >= {least}, got {value!r}")
    build_protocols(protocols, task == "segmentation", settings)


def evaluate_net(
    net: nn.Module,
    data: "ImageData",
    *,
    batch_size: int = 500,
    protocols: list[str] | None = None,
    seed: int = 0,
    split: str = "test",
    limit: int | None = None,
    progress: Progress | None = None,
    **settings: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """A network's figures on a split: by name {"value", "interval", "n", "protocol"}.

    Args:
        split: "train", "val" or "test". limit: only the first so many images.
        settings: by protocol, e.g. `circular={"m": 3, "repeats": 5}`.
    """
    if split not in data.sizes:
        raise ValueError(f"split must be one of {', '.join(data.sizes)}, got {split!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    chosen = build_protocols(protocols, data.task == "segmentation", settings)
    count = min(data.sizes[split], limit or data.sizes[split])
    total = passes(chosen, count, data.task == "segmentation")
    return evaluate_shift(
        predictor(net, data),
        _first(data.evaluation_batches(split, batch_size), count),
        chosen,
        seed,
        progress=None if progress is None else lambda seen: progress(seen, total),
    )


def _first(batches: Iterator[tuple[Tensor, Tensor, Tensor]], count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for images, targets, indices in batches:
        kept = count - int(indices[0])
        if kept <= 0:
            return
        yield images[:kept], targets[:kept], indices[:kept]


def write_json(file: Path, content: Any) -> None:
    """Whole or not at all: a reader never sees half a file."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(file)


def unused(path: Path) -> Path:
    """The path, or where it is taken the first of `name-2`, `name-3`, ... that is not."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate
