"""The zoo as a table, and one network's sites as a table and a picture. Nothing here needs memory for weights."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evaluation.efficiency import flops, parameters
from models.placement import Site, placed, sites
from models.registry import create, info, names
from pooling.geometry import pair
from pooling.operators.base import GlobalPool2d, Pool2d

COLUMNS = ("name", "size", "params", "FLOPs", "sites", "native operators", "paper")


@dataclass(frozen=True)
class Row:
    """A backbone at its usual image size, for 3 channels and its data's classes: ImageNet's 1000, VOC's 21, or 10."""

    name: str
    image_size: int
    parameters: int
    flops: int
    sites: int
    native: str
    paper: str

    def cells(self) -> list[str]:
        """As the tables print it, in the order of `COLUMNS`."""
        counts = [f"{self.parameters / 1e6:.2f} M", f"{self.flops / 1e9:.3g} G", str(self.sites)]
        return [self.name, str(self.image_size), *counts, self.native, self.paper]


def rows(chosen: Iterable[str] | None = None) -> list[Row]:
    """What there is to know of each backbone, or of the chosen ones."""
    return [_row(name) for name in chosen or names()]


def _row(name: str) -> Row:
    backbone = info(name)
    with torch.device("meta"):
        classes = 21 if backbone.task == "segmentation" else 1000 if backbone.image_size > 64 else 10
        net = create(name, num_classes=classes)
        image = torch.empty(1, 3, backbone.image_size, backbone.image_size)
    leading = [site for site in sites(net) if site.follows is None]
    return Row(
        name,
        backbone.image_size,
        parameters(net),
        flops(net, image),
        len(leading),
        ", ".join([*_grouped(leading), *(m.operator for m in net.modules() if isinstance(m, GlobalPool2d))]),
        backbone.paper,
    )


def _grouped(leading: list[Site]) -> Iterable[str]:
    for words, group in groupby(leading, native):
        count = len(list(group))
        yield words if count == 1 else f"{count} {words}"


def native(site: Site) -> str:
    """A site's own operator in words: `max 3x3/2`."""
    kernel, stride = pair(site.kernel_size), pair(site.stride)
    return f"{site.native} {kernel[0]}x{kernel[1]}/{stride[0]}"


def markdown(table: Iterable[Row]) -> str:
    """The page docs/models.md."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * 4 + "---|" * 2]
    lines += ["| " + " | ".join([f"`{row.name}`", *row.cells()[1:]]) + " |" for row in table]
    return PAGE.format(table="\n".join(lines))


PAGE = """# The zoo

Made by `python -m models --markdown > docs/models.md`; `python -m models NAME` lists the sites of one network.

Parameters and FLOPs are for images of 3 channels and the size given, and for 1000 classes (10 for small images, 21 for
segmentation); a multiply-add is two FLOPs, and a detector's are those of its features. A site is a place where
resolution drops: `max 3x3/2` is a max pool of 3x3 with stride 2, `conv` a strided convolution. The last of the native
operators is the head.

{table}
"""


@dataclass(frozen=True)
class Step:
    """The map after a layer: (H, W), and the site where it is one."""

    layer: str
    resolution: tuple[int, int]
    site: Site | None


def steps(net: nn.Module, shape: tuple[int, int, int, int]) -> list[Step]:
    """The maps along a network on the meta device, in the order in which it runs."""
    found = [Step("image", (shape[2], shape[3]), None)]
    at = {module: module.site for module in placed(net).values()}

    def remember(name: str, site: Any) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            y = output[0] if isinstance(output, tuple) else output  # a polyphase operator may give its phase too
            if site is not None or y.shape[-2:] != (1, 1):  # squeeze-and-excitation is beside the path
                found.append(Step(name, (y.shape[-2], y.shape[-1]), site))

        return hook

    inner: set[nn.Module] = set()
    for name, module in net.named_modules():
        if module in at:  # a site may be several modules; it is one step
            inner.update(module.modules())
        if module in at or (module not in inner and isinstance(module, nn.Conv2d | nn.ConvTranspose2d | Pool2d)):
            module.register_forward_hook(remember(name, at.get(module)))
    net.eval()(torch.empty(shape, device="meta"))
    return found


def plot(title: str, path: list[Step], file: Path) -> None:
    """Draw the side of the map along the network, each site marked with what stands there."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    sides = [step.resolution[0] for step in path]
    axes.plot(sides, drawstyle="steps-mid", color="0.35", linewidth=1.5)
    marks: dict[str, list[int]] = {}
    for x, step in enumerate(path):
        if step.site is not None and step.site.follows is None:
            native = step.site.operator == "native"
            marks.setdefault(f"{step.site.native} (native)" if native else step.site.operator, []).append(x)
            place = {"xytext": (6, 4), "textcoords": "offset points", "rotation": 20, "fontsize": 8}
            axes.annotate(step.site.name, (x, sides[x]), **place)  # pyright: ignore[reportArgumentType]
    for operator, at in marks.items():
        axes.plot(at, [sides[x] for x in at], "o", label=operator)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set(
        title=title,
        xlabel="convolutions and pools, in the order in which they run",
        ylabel="side of the feature map, pixels",
    )
    axes.margins(x=0.03, y=0.15)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if marks:
        axes.legend(title="at the site", frameon=False)
    figure.savefig(file, dpi=120)
    plt.close(figure)
