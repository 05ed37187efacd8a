"""Where equivariance breaks: the distance around each site, and the local equivariance error of the whole network.

Letters: N images, (H, W) their size; C channels of a map of (h, w) positions.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.transforms import roll
from evaluation.metrics import Counts, Ratio
from evaluation.moves import fourier_derivative, fourier_shift
from evaluation.shift import Measurement, as_json
from evaluation.views import Batch, Predict, Protocol, check_larger, floating

Batches = Iterable[tuple[Tensor, Tensor, Tensor]]


def feature_distance(maps: Tensor, shifted: Tensor, dy: Tensor, dx: Tensor) -> Counts:
    """d(shift(F(x)), F(shift(x))) of one layer F (the internal feature distance of Zhang 2019, section 3.1).

    0: equivariant; 1: as far apart as two unrelated maps of these means and variances. The map is shifted by the DFT's
    phase, as its own step is several pixels of the image, and positions that have wrapped round are left out.

    Shape: F(x) and F(shift(x)) (N, C, h, w), shifts in pixels of the map, which need not be whole, (N,) -> (N,), (N,)
    """
    h, w = maps.shape[-2:]
    maps, shifted = maps.float(), shifted.float()
    rows, columns = (torch.arange(n, device=maps.device) for n in (h, w))
    seen = (_kept(rows, dy, h)[:, :, None] & _kept(columns, dx, w)[:, None, :])[:, None].float()
    expected = fourier_shift(maps, dy, dx)
    count = seen.sum((2, 3), keepdim=True).clamp(min=1)

    def spread(x: Tensor) -> Tensor:
        mean = (x * seen).sum((2, 3), keepdim=True) / count
        return ((x - mean).square() * seen).sum((1, 2, 3))

    scale = spread(expected) + spread(shifted)
    distance = ((expected - shifted).square() * seen).sum((1, 2, 3))
    alive = scale > 1e-12
    return (distance / scale.where(alive, scale.new_ones(()))).sqrt() * alive, alive.long()


def local_equivariance_error(predict: Predict, images: Tensor) -> Counts:
    """The norm of d/dt at t = 0 of T_-t p(T_t x), T_t a circular shift by t pixels (Gruver et al. 2023, section 3).

    p are the probabilities. A classifier has nothing to shift back; of a segmentation network's (K, H, W) the norm is
    over classes, and its mean square over pixels. Of each image the mean over both axes; in 1 / pixel.

    Shape: floating images in [0, 1] (N, C, H, W) -> (N,), (N,)
    """

    def probabilities(x: Tensor) -> Tensor:
        return predict(x).softmax(1)

    norms = []
    for axis in (-2, -1):
        # By the double-backward rule: custom operators have no forward-mode derivative.
        value, change = torch.autograd.functional.jvp(probabilities, images, fourier_derivative(images, axis))
        assert isinstance(value, Tensor)
        assert isinstance(change, Tensor)
        if value.dim() == 4:
            change = change - fourier_derivative(value, axis)
        norms.append(change.square().sum(1).flatten(1).mean(1).sqrt() if value.dim() == 4 else change.norm(dim=1))
    return norms[0] + norms[1], torch.full((len(images),), 2, device=norms[0].device)


class FeatureDistance(Ratio):
    """`feature_distance` over `update(maps, shifted, dy, dx)`."""

    kind = "mean"
    higher_is_better = False
    counts = staticmethod(feature_distance)


class LocalEquivarianceError(Ratio):
    """`local_equivariance_error` over `update(images)`; `predict` as there."""

    kind = "mean"
    higher_is_better = False
    counts = staticmethod(lambda images, predict: local_equivariance_error(predict, images))


@dataclass(frozen=True)
class Layers(Protocol):
    """Distances around the sites between an image and its roll by offsets uniform in [-m, m], of index < `limit`."""

    m: int = 3
    repeats: int = 2
    limit: int = 200
    name = "layers"
    stream = 6

    def check(self, H: int, W: int) -> None:
        check_larger(self, self.m, H, W)

    def passes(self, images: int, segmentation: bool = False) -> int:
        # A derivative costs about two passes forward and backward along each axis: eight of these.
        return (1 + self.repeats + 8) * min(images, self.limit)


def measure_layers(
    predict: Predict,
    batches: Batches,
    sites: Mapping[str, tuple[nn.Module, int]],
    protocol: Layers,
    seed: int = 0,
    *,
    progress: Callable[[int], object] | None = None,
) -> Measurement:
    """The figures `distance/SITE/in`, `distance/SITE/out` and `local_equivariance_error`.

    Args:
        predict, batches, progress: as for `evaluate_shift`.
        sites: by name, the module and its stride, in the order of the network.
    """
    figures: dict[str, Ratio] = {}
    result, size, seen = Measurement(), (0, 0), 0

    def note(name: str, indices: Tensor, counts: Counts) -> None:
        figures.setdefault(name, Ratio("mean")).update(*(part.cpu() for part in counts))
        result.note_counts(name, indices, counts)

    for images, targets, indices in batches:
        batch = Batch(images, targets, torch.as_tensor(indices), targets).first(protocol.limit)
        if not len(batch.indices):
            break
        H, W = size = (images.shape[-2], images.shape[-1])
        protocol.check(H, W)
        with torch.no_grad():
            plain = capture(predict, batch.images, sites)
            strides = _strides(plain, sites, H)
            counts: dict[str, list[Counts]] = {}
            for repeat in range(protocol.repeats):
                dy, dx = (batch.draw(protocol, seed, repeat, 2 * protocol.m + 1) - protocol.m)[:2]
                moved = capture(predict, roll(batch.images, dy, dx), sites)
                for name, maps in plain.items():
                    s = strides[name]
                    counts.setdefault(name, []).append(feature_distance(maps, moved[name], dy / s, dx / s))
            for name, parts in counts.items():
                hits, trials = zip(*parts, strict=True)
                note(f"distance/{name}", batch.indices, (torch.stack(hits).sum(0), torch.stack(trials).sum(0)))
        error = local_equivariance_error(predict, floating(batch.images))
        note("local_equivariance_error", batch.indices, error)
        seen += protocol.passes(len(batch.indices))
        if progress is not None:
            progress(seen)
    stated = protocol.parameters(*size) | {"seed": seed}
    result.figures = {name: as_json(figure, stated) for name, figure in figures.items()}
    return result


def capture(predict: Predict, images: Tensor, sites: Mapping[str, tuple[nn.Module, int]]) -> dict[str, Tensor]:
    """The maps before and after each site, (N, C, h, w), as `SITE/in` and `SITE/out`, in the order of execution."""
    maps: dict[str, Tensor] = {}
    with hooks({name: module for name, (module, _) in sites.items()}) as found:
        predict(images)
    for name, (before, after) in found.items():
        if before.dim() == 4 == after.dim():
            maps |= {f"{name}/in": before, f"{name}/out": after}
    return maps


@contextmanager
def hooks(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """While the context lasts, the last input and output of each module that runs, by its name."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output  # a polyphase operator may tell its phase too
            if inputs and isinstance(inputs[0], Tensor) and isinstance(first, Tensor):
                # Cloned: an activation that works in place may follow.
                found[name] = (inputs[0].detach().clone(), first.detach().clone())

        return hook

    handles = [module.register_forward_hook(remember(name)) for name, module in modules.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _kept(positions: Tensor, shift: Tensor, size: int) -> Tensor:
    """Which positions (n,) hold, after a circular shift (N,), what came from inside: (N, n)."""
    source = positions - shift[:, None]
    return (source >= 0) & (source <= size - 1)


def _strides(maps: Mapping[str, Tensor], sites: Mapping[str, tuple[nn.Module, int]], H: int) -> dict[str, int]:
    """Pixels of the image by which a step on each map moves.

    A site's input has the stride of the smallest map known so far that is not smaller: exact also where convolutions
    without padding make maps smaller between the sites, and where sites stand side by side.
    """
    known, strides = {H: 1}, {}
    for name, (_, stride) in sites.items():
        if f"{name}/in" not in maps:
            continue
        before, after = maps[f"{name}/in"].shape[-2], maps[f"{name}/out"].shape[-2]
        strides[f"{name}/in"] = known[min((size for size in known if size >= before), default=H)]
        strides[f"{name}/out"] = known[after] = strides[f"{name}/in"] * stride
    return strides
