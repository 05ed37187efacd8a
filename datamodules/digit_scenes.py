"""Scenes made of scikit-learn's real digits: for segmentation, detection and, with one main digit, localisation.

Letters: S scenes, K digits in each, canvas of 64x64 pixels. Everything is drawn for all scenes at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.augment import SCENES, generator
from datamodules.dataset import Dataset, Split, Task
from datamodules.digits import CLASSES, digit_splits
from datamodules.registry import register
from pooling.options import Range

CANVAS = 64
INK = 0.5  # a pixel belongs to a digit where at least this share of it is inked
SMALL, LARGE = (14, 24), (32, 40)  # sides of a digit's square, in pixels: least and most
STROKES = 4


@register("digit_scenes", task="segmentation", batch_size=32)
def digit_scenes(
    *,
    task: Task = "segmentation",
    scenes: Annotated[int, Range(least=10, most=100_000)] = 3000,
    digits_per_scene: Annotated[int, Range(least=1, most=6)] = 3,
    main: bool = False,
) -> Dataset:
    """Real digits at random places and scales on a cluttered 64x64 canvas, with class masks and boxes.

    Digits do not overlap. Below them lie a gradient of grey, straight strokes and noise. Training scenes hold digits of
    `digits`' training split only, test scenes those of its test split only (a quarter as many scenes). Always the same.

    Masks: 0 background, 1 + digit elsewhere. Boxes (S, K, 4) hold each digit's mask exactly.

    Args:
        task: `segmentation`: the target is the mask. `detection`: boxes and classes. `classification`: the target is
            the main digit, and `main` is implied. Masks and boxes are there in all.
        scenes: number of training scenes.
        digits_per_scene: number of digits in each scene, the main one included.
        main: the first digit of each scene is about twice as large, and the only one of its class.
    """
    main = main or task == "classification"
    with _one_thread():
        train, test = (
            _scenes(digits, count, digits_per_scene, task, main, stream)
            for stream, (digits, count) in enumerate(zip(digit_splits(), (scenes, max(scenes // 4, 1)), strict=True))
        )
    if task == "classification":
        return Dataset(train, test, CLASSES, task=task)
    return Dataset(train, test, ("background", *CLASSES), task=task)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The steps are short: on a busy machine, threads that wait for each other take ten times as long as one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _scenes(digits: Split, S: int, K: int, task: Task, main: bool, stream: int) -> Split:
    """S scenes of K digits each, drawn from these digits; `stream` selects the random numbers."""
    draw = generator(SCENES, stream)
    chosen = _choose(digits.targets, S, K, main, draw)
    corners, sides = _place(S, K, main, draw)
    contrast = 0.75 + 0.25 * torch.rand(S, K, generator=draw)

    classes = digits.targets[chosen]
    images = torch.zeros(S, 1, CANVAS, CANVAS, dtype=torch.uint8)
    masks = torch.zeros(S, CANVAS, CANVAS, dtype=torch.uint8)
    boxes = torch.zeros(S, K, 4, dtype=torch.int64)
    for part in torch.arange(S).split(32):  # as many as stay in the processor's cache
        canvas = _background(len(part), draw)
        for k in range(K):
            ink = _ink(digits.images[chosen[part, k]], corners[part, k], sides[part, k])
            canvas += ink * (contrast[part, k, None, None] - canvas)
            inked = ink >= INK
            masks[part] += inked * (1 + classes[part, k, None, None]).to(torch.uint8)  # no two digits overlap
            boxes[part, k] = _bounds(inked)
        images[part, 0] = (canvas.clamp(0, 1) * 255).round().to(torch.uint8)
    targets = {
        "classification": classes[:, 0],
        "segmentation": masks,
        "detection": torch.cat((1 + classes[..., None], boxes), -1),
    }
    return Split(images, targets[task], masks, boxes, classes)


def _choose(labels: Tensor, S: int, K: int, main: bool, draw: torch.Generator) -> Tensor:
    """Which digit stands where, (S, K); with a main digit, the first one's class occurs once."""
    chosen = torch.randint(len(labels), (S, K), generator=draw)
    while main:
        same = labels[chosen] == labels[chosen[:, :1]]
        same[:, 0] = False
        if not same.any():
            break
        chosen[same] = torch.randint(len(labels), (int(same.sum()),), generator=draw)
    return chosen


