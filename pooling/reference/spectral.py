"""Downsampling in the frequency domain. Maps are periodic; spectra are those of `np.fft`, scaled so that frequency 0 is
the mean."""

import numpy as np

from pooling.reference.windows import Array


def frequencies(length: int) -> list[int]:
    """The centred band of an axis: -n/2 .. n/2 - 1 for an even length, -(n-1)/2 .. (n-1)/2 for an odd one.

    >>> frequencies(4), frequencies(3)
    ([-2, -1, 0, 1], [-1, 0, 1])
    """
    return list(range(-(length // 2), (length + 1) // 2))


def ideal_pool2d(x: Array, stride: tuple[int, int]) -> Array:
    """Remove every frequency with |k| >= H / (2 stride) along an axis (none at stride 1), then take every stride-th.

    >>> ideal_pool2d(x, (2, 2))[0, 0]  # of 4 frequencies, 0 alone is below 1: the mean
    array([[3.75, 3.75],
           [3.75, 3.75]])
    """
    spectrum = np.fft.fft2(x)
    for axis, step in enumerate(stride, start=2):
        length = x.shape[axis]
        for k in range(length):
            if step > 1 and 2 * step * min(k, length - k) >= length:
                np.moveaxis(spectrum, axis, 0)[k] = 0
    return np.fft.ifft2(spectrum).real[:, :, :: stride[0], :: stride[1]]


def flc_pool2d(x: Array, size: tuple[int, int]) -> Array:
    """The spectrum cropped to the centred band of the new size; the real part of its inverse.

    >>> flc_pool2d(x, (2, 2))[0, 0]
    array([[3.5  , 3.625],
           [4.75 , 3.125]])
    """
    return _cropped(x, size, [np.ones(n) for n in size])


def asap_pool2d(x: Array, size: tuple[int, int]) -> Array:
    """`flc_pool2d` with the cropped spectrum under a Hamming window, 0.54 + 0.46 cos(2 pi k / n) along each axis.

    >>> asap_pool2d(x, (2, 2))[0, 0]
    array([[3.7622, 3.7078],
           [3.7978, 3.7322]])
    """
    return _cropped(x, size, [0.54 + 0.46 * np.cos(2 * np.pi * np.array(frequencies(n)) / n) for n in size])


def _cropped(x: Array, size: tuple[int, int], weights: list[Array]) -> Array:
    spectrum = np.fft.fft2(x, norm="forward")[:, :, frequencies(size[0])][:, :, :, frequencies(size[1])]
    spectrum = spectrum * np.outer(*weights)
    return np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(2, 3)), norm="forward").real


def spectral_pool2d(x: Array, size: tuple[int, int]) -> Array:
    """The spectrum cropped to the new size or, where that is larger, filled up with zeros.

    Where the smaller of the two sizes is even, n/2 and -n/2 are one frequency of it and two of the larger: cropping
    takes their mean, filling up gives each one half. So the spectrum of a real map stays one, and y is real.

    >>> spectral_pool2d(x, (2, 2))[0, 0]
    array([[3.625, 3.5  ],
           [4.625, 3.25 ]])
    """
    spectrum = np.fft.fft2(x, norm="forward")
    for axis, size_ in zip((2, 3), size, strict=True):
        spectrum = np.moveaxis(spectrum, axis, 0)
        n = min(len(spectrum), size_)
        resized = np.zeros((size_, *spectrum.shape[1:]), dtype=complex)
        for k in range(-(n // 2), n // 2 + 1):
            resized[k % size_] += spectrum[k % len(spectrum)] * (0.5 if 2 * abs(k) == n else 1.0)
        spectrum = np.moveaxis(resized, 0, axis)
    y = np.fft.ifft2(spectrum, norm="forward")
    assert np.allclose(y.imag, 0)
    return y.real
