"""Evaluation of any network on a data module: every figure that was asked for, from one call.

result = evaluate(net, data, protocols=["crop", "grid"], also=["cam", "layers"], limit=1000)
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from datamodules.transforms import normalise
from evaluation.cam_measure import Cam, CamMeasurement, Strip, measure_cams
from evaluation.detection import measure_detection
from evaluation.layers import Layers, measure_layers
from evaluation.shift import PROTOCOLS, Measurement, Protocol, choose, measure, passes

if TYPE_CHECKING:
    from datamodules.module import ImageData

Progress = Callable[[int, int], object]  # images seen, images in all
FURTHER: dict[str, type[Layers] | type[Cam]] = {"layers": Layers, "cam": Cam}
SMALL = 50  # images of a batch where maps and gradients are kept beside the passes


@dataclass
class Evaluation(Measurement):
    """All that was measured. failures: the parts that could not be, with the reason; notes: what a reader needs."""

    strips: list[Strip] = field(default_factory=list)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)  # image, classes, classes shifted back
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, part: Measurement) -> None:
        self.figures |= part.figures
        self.details |= part.details
        for name, values in part.images.items():
            self.images.setdefault(name, {}).update(values)
        if isinstance(part, Evaluation | CamMeasurement):
            self.strips += part.strips
        if isinstance(part, Evaluation):
            self.pairs = self.pairs or part.pairs


def preparer(net: nn.Module, data: "ImageData") -> Callable[[Tensor], Tensor]:
    """images (N, C, H, W), uint8 or in [0, 1] -> normalised as in training, on the network's device."""
    device, dtype = next(((p.device, p.dtype) for p in net.parameters()), (torch.device("cpu"), torch.float32))
    mean, std = torch.tensor(data.mean, device=device), torch.tensor(data.std, device=device)
    return lambda images: normalise(images.to(device), mean, std).to(dtype)


def predictor(net: nn.Module, data: "ImageData") -> Callable[[Tensor], Tensor]:
    """images (N, C, H, W), uint8 or in [0, 1] -> logits; the network is put into evaluation mode."""
    prepare = preparer(net, data)
    net.eval()
    return lambda images: net(prepare(images))


def build_protocols(names: list[str] | None, segmentation: bool, settings: dict[str, dict[str, Any]]) -> list[Protocol]:
    """The protocols of these names (None: the usual ones for the task), each with its settings.

    Raises:
        ValueError: an unknown name, a setting out of range, or a protocol that does not fit the task.
    """
    usual = choose(names, segmentation)
    return [PROTOCOLS[protocol.name](**settings.get(protocol.name, {})) for protocol in usual]


def check_evaluation(task: str, *, batch_size: int, protocols: list[str] | None, seed: int, **settings: Any) -> None:
    """Raise ValueError or TypeError for settings of `evaluate` that it would not take."""
    for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"evaluation.{name} must be an integer >= {least}, got {value!r}")
    build_protocols(protocols, task == "segmentation", settings)
    for name in FURTHER:
        further_protocol(name, settings.get(name, {}))