def _place(S: int, K: int, main: bool, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Top left corners (S, K, 2) as (x, y) and sides (S, K) of squares that lie on the canvas and do not overlap.

    One after the other; a square that meets an earlier one is drawn again, smaller with every attempt, down to 0.7 of
    its size. A scene that has no room for it begins anew.
    """
    corners, sides = torch.zeros(S, K, 2), torch.zeros(S, K)
    scenes = torch.arange(S)
    while len(scenes):
        stuck = torch.zeros(S, dtype=torch.bool)
        for k in range(K):
            least, most = LARGE if main and k == 0 else SMALL
            todo = scenes[~stuck[scenes]]
            for attempt in range(60):
                side = (least + (most - least) * torch.rand(len(todo), generator=draw)) * max(0.7, 0.98**attempt)
                corner = torch.rand(len(todo), 2, generator=draw) * (CANVAS - side[:, None])
                sides[todo, k], corners[todo, k] = side, corner
                apart = (corner[:, None] - corners[todo, :k] >= sides[todo, :k, None]) | (
                    corners[todo, :k] - corner[:, None] >= side[:, None, None]
                )
                todo = todo[~apart.any(-1).all(-1)]
            stuck[todo] = True
        scenes = scenes[stuck[scenes]]
    return corners, sides


def _ink(images: Tensor, corners: Tensor, sides: Tensor) -> Tensor:
    """Digits (S, 1, 32, 32), less their margin, on their squares: the inked share of each pixel (S, 64, 64)."""
    glyphs = images[:, :, 4:-4, 4:-4].float() / 255
    centres = torch.arange(CANVAS) + 0.5
    # Where each column (then row) of the canvas lies in its square, from -1 to 1: what grid_sample reads.
    x, y = ((centres - corners[:, axis, None]) / sides[:, None] * 2 - 1 for axis in (0, 1))
    grid = torch.stack((x[:, None, :].expand(-1, CANVAS, -1), y[:, :, None].expand(-1, -1, CANVAS)), -1)
    return F.grid_sample(glyphs, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]


def _background(S: int, draw: torch.Generator) -> Tensor:
    """A gradient of grey in any direction, straight strokes, and noise: (S, 64, 64) in about [0, 0.7]."""
    axis = torch.linspace(-1, 1, CANVAS)
    angle = 2 * torch.pi * torch.rand(S, 1, 1, generator=draw)
    level, slope = (torch.rand(S, 1, 1, generator=draw) for _ in range(2))
    canvas = 0.1 + 0.15 * level + 0.1 * slope * (angle.cos() * axis + angle.sin() * axis[:, None])

    pixel = torch.arange(CANVAS, dtype=torch.float32)
    for _ in range(STROKES):
        x, y = (CANVAS * torch.rand(S, 1, 1, generator=draw) for _ in range(2))
        angle = torch.pi * torch.rand(S, 1, 1, generator=draw)
        half_length, half_width = 4 + 8 * torch.rand(S, 1, 1, generator=draw), 0.5
        shade = 0.3 + 0.4 * torch.rand(S, 1, 1, generator=draw)
        along = angle.cos() * (pixel - x) + angle.sin() * (pixel[:, None] - y)
        across = angle.cos() * (pixel[:, None] - y) - angle.sin() * (pixel - x)
        stroke = (1 + half_width - across.abs()).clamp(0, 1) * (1 + half_length - along.abs()).clamp(0, 1)
        canvas += stroke * (shade - canvas)
    return canvas + 0.03 * torch.randn(S, CANVAS, CANVAS, generator=draw)


def _bounds(inked: Tensor) -> Tensor:
    """Boxes (S, 4) around the true pixels of (S, H, W): left, top, right, bottom, the last two exclusive."""
    columns, rows = inked.any(-2).to(torch.uint8), inked.any(-1).to(torch.uint8)
    # argmax gives the first of equal values.
    left, top = columns.argmax(-1), rows.argmax(-1)
    right, bottom = CANVAS - columns.flip(-1).argmax(-1), CANVAS - rows.flip(-1).argmax(-1)
    return torch.stack((left, top, right, bottom), -1)
