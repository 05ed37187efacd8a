"""The region pools in NumPy float64, as plain loops. x (N, C, H, W), boxes (K, 5): image, left, top, right, bottom."""

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray


def rounded(value: float) -> int:
    """To the nearest whole number, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def cut(low: float, high: float, most: int) -> slice:
    return slice(min(max(math.floor(low), 0), most), min(max(math.ceil(high), 0), most))


def roi_pool(x: Array, boxes: Array, size: tuple[int, int], spatial_scale: float) -> Array:
    """Fast R-CNN, section 2.1: the box on whole positions, ends included, divided into h x w cells, their largest."""
    (h, w), (H, W) = size, x.shape[2:]
    out = np.zeros((len(boxes), x.shape[1], h, w))
    for k, (image, *corners) in enumerate(boxes):
        left, top, right, bottom = (rounded(c * spatial_scale) for c in corners)
        height, width = max(bottom - top + 1, 1), max(right - left + 1, 1)
        for i in range(h):
            for j in range(w):
                rows = cut(top + i * height / h, top + (i + 1) * height / h, H)
                columns = cut(left + j * width / w, left + (j + 1) * width / w, W)
                cell = x[int(image), :, rows, columns]
                if cell[0].size:
                    out[k, :, i, j] = cell.max(axis=(1, 2))
    return out


def bilinear(x: Array, y_at: float, x_at: float) -> Array:
    """(C, H, W) at a point: the border goes on for one pixel, beyond that there is 0."""
    H, W = x.shape[1:]
    if not (-1 <= y_at <= H and -1 <= x_at <= W):
        return np.zeros(len(x))
    total = np.zeros(len(x))
    y_at, x_at = min(max(y_at, 0), H - 1), min(max(x_at, 0), W - 1)
    for row in {math.floor(y_at), math.ceil(y_at)}:
        for column in {math.floor(x_at), math.ceil(x_at)}:
            total += (1 - abs(y_at - row)) * (1 - abs(x_at - column)) * x[:, row, column]
    return total


def roi_align(
    x: Array, boxes: Array, size: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Array:
    """Mask R-CNN, section 3: the mean of regularly spaced samples in each of h x w cells."""
    h, w = size
    out = np.zeros((len(boxes), x.shape[1], h, w))
    for k, (image, *corners) in enumerate(boxes):
        left, top, right, bottom = (c * spatial_scale - (0.5 if aligned else 0) for c in corners)
        height, width = bottom - top, right - left
        if not aligned:
            height, width = max(height, 1), max(width, 1)
        count_y = sampling_ratio or math.ceil(height / h)
        count_x = sampling_ratio or math.ceil(width / w)
        for i in range(h):
            for j in range(w):
                samples = [
                    bilinear(
                        x[int(image)],
                        top + (i + (a + 0.5) / count_y) * height / h,
                        left + (j + (b + 0.5) / count_x) * width / w,
                    )
                    for a in range(count_y)
                    for b in range(count_x)
                ]
                out[k, :, i, j] = np.mean(samples, axis=0) if samples else 0
    return out


def own_channels(maps: Array, h: int, w: int) -> Array:
    """(K, C h w, h, w) -> (K, C, h, w): position (i, j) of channel c from channel (c h + i) w + j."""
    K, C = len(maps), maps.shape[1] // (h * w)
    out = np.zeros((K, C, h, w))
    for c, i, j in np.ndindex(C, h, w):
        out[:, c, i, j] = maps[:, (c * h + i) * w + j, i, j]
    return out


def ps_roi_align(x: Array, boxes: Array, size: tuple[int, int], spatial_scale: float, sampling_ratio: int) -> Array:
    return own_channels(roi_align(x, boxes, size, spatial_scale, sampling_ratio, aligned=True), *size)


def ps_roi_pool(x: Array, boxes: Array, size: tuple[int, int], spatial_scale: float) -> Array:
    """R-FCN, section 3: the mean of each cell of the box from its rounded left to its rounded right, excluded.

    torchvision reads no cell from the map's last row and column; the paper does not say so.
    """
    (h, w), (H, W) = size, x.shape[2:]
    out = np.zeros((len(boxes), x.shape[1], h, w))
    for k, (image, *corners) in enumerate(boxes):
        left, top, right, bottom = (rounded(c * spatial_scale) for c in corners)
        height, width = max(bottom - top, 1), max(right - left, 1)
        for i in range(h):
            for j in range(w):
                rows = cut(top + i * height / h, top + (i + 1) * height / h, H - 1)
                columns = cut(left + j * width / w, left + (j + 1) * width / w, W - 1)
                cell = x[int(image), :, rows, columns]
                if cell[0].size:
                    out[k, :, i, j] = cell.mean(axis=(1, 2))
    return own_channels(out, h, w)


DEFINITIONS: dict[str, Callable[..., Array]] = {
    "roi_pool": roi_pool,
    "roi_align": roi_align,
    "ps_roi_pool": ps_roi_pool,
    "ps_roi_align": ps_roi_align,
}
