"""The fused max and blur: against the two operators that it is made of, and against the definition."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pooling
from pooling import functional, reference
from pooling.geometry import Window
from pooling.kernels import native
from pooling.operators.base import Downsampler2d
from tests.pooling.kernels.test_fuzz import DTYPES, EXAMPLES, FUZZ, inputs

SOME = settings(FUZZ, max_examples=max(50, EXAMPLES // 4))
MODES = ["reflect", "zeros", "circular"]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@st.composite
def sites(draw):
    """A blur at a max site; the usual 2x2 and 3x3 windows with a filter of 3 as often as all others."""
    pairs = lambda most: st.tuples(st.integers(1, most), st.integers(1, most))  # noqa: E731
    usual = draw(st.booleans())
    size = draw(st.sampled_from([(2, 2), (3, 3)]) if usual else pairs(5))
    return pooling.create(
        "blur",
        channels=1,
        kernel_size=size,
        stride=draw(pairs(4)),
        padding=tuple(draw(st.integers(0, k // 2)) for k in size),
        dilation=draw(pairs(2)),
        ceil_mode=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "circular"])),
        filter=3 if usual else draw(st.integers(2, 7)),
        pad_mode=draw(st.sampled_from(MODES)),
    )


def fits(site, x):
    try:
        site.window.output_size(*x.shape[2:])
    except ValueError:
        assume(False)


@SOME
@given(data=st.data())
def test_it_is_the_max_and_then_the_blur(data):
    site, x = (
        data.draw(sites()),
        data.draw(inputs(data.draw(st.sampled_from(DTYPES)), ["normal", "ties", "nan", "inf", "-inf"])),
    )
    fits(site, x)
    found = []
    with pooling.backend("native"):
        for whole in (site, lambda x: Downsampler2d.forward(site, x)):
            leaf = x.detach().requires_grad_()
            y = whole(leaf)
            gradient = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view(y.shape).to(x.dtype)
            found.append((y.detach(), *torch.autograd.grad(y, leaf, gradient)))
    assert found[0][0].is_contiguous(memory_format=functional.memory_format(x))
    tolerance = TOLERANCE[x.dtype]
    torch.testing.assert_close(*found, rtol=tolerance, atol=4 * tolerance, equal_nan=True)


@SOME
@given(data=st.data())
def test_it_agrees_with_the_definition(data):
    x = data.draw(inputs(data.draw(st.sampled_from(DTYPES)), ["normal", "negative"]))
    size = data.draw(st.sampled_from([2, 3, 4]))
    window = Window((size, size), data.draw(st.sampled_from([(1, 1), (2, 2), (2, 3)])), (size // 2, size // 2))
    length, mode = data.draw(st.integers(2, 5)), data.draw(st.sampled_from(MODES))
    with pooling.backend("native"):
        y = functional.max_blur_pool2d(x, window, filter=length, pad_mode=mode).double().numpy()
    dense = reference.max_pool2d(x.double().numpy(), window.dense())
    expected = reference.blur_pool2d(dense, window.stride, filter=length, pad_mode=mode)
    eps = torch.finfo(x.dtype).eps
    np.testing.assert_allclose(y, expected[..., : y.shape[2], : y.shape[3]], rtol=4 * eps, atol=16 * max(eps, 2.0**-50))


def arguments(site, x):
    """What the operators take for a site whose padding is zeros."""
    x, window, more, size = site.framed_dense(x)
    rows, columns = (
        n + 2 * p - e + 1 + m for n, p, e, m in zip(x.shape[2:], window.padding, window.extent, more, strict=True)
    )
    numbers = [*window.kernel_size, *window.padding, *window.dilation, rows, columns, *window.stride]
    numbers += [(len(site.row) - 1) // 2, *size, native.BORDERS[site.pad_mode]]
    return x, site.row.to(torch.float64 if x.dtype == torch.float64 else torch.float32), numbers


@SOME
@given(data=st.data())
def test_the_drivers_agree(driver, data):
    site, x = (
        data.draw(sites()),
        data.draw(inputs(data.draw(st.sampled_from(DTYPES)), ["normal", "ties", "nan", "inf"])),
    )
    fits(site, x)
    x, row, numbers = arguments(site, x)
    y = torch.ops.poolzoo.max_blur(x, row, numbers)
    gradient = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view(y.shape).to(x.dtype)
    close = {"rtol": TOLERANCE[x.dtype], "atol": 4 * TOLERANCE[x.dtype], "equal_nan": True}
    torch.testing.assert_close(driver("max_blur", x, row, numbers), y, **close)
    dx = torch.ops.poolzoo.max_blur_backward(gradient, x, row, numbers)
    torch.testing.assert_close(driver("max_blur_backward", gradient, x, row, numbers), dx, **close)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_number_of_threads_changes_nothing(layout):
    x, window = (
        torch.randn(3, 20, 33, 47).contiguous(memory_format=layout).requires_grad_(),
        Window((3, 3), (2, 2), (1, 1)),
    )
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with pooling.backend("native"):
                y = functional.max_blur_pool2d(x, window, pad_mode="circular")
            found.append((y, *torch.autograd.grad(y.square().sum(), x)))
    finally:
        torch.set_num_threads(threads)
    for again in found[1:]:
        torch.testing.assert_close(again, found[0], rtol=0, atol=0)


def test_the_derivatives_are_those_of_its_values():
    x, window = torch.randn(1, 2, 6, 7, dtype=torch.float64, requires_grad=True), Window((2, 3), (2, 1), (1, 1))
    with pooling.backend("native"):
        assert torch.autograd.gradcheck(lambda x: functional.max_blur_pool2d(x, window), x)
        assert torch.autograd.gradgradcheck(lambda x: functional.max_blur_pool2d(x, window), x)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(layout):
    x = torch.randn(2, 3, 5, 7).contiguous(memory_format=layout)
    x, row, numbers = arguments(pooling.create("blur", channels=3, kernel_size=3, stride=2, padding=1), x)
    y = torch.ops.poolzoo.max_blur(x, row, numbers)
    torch.library.opcheck(torch.ops.poolzoo.max_blur.default, (x.requires_grad_(), row, numbers))
    torch.library.opcheck(torch.ops.poolzoo.max_blur_backward.default, (y, x.detach(), row, numbers))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_maximum_of_no_member_is_minus_infinity_and_has_no_gradient(layout):
    """Sites refuse such windows; the operator is not told by them alone."""
    x, row = torch.randn(2, 32, 2, 2).contiguous(memory_format=layout), torch.ones(1)
    numbers = [2, 2, 1, 1, 3, 3, 1, 1, 1, 1, 0, 1, 1, native.BORDERS["edge"]]  # one position, all around x
    y = torch.ops.poolzoo.max_blur(x, row, numbers)
    assert torch.all(y == -torch.inf)
    assert not torch.ops.poolzoo.max_blur_backward(torch.ones_like(y), x, row, numbers).any()
