"""Moves of whole batches of images: one gather each, no loop over images. Training and evaluation share them.

Shapes: `images` is (N, C, H, W), or (N, H, W) for masks, of any dtype, on any device; offsets are int64 tensors (N,) on
the same device, one per image. Dtype and memory format (contiguous or channels_last) are kept.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def crop(images: Tensor, top: Tensor, left: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Cut `size` pixels out of each image at its own corner.

    Shape: (N, C, H, W) -> (N, C, h, w), or (N, H, W) -> (N, h, w), where (h, w) is `size`.
    Args:
        top, left: the corners, in [0, H - h] and [0, W - w]; outside, indexing fails.
    """
    if images.dim() == 3:
        return crop(images[:, None], top, left, size)[:, 0]
    h, w = (size, size) if isinstance(size, int) else size
    # Every possible crop, as a view; picking one per image copies whole rows, six times faster than a gather by pixel.
    crops = images.unfold(2, h, 1).unfold(3, w, 1)
    return crops[torch.arange(len(images), device=images.device), :, top, left]


def roll(images: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Shift each image down by `dy` and right by `dx` pixels; what leaves on one side enters on the other.

    Shape: (N, C, H, W) -> (N, C, H, W), or (N, H, W) -> (N, H, W).
    """
    H, W = images.shape[-2:]
    rows, columns = _positions(images, 2 * H) % H, _positions(images, 2 * W) % W
    return crop(_select(images, rows, columns), -dy % H, -dx % W, (H, W))


def translate(images: Tensor, dy: Tensor, dx: Tensor, fill: float = 0) -> Tensor:
    """Shift each image down by `dy` and right by `dx` pixels; what enters is `fill`.

    Shape: (N, C, H, W) -> (N, C, H, W), or (N, H, W) -> (N, H, W).
    """
    H, W = images.shape[-2:]
    row, column = _positions(images, H) - dy[:, None], _positions(images, W) - dx[:, None]
    inside = ((row >= 0) & (row < H))[:, :, None] & ((column >= 0) & (column < W))[:, None, :]
    if images.dim() == 4:
        inside = inside[:, None]
    return torch.where(inside, roll(images, dy, dx), torch.full((), fill, dtype=images.dtype, device=images.device))


def pad_border(images: Tensor, p: int) -> Tensor:
    """Add `p` pixels on every side, each a copy of the nearest border pixel.

    Shape: (N, C, H, W) -> (N, C, H + 2p, W + 2p), or (N, H, W) -> (N, H + 2p, W + 2p).
    """
    H, W = images.shape[-2:]
    rows, columns = _positions(images, H + 2 * p) - p, _positions(images, W + 2 * p) - p
    return _select(images, rows.clamp(0, H - 1), columns.clamp(0, W - 1))


def flip(images: Tensor, mask: Tensor) -> Tensor:
    """Mirror, left to right, the images that the boolean `mask` (N,) names.

    Shape: (N, C, H, W) -> (N, C, H, W), or (N, H, W) -> (N, H, W).
    """
    return torch.where(mask.view(-1, *[1] * (images.dim() - 1)), images.flip(-1), images)


def normalise(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """(image - mean) / std by channel, in float32. uint8 images count in 255ths, floating ones lie in [0, 1] already.

    Shape: (N, C, H, W), mean (C,), std (C,) -> (N, C, H, W)
    """
    mean, std = (torch.as_tensor(v, dtype=torch.float32, device=images.device).view(-1, 1, 1) for v in (mean, std))
    values = images.float()
    if images.dtype == torch.uint8:
        values = values / 255
    return (values - mean) / std


def _positions(images: Tensor, count: int) -> Tensor:
    return torch.arange(count, device=images.device)


def _select(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same rows and columns of every image, in the memory format that the images have."""
    selected = images.index_select(-2, rows).index_select(-1, columns)
    if images.dim() == 4 and images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous():
        return selected.contiguous(memory_format=torch.channels_last)
    return selected
