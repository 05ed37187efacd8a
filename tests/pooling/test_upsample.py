"""Facts about upsampling partners and context: what goes down comes back where it was."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

import pooling
from pooling import functional
from tests.pooling.cases import Geometry, geometries


def image(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def site(geometry: Geometry) -> dict:
    return dict(zip(("kernel_size", "stride", "padding"), geometry.arguments, strict=False))


def up(name: str, **arguments) -> nn.Module:
    return pooling.create(name, kind="upsample", **{"channels": 3} | arguments).double()


# max_unpool


@given(geometry=geometries(dilations=1, ceil_modes=(False,)))
def test_max_unpool_restores_the_maxima_at_their_places_and_zeros_elsewhere(geometry: Geometry) -> None:
    x = image(2, 3, geometry.height, geometry.width)
    y, indices = pooling.create("max", return_indices=True, **site(geometry))(x)
    restored = up("max_unpool", **site(geometry))(y, indices, size=x.shape[-2:])
    is_maximum = torch.zeros(x.shape, dtype=torch.bool).flatten(2).scatter(2, indices.flatten(2), True).view(x.shape)
    assert torch.equal(restored, torch.where(is_maximum, x, 0.0))


@given(geometry=geometries(dilations=1, ceil_modes=(False,)))
def test_max_unpool_equals_torch_s_byte_for_byte(geometry: Geometry) -> None:
    # torch takes non-overlapping windows alone to be invertible, and refuses sizes further from its own than a stride.
    kernel, stride, padding = geometry.window.kernel_size, geometry.window.stride, geometry.window.padding
    x = torch.randn(2, 3, geometry.height, geometry.width, requires_grad=True)
    y, indices = F.max_pool2d(x, kernel, stride, padding, return_indices=True)
    module = pooling.create("max_unpool", kind="upsample", **site(geometry))
    own = module.window_size(*y.shape[-2:])
    assume(all(abs(a - b) < s for a, b, s in zip(own, x.shape[-2:], stride, strict=True)))
    theirs = F.max_unpool2d(y, indices, kernel, stride, padding, output_size=list(x.shape))
    ours = module(y, indices, size=x.shape[-2:])
    assert torch.equal(ours, theirs)
    slopes = [
        torch.autograd.grad((z * torch.arange(z.numel()).view_as(z)).sum(), x, retain_graph=True)[0]
        for z in (ours, theirs)
    ]
    assert torch.equal(*slopes)
    if own == x.shape[-2:]:
        assert torch.equal(module(y, indices), F.max_unpool2d(y, indices, kernel, stride, padding))


def test_the_maxima_of_what_was_put_back_are_those_that_were_taken() -> None:
    x = image(2, 3, 6, 8).abs()
    y, indices = functional.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(functional.max_pool2d(up("max_unpool")(y, indices), 2), y)


def test_indices_around_a_circle_are_put_back_too() -> None:
    x = image(1, 3, 6, 6)
    pool = pooling.create("max", kernel_size=3, stride=2, padding=1, padding_mode="circular", return_indices=True)
    restored = up("max_unpool", kernel_size=3, stride=2, padding=1)(*pool(x), size=(6, 6))
    assert ((restored == x) | (restored == 0)).all()
    assert torch.equal(restored.amax(dim=(2, 3)), x.amax(dim=(2, 3)))


# Polyphase


def test_the_grids_put_back_one_by_one_are_the_image() -> None:
    x = image(2, 3, 6, 9)
    grids = [functional.polyphase_pool2d(x, (2, 3), phase=torch.full((2,), k)) for k in range(6)]
    back = [functional.polyphase_unpool2d(y, phase, (2, 3)) for y, phase in grids]
    assert torch.equal(sum(back), x)
    weights = torch.rand(2, 6, dtype=torch.float64)
    shared = functional.polyphase_unpool2d(x, weights, (2, 3), (11, 26))
    for k in range(6):
        i, j = divmod(k, 3)
        part = shared[:, :, i::2, j::3]
        assert torch.equal(part, (weights[:, k, None, None, None] * x)[..., : part.shape[2], : part.shape[3]])


@pytest.mark.parametrize("options", [{}, {"filter": 3}, {"norm": 1}])
@given(shift=st.tuples(st.integers(-6, 6), st.integers(-6, 6)))
def test_down_and_up_again_shifts_with_the_image(options: dict, shift: tuple[int, int]) -> None:
    """Chaman & Dokmanic 2021b, theorem 1: exact, whatever stands between them shifts too."""
    down = pooling.create("aps", padding_mode="circular", native="conv", stride=2, **options)
    back = up("aps_up", stride=2)

    def through(x: Tensor) -> Tensor:
        y, phase = down(x, return_phase=True)
        return back(y**2, phase, size=x.shape[-2:])

    x = image(3, 3, 6, 8)
    torch.testing.assert_close(through(x.roll(shift, (2, 3))), through(x).roll(shift, (2, 3)), rtol=1e-12, atol=1e-12)


def test_max_and_back_does_not_shift_with_the_image() -> None:
    x = image(1, 1, 8, 8)

    def through(x: Tensor) -> Tensor:
        return up("max_unpool", channels=1)(*functional.max_pool2d(x, 2, return_indices=True))

    assert not torch.equal(through(x.roll(1, 3)), through(x).roll(1, 3))


# Interpolation and transposed convolution


@given(stride=st.tuples(*2 * [st.integers(1, 4)]))
def test_nearest_repeats_and_subsampling_undoes_it(stride: tuple[int, int]) -> None:
    x = image(2, 3, 3, 4)
    y = up("nearest", stride=stride)(x)
    assert torch.equal(y, x.repeat_interleave(stride[0], 2).repeat_interleave(stride[1], 3))
    assert torch.equal(pooling.create("subsample", stride=stride, native="conv")(y), x)


def test_bilinear_keeps_a_slope_between_the_centres() -> None:
    ramp = torch.arange(6.0).double().view(1, 1, 1, 6).expand(1, 3, 4, 6)
    y = up("bilinear", stride=4)(ramp)
    torch.testing.assert_close(y[0, 0, 5, 2:-2].diff(), torch.full((19,), 0.25, dtype=torch.float64))


@given(geometry=geometries(ceil_modes=(False,)))
def test_a_transposed_convolution_is_the_adjoint_of_the_strided_one(geometry: Geometry) -> None:
    kernel, stride, padding, dilation, _ = geometry.arguments
    x, strided = (
        image(1, 3, geometry.height, geometry.width),
        nn.Conv2d(3, 3, kernel, stride, padding, dilation, bias=False),
    )
    y = strided.double()(x)
    back = up("transposed_conv", dilation=dilation, **site(geometry))
    assume(min(back.window_size(*y.shape[-2:])) > 0)
    with torch.no_grad():
        back.conv.weight.copy_(strided.weight)
        back.conv.bias.zero_()
    size = back.window_size(*y.shape[-2:])
    z = image(*y.shape)
    torch.testing.assert_close(
        (strided(x[..., : size[0], : size[1]]) * z).sum(), (x[..., : size[0], : size[1]] * back(z)).sum()
    )


# Mistakes


def test_a_partner_without_what_its_pool_chose_is_told_what_to_pass() -> None:
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(
        ValueError, match="max_unpool: needs the indices that pooling 'max' gives with return_indices=True"
    ):
        up("max_unpool")(x)
    with pytest.raises(ValueError, match="aps_up: needs the phase that pooling 'aps' gives with return_phase=True"):
        up("aps_up")(x)
    with pytest.raises(ValueError, match="nearest: takes nothing beside the map"):
        up("nearest")(x, torch.zeros(1))
    with pytest.raises(ValueError, match=r"max_unpool: indices must be int64 of the input's shape \(1, 3, 4, 4\)"):
        up("max_unpool")(x, torch.zeros(1, 3, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"phase must have shape \(1,\), or \(1, 4\) for shares, got \(2,\)"):
        up("aps_up")(x, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"nearest: size must be two positive numbers, got \(0, 4\)"):
        up("nearest")(x, size=(0, 4))


# Context


@pytest.mark.parametrize("name", ["ppm", "aspp"])
def test_context_takes_a_batch_of_one_image_in_training(name: str) -> None:
    operator = pooling.create(name, kind="context", channels=4).train()
    assert operator(torch.rand(1, 4, 5, 5)).shape == (1, 4, 5, 5)


def test_aspp_around_a_circle_shifts_with_the_map() -> None:
    context = pooling.create("aspp", kind="context", channels=3, rates=(2, 9), padding_mode="circular").double().eval()
    x = image(1, 3, 6, 5)
    torch.testing.assert_close(context(x.roll((2, 3), (2, 3))), context(x).roll((2, 3), (2, 3)))


@pytest.mark.parametrize("name", ["ppm", "aspp"])
def test_dropout_is_of_training_alone(name: str) -> None:
    context = pooling.create(name, kind="context", channels=8, dropout=0.5)
    x = torch.rand(2, 8, 6, 6)
    assert not torch.equal(context(x), context(x))
    context.eval()
    assert torch.equal(context(x), context(x))
