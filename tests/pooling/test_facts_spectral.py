"""Facts about the downsamplers that filter linearly: spectra and wavelets."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pooling
from pooling import functional

SPECTRAL = {
    "ideal": lambda x, size: functional.ideal_pool2d(x, 2),
    "flc": functional.flc_pool2d,
    "asap": functional.asap_pool2d,
    "spectral": functional.spectral_pool2d,
}

by_name = pytest.mark.parametrize("name", SPECTRAL)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def random(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 2, height, width, dtype=torch.float64, generator=generator)


def wave(height: int, width: int, k: int, m: int, phase: float = 0.3) -> Tensor:
    """cos(2 pi (k h / H + m w / W) + phase)."""
    rows, columns = torch.arange(height).double() / height, torch.arange(width).double() / width
    return torch.cos(2 * math.pi * (k * rows[:, None] + m * columns) + phase)[None, None]


@by_name
@given(size=sizes, shift=st.tuples(st.integers(0, 8), st.integers(0, 8)), seed=st.integers(0, 9))
def test_a_roll_by_the_stride_rolls_the_output_by_one(name: str, size, shift, seed: int) -> None:
    x, pool = random(2 * size[0], 2 * size[1], seed), SPECTRAL[name]
    rolled = pool(x.roll((2 * shift[0], 2 * shift[1]), (2, 3)), size)
    torch.testing.assert_close(rolled, pool(x, size).roll(shift, (2, 3)))


@by_name
@pytest.mark.parametrize("size", [(6, 5), (5, 6), (7, 4)])
def test_what_lies_above_the_new_nyquist_leaves_nothing(name: str, size: tuple[int, int]) -> None:
    """No alias: plain striding folds the same waves onto low ones."""
    H, W = 2 * size[0], 2 * size[1]
    for k, m in ((size[0] // 2 + 1, 0), (0, size[1] // 2 + 1), (size[0] // 2 + 1, 1), (size[0], size[1])):
        x = wave(H, W, k, m)
        y = SPECTRAL[name](x, size)
        torch.testing.assert_close(y, torch.zeros_like(y))
        assert x[..., ::2, ::2].abs().max() > 0.1


@by_name
@given(size=st.tuples(st.integers(3, 9), st.integers(3, 9)), data=st.data())
def test_a_wave_below_the_new_nyquist_is_that_wave_on_the_new_grid(name: str, size, data) -> None:
    k = data.draw(st.integers(-((size[0] - 1) // 2), (size[0] - 1) // 2))
    m = data.draw(st.integers(-((size[1] - 1) // 2), (size[1] - 1) // 2))
    y, expected = SPECTRAL[name](wave(2 * size[0], 2 * size[1], k, m), size), wave(*size, k, m)
    if name == "asap":
        weights = [0.54 + 0.46 * math.cos(2 * math.pi * f / n) for f, n in zip((k, m), size, strict=True)]
        expected = expected * math.prod(weights)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("name", ["ideal", "flc", "spectral"])
def test_band_limited_images_are_sampled_without_loss(name: str) -> None:
    """Shannon: every shift of a band-limited map, not only by the stride, is the same map between the samples."""
    low = random(5, 7)
    x = functional.spectral_pool2d(low, (10, 14))
    torch.testing.assert_close(SPECTRAL[name](x, (5, 7)), low)
    for shift in range(10):
        y = SPECTRAL[name](x.roll(shift, 2), (5, 7))
        back = functional.spectral_pool2d(y, (10, 14)).roll(-shift, 2)
        torch.testing.assert_close(back, x)


@given(size=sizes, new=sizes)
def test_spectral_pooling_keeps_the_mean(size, new) -> None:
    x = random(*size)
    torch.testing.assert_close(functional.spectral_pool2d(x, new).mean(dim=(2, 3)), x.mean(dim=(2, 3)))


@given(size=sizes, more=st.integers(1, 5))
def test_interpolation_passes_through_the_map_and_cropping_undoes_it(size, more: int) -> None:
    x = random(*size)
    finer = functional.spectral_pool2d(x, (2 * size[0], 3 * size[1]))
    torch.testing.assert_close(finer[..., ::2, ::3], x)
    # An even size's highest frequency is two of the finer map's, of which cropping keeps one.
    odd = x[..., : size[0] - 1 + size[0] % 2, : size[1] - 1 + size[1] % 2]
    finer = functional.spectral_pool2d(odd, (odd.shape[2] + more, odd.shape[3] + more))
    torch.testing.assert_close(functional.spectral_pool2d(finer, odd.shape[2:]), odd)


@given(size=sizes)
def test_of_full_size_nothing_is_cut(size) -> None:
    x = random(*size)
    torch.testing.assert_close(functional.spectral_pool2d(x, size), x)
    torch.testing.assert_close(functional.ideal_pool2d(x, 1), x)
    torch.testing.assert_close(functional.flc_pool2d(x, size), x)


@given(size=sizes, new=sizes)
def test_the_cropped_spectrum_is_that_of_a_real_map(size, new) -> None:
    """Rippel et al. 2015: its values below the highest frequency are those of the input."""
    new = tuple(min(n, m) for n, m in zip(size, new, strict=True))
    x = random(*size)
    y = functional.spectral_pool2d(x, new)
    before, after = torch.fft.fft2(x, norm="forward"), torch.fft.fft2(y, norm="forward")
    kept = [range(-((n - 1) // 2), (n - 1) // 2 + 1) for n in new]
    torch.testing.assert_close(after[:, :, kept[0]][..., kept[1]], before[:, :, kept[0]][..., kept[1]])


def test_spectral_pooling_keeps_more_of_a_map_than_max_pooling() -> None:
    """Of all maps of a band the crop is the nearest (Parseval) (Rippel et al. 2015)."""
    rows = torch.linspace(0, 6, 32, dtype=torch.float64)
    x = (torch.sin(rows)[:, None] * torch.cos(2 * rows) + 0.1 * random(32, 32)[0, 0])[None, None]

    def lost(y: Tensor) -> float:
        return (functional.spectral_pool2d(y, (32, 32)) - x).norm().item()

    assert lost(functional.spectral_pool2d(x, 16)) < 0.7 * lost(functional.max_pool2d(x, 2))


def test_a_module_takes_a_size_of_its_own() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert pooling.create("spectral", size=7)(x).shape == (2, 3, 7, 7)
    assert pooling.create("spectral")(x).shape == (2, 3, 4, 4)


# Wavelets


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@given(size=st.tuples(st.integers(2, 5), st.integers(2, 5)))
def test_orthonormal_wavelets_keep_the_length_of_what_they_span(wavelet: str, size) -> None:
    """The band as a matrix has orthonormal rows: A A^T = 1."""
    H, W = 2 * size[0], 2 * size[1]
    units = torch.eye(H * W, dtype=torch.float64).view(-1, 1, H, W)
    arguments = {"wavelet": wavelet, "normalize": False, "padding_mode": "circular", "native": "conv"}
    pool = pooling.create("wavelet", **arguments)
    A = pool(units).flatten(1).T
    torch.testing.assert_close(A @ A.T, torch.eye(len(A), dtype=torch.float64))


def test_cdf22_is_orthogonal_to_the_shifts_of_its_synthesis_filter() -> None:
    """Biorthogonal (Cohen, Daubechies & Feauveau 1992): with (1, 2, 1) it gives 1, with its shifts by 2, 4, ... 0."""
    row = functional.wavelet_row("cdf22")
    synthesis = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 8**0.5
    padded = torch.nn.functional.pad(row, (4, 4))
    products = [(padded[shift + 5 : shift + 8] @ synthesis).item() for shift in (-4, -2, 0, 2, 4)]
    assert products == pytest.approx([0, 0, 1, 0, 0], abs=1e-12)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "cdf22"])
def test_wavelet_filters_have_the_published_sums(wavelet: str) -> None:
    row = functional.wavelet_row(wavelet)
    assert row.sum().item() == pytest.approx(2**0.5)
    # A zero at the Nyquist frequency, of second order for the two with two vanishing moments.
    signs = (-1.0) ** torch.arange(len(row)).double()
    assert (row @ signs).item() == pytest.approx(0, abs=1e-15)
    if wavelet != "haar":
        assert (row @ (signs * torch.arange(len(row)))).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "cdf22"])
def test_normalised_wavelets_keep_constants_and_the_transform_doubles_them(wavelet: str) -> None:
    x = torch.full((1, 2, 6, 8), 1.5)
    for normalize, factor in ((True, 1.0), (False, 2.0)):
        y = pooling.create("wavelet", wavelet=wavelet, normalize=normalize)(x)
        torch.testing.assert_close(y, torch.full_like(y, 1.5 * factor))


def test_haar_at_a_convolution_site_is_2x2_average_pooling() -> None:
    x = torch.randn(2, 3, 8, 6)
    torch.testing.assert_close(pooling.create("wavelet", native="conv")(x), functional.avg_pool2d(x, 2))
