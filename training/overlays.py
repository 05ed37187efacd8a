"""Class activation maps laid over a user's own pictures: one file for each picture, and a contact sheet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from datamodules.decode import SUFFIXES, attempt, available_cores, read_image
from evaluation.cam import ClassMaps, check_method, upsample
from evaluation.pictures import channels_last, show
from evaluation.run import SMALL, preparer, unused
from pooling.options import did_you_mean
from training.testing import load_trained

DPI = 110
SHEET = 60  # pictures on a contact sheet, at most
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, Pillow's too


class Overlay(NamedTuple):
    """A picture with its CAM. image: uint8 (C, H, W); cam: (H, W); chance: the class's probability or, for
    segmentation, its share of the pixels; file: what was written."""

    picture: Path
    image: Tensor
    cam: Tensor
    label: str
    chance: float
    file: Path


class Overlays(NamedTuple):
    folder: Path
    sheet: Path
    overlays: list[Overlay]
    broken: dict[Path, str]


def overlay_pictures(config: dict[str, Any]) -> Overlays:
    """Write an overlay for each picture and a contact sheet, into a folder that is new.

    Args:
        config: the resolved settings of conf/cam.yaml: run or checkpoint, images, output, method, layer, label.
    Raises:
        ValueError, FileNotFoundError: a run or pictures that cannot be used, a network without a spatial map.
    """
    check_method(config["method"])
    files = picture_files(config["images"])
    trained = load_trained(config["run"], config["checkpoint"], config["accelerator"], config.get("plugins") or ())
    net, data = trained.net, trained.data
    label = None if config["label"] is None else _class_of(str(config["label"]), data.class_names)
    size, images = data.image_size, torch.zeros(len(files), data.in_channels, data.image_size, data.image_size).byte()

    def read(i: int) -> None:
        images[i] = _channels(torch.from_numpy(read_image(files[i], size).copy()), data.in_channels)

    reasons = attempt(read, len(files), available_cores())
    good = [i for i in range(len(files)) if i not in reasons]
    broken = {files[i]: reason for i, reason in reasons.items()}
    if not good:
        first, why = next(iter(broken.items()))
        raise ValueError(f"none of the {len(files)} pictures can be read; the first: {first} ({why})")
    prepare = preparer(net, data)
    maps_of = ClassMaps(net, config["method"], prepare(images[good[:1]]), config["layer"])
    folder = unused(Path(config["output"]) if config["output"] else trained.folder / "cam")
    folder.mkdir(parents=True)
    overlays: list[Overlay] = []
    for part in torch.tensor(good).split(SMALL):
        batch = prepare(images[part])
        classes, chances, regions = _chosen(net, batch, label)
        cams = upsample(maps_of(batch, classes, regions), (size, size)).cpu()
        for i, cam, c, chance in zip(part.tolist(), cams, classes.tolist(), chances.tolist(), strict=True):
            file = unused(folder / f"{files[i].stem}.png")
            overlay = Overlay(files[i], images[i], cam, data.class_names[c], chance, file)
            _save(sheet([overlay], with_image=True), file)
            overlays.append(overlay)
    contact = unused(folder / "contact_sheet.png")
    _save(sheet(overlays[:SHEET]), contact)
    return Overlays(folder, contact, overlays, broken)


def picture_files(images: Any) -> list[Path]:
    """The picture files that `images` means: a folder's, at any depth, or those named.

    Raises:
        ValueError, FileNotFoundError: nothing given, nothing there, or a folder without pictures.
    """
    if images is None:
        raise ValueError("images must be given: images=FOLDER, images=FILE or images=[FILE,FILE]")
    files: list[Path] = []
    for name in images if isinstance(images, list) else [images]:
        path = Path(str(name)).expanduser()
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
            if not found:
                raise ValueError(f"images: folder {str(path)!r} holds no pictures ({', '.join(sorted(SUFFIXES))})")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise FileNotFoundError(f"images: there is no file or folder {str(path)!r}")
    return files


def sheet(overlays: Sequence[Overlay], with_image: bool = False) -> Figure:
    """Overlays side by side, with their classes; the picture itself beside each where asked for."""
    panels = [(o, cam) for o in overlays for cam in ((None, o.cam) if with_image else (o.cam,))]
    columns = min(6, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(2.3 * columns, 2.7 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
        axes.set_anchor("S")
    for axes, (overlay, cam) in zip(grid.flat, panels, strict=False):
        show(axes, channels_last(overlay.image))
        if cam is None:
            axes.set_title(_shortened(overlay.picture.name), fontsize=9)
            continue
        least, most = float(cam.min()), float(cam.max())
        strength = ((cam - least) / (most - least if most > least else 1)).numpy()
        axes.imshow(strength, cmap="turbo", alpha=0.1 + 0.55 * strength, interpolation="bilinear", vmin=0, vmax=1)
        name = "" if with_image else f"{_shortened(overlay.picture.name)}\n"
        axes.set_title(f"{name}{_shortened(overlay.label)} {overlay.chance:.0%}", fontsize=9)
    return figure


def _chosen(net: torch.nn.Module, batch: Tensor, label: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The class that each CAM is of, its probability or share of pixels, (N,), and for segmentation its pixels."""
    with torch.no_grad():
        chances = net(batch).softmax(1)
    N, K = chances.shape[:2]
    given = None if label is None else torch.full((N,), label, device=chances.device)
    if chances.dim() == 2:
        classes = chances.argmax(1) if given is None else given
        return classes, chances.gather(1, classes[:, None])[:, 0], None
    predicted = chances.argmax(1)
    shares = torch.stack([(predicted == c).float().mean((1, 2)) for c in range(K)], 1)
    classes = shares[:, 1:].argmax(1) + 1 if given is None else given  # 0 is the background
    regions = predicted == classes[:, None, None]
    # A class that is seen nowhere: the map of all pixels says what there is of it.
    regions = torch.where(regions.flatten(1).any(1)[:, None, None], regions, True)
    return classes, shares.gather(1, classes[:, None])[:, 0], regions


def _class_of(name: str, class_names: Sequence[str]) -> int:
    if name not in class_names:
        raise ValueError(f"label: there is no class {name!r}{did_you_mean(name, class_names)}")
    return class_names.index(name)


def _channels(image: Tensor, count: int) -> Tensor:
    """uint8 (3, H, W) -> (count, H, W): grey by brightness."""
    if count == 3:
        return image
    grey = (image.float() * torch.tensor(LUMA)[:, None, None]).sum(0).round().byte()
    return grey.expand(count, -1, -1)


def _shortened(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _save(figure: Figure, file: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(file, dpi=DPI)
