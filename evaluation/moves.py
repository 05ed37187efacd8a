"""Moves of whole batches of images beside those by whole pixels (`datamodules.transforms`): fractions, turns, zooms.

Shapes: images (N, C, H, W), floating; one amount for each image, (N,), on the same device.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def fourier_shift(images: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Circular shift down by `dy` and right by `dx` pixels, which need not be whole, by the phase of the DFT.

    Exact for images that are samples of a periodic band-limited function; `roll` for whole pixels. On an even side the
    highest frequency is ambiguous and takes the real factor cos(pi d). Values may overshoot the images' range a little:
    clipping would lose what makes the shift invertible (Michaeli 2023, section 3).

    Shape: (N, C, H, W), (N,), (N,) -> (N, C, H, W)
    """
    for axis, amount in ((-2, dy), (-1, dx)):
        size = images.shape[axis]
        frequency = _along(torch.fft.rfftfreq(size, dtype=images.dtype, device=images.device), axis)
        phase = torch.exp(-2j * torch.pi * frequency * amount.to(images.dtype)[:, None, None, None])
        images = torch.fft.irfft(torch.fft.rfft(images, dim=axis) * phase, size, dim=axis)
    return images


def fourier_derivative(images: Tensor, axis: int) -> Tensor:
    """d/dt at t = 0 of `fourier_shift` by t pixels along an axis (-2 or -1). Shape: (N, C, H, W) -> (N, C, H, W)"""
    size = images.shape[axis]
    frequency = torch.fft.rfftfreq(size, dtype=images.dtype, device=images.device)
    if size % 2 == 0:
        frequency[-1] = 0  # the derivative of cos(pi t) there
    spectrum = torch.fft.rfft(images, dim=axis) * (-2j * torch.pi * _along(frequency, axis))
    return torch.fft.irfft(spectrum, size, dim=axis)


def turn(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image about its centre, counter-clockwise, bilinearly; what enters is zero.

    Shape: (N, C, H, W), (N,) -> (N, C, H, W)
    """
    cos, sin = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    return _resample(images, cos, -sin, sin, cos)


def zoom(images: Tensor, factor: Tensor) -> Tensor:
    """Enlarge each image about its centre, bilinearly; what enters, where it becomes smaller, is zero.

    Shape: (N, C, H, W), (N,) -> (N, C, H, W)
    """
    zero = torch.zeros_like(factor)
    return _resample(images, 1 / factor, zero, zero, 1 / factor)


def _along(values: Tensor, axis: int) -> Tensor:
    return values[:, None] if axis == -2 else values


def _resample(images: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    """The pixel at (x, y), counted from the centre, is read at (xx x + xy y, yx x + yy y)."""
    H, W = images.shape[-2:]
    zero = torch.zeros_like(xx)
    # affine_grid counts in half sides: on images that are not square a turn mixes the two units.
    rows = (torch.stack((xx, xy * H / W, zero), -1), torch.stack((yx * W / H, yy, zero), -1))
    matrix = torch.stack(rows, 1).to(images.dtype)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