def evaluate(
    net: nn.Module,
    data: "ImageData",
    *,
    batch_size: int = 500,
    protocols: list[str] | None = None,
    also: Sequence[str] = (),
    seed: int = 0,
    split: str = "test",
    limit: int | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    progress: Progress | None = None,
    **settings: dict[str, Any],
) -> Evaluation:
    """A network's figures on a split. The network need not be poolzoo's: normalised images in, logits out.

    A part that cannot be measured is named in `failures`, and the others go on.

    Args:
        also: "cam", figures of class activation maps; "layers", distances around the sites and the local error.
        split: "train", "val" or "test". limit: only the first so many images.
        prepare: images (N, C, H, W), uint8 or in [0, 1], to what the network takes, on its device; None: normalised by
            the data's own mean and deviation.
        settings: by protocol, e.g. `circular={"m": 3, "repeats": 5}`, `cam={"method": "layer_cam"}`.
    Raises:
        ValueError, TypeError: settings that are not allowed, or a network that does not fit the data.
    """
    if split not in data.sizes:
        raise ValueError(f"split must be one of {', '.join(data.sizes)}, got {split!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    segmentation, result = data.task == "segmentation", Evaluation()
    shifts = [] if data.task == "detection" else build_protocols(protocols, segmentation, settings)
    further = [further_protocol(name, settings.get(name, {})) for name in also]
    for protocol in (*shifts, *further):
        try:
            protocol.check(data.image_size, data.image_size)
        except ValueError as error:
            result.failures[protocol.name] = str(error)
    shifts, further = ([p for p in some if p.name not in result.failures] for some in (shifts, further))

    count = min(data.sizes[split], limit or data.sizes[split])
    done, total = 0, count + sum(protocol.passes(count, segmentation) for protocol in (*shifts, *further))
    prepare = prepare or preparer(net, data)
    net.eval()

    def predict(images: Tensor) -> Any:
        return net(prepare(images))

    device = next((tensor.device for tensor in net.parameters()), torch.device("cpu"))

    def counted(seen: int) -> None:
        if progress is not None:
            progress(done + seen, total)

    if data.task == "detection":
        result.failures = {name: "not for detection" for name in (*(protocols or ()), *also)}

    def batches(size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        # Sent to the device once: the views are made there.
        for images, targets, indices in _first(data.evaluation_batches(split, size), count):
            yield images.to(device), targets, indices

    if data.task == "detection":
        result.add(measure_detection(predict, batches(batch_size), progress=counted))
        return result
    result.add(measure(predict, batches(batch_size), shifts, seed, progress=counted))
    done = passes(shifts, count, segmentation)
    for protocol in further:
        some = batches(min(batch_size, SMALL))
        try:
            if isinstance(protocol, Layers):
                result.add(measure_layers(predict, some, sites_of(net), protocol, seed, progress=counted))
            elif isinstance(protocol, Cam):
                objects = objects_of(data, split)
                if objects is None:
                    result.notes.append(
                        f"{data.name} has no masks: no pointing_game, energy_in_mask and max_box_acc "
                        "(data=digit_scenes data.task=classification has them)"
                    )
                fill = torch.tensor(data.mean)
                result.add(measure_cams(net, prepare, some, protocol, fill, objects, seed, progress=counted))
        except (ValueError, RuntimeError) as error:
            result.failures[protocol.name] = str(error)
        done += protocol.passes(count, segmentation)
    if segmentation:
        result.pairs = _pairs(predict, next(batches(6)), seed)
    return result


def further_protocol(name: str, settings: dict[str, Any]) -> Layers | Cam:
    """`Layers` or `Cam` with its settings.

    Raises:
        ValueError: neither, or a setting out of range.
    """
    if name not in FURTHER:
        raise ValueError(f"there is no further part {name!r} of an evaluation (there are: {', '.join(FURTHER)})")
    return FURTHER[name](**settings)


def sites_of(net: nn.Module) -> dict[str, tuple[nn.Module, int]]:
    """The modules at a network's sites with their strides; none where the network marks none."""
    found: dict[str, tuple[nn.Module, int]] = {}
    for module in net.modules():
        site: Any = getattr(module, "site", None)
        if hasattr(site, "stride"):
            found[site.name] = (module, site.stride if isinstance(site.stride, int) else max(site.stride))
    return found


def objects_of(data: "ImageData", split: str) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """Where the objects of a class are, for `measure_cams`: from segmentation targets, or from the split's masks, in
    which 0 is the background and 1 + c a classifier's class c. None: the data do not know."""
    if data.task == "segmentation":
        return lambda indices, targets, classes: targets == classes[:, None, None]
    part, numbers = data.parts[split]
    masks = part.masks
    if masks is None:
        return None
    return lambda indices, targets, classes: masks[numbers[indices]].to(classes) == 1 + classes[:, None, None]


def _pairs(
    predict: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor, Tensor], seed: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    from datamodules.transforms import roll
    from evaluation.protocols import Circular
    from evaluation.views import offsets

    images, _, indices = batch
    m = Circular().m
    assert Circular.stream is not None
    dy, dx = (offsets(Circular.stream, seed, indices, 0, 2 * m + 1) - m)[:2].to(images.device)
    with torch.no_grad():
        plain, moved = predict(images).argmax(1), predict(roll(images, dy, dx)).argmax(1)
    back = roll(moved, -dy.to(moved.device), -dx.to(moved.device))
    return list(zip(images.cpu(), plain.cpu(), back.cpu(), strict=True))


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
