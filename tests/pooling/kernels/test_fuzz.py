"""Generated geometries, dtypes, layouts and values: the compiled operators against the definitions.

POOLZOO_FUZZ sets the number of cases: 10,000 is what a release is checked with, the default suits a test run.
"""

import itertools
import os
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import pooling
from pooling import functional, reference
from pooling.geometry import Window
from tests.pooling.kernels.operators import CASES, DRAWN

EXAMPLES = int(os.environ.get("POOLZOO_FUZZ", "400"))
FUZZ = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@st.composite
def windows(draw):
    pairs = lambda least, most: st.tuples(st.integers(least, most), st.integers(least, most))  # noqa: E731
    size = draw(st.sampled_from([(2, 2), (3, 3)]) | pairs(1, 5))  # those squares have code of their own
    padding = tuple(draw(st.integers(0, k // 2)) for k in size)
    return Window(size, draw(pairs(1, 5)), padding, draw(pairs(1, 3)), draw(st.booleans()))


@st.composite
def inputs(draw, dtype, kinds):
    many_channels = draw(st.booleans())
    side = st.integers(1, 8 if many_channels else 40)
    N, H, W = draw(st.integers(0, 2)), draw(side), draw(side)
    C = draw(st.sampled_from([17, 64, 130] if many_channels else [1, 2, 3]))
    kind = draw(st.sampled_from(kinds))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = generator.standard_normal((N, C, H, W))
    if kind == "ties":
        x = np.round(x * 2)
    elif kind == "negative":
        x = -np.abs(x)
    elif kind == "denormal":
        x = x * (2.0**-1060 if dtype == torch.float64 else 2.0**-20 if dtype == torch.float16 else 2.0**-140)
    elif kind in ("nan", "inf", "-inf"):
        x = np.where(generator.random(x.shape) < 0.05, float(kind), x)
    layout = draw(st.sampled_from(["NCHW", "NHWC", "gaps", "transposed"]))
    x = torch.from_numpy(x).to(dtype)
    if layout == "NHWC":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "gaps":
        x = torch.stack([x, x + 1], dim=-1).flatten(-2)[..., ::2]
    elif layout == "transposed":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    return x


def rounding(x, window, dtype, least, expected):
    """How far results may lie from the definition: a few units in the last place of a window's largest magnitude.

    Or of the result's own: beside infinities, log mean e^x of small members is the logarithm of their share.
    """
    finite = [np.abs(np.nan_to_num(v, nan=0, posinf=0, neginf=0)) for v in (x, expected)]
    scale = np.maximum(np.maximum(reference.max_pool2d(finite[0], window), finite[1]), least)
    working = torch.float64 if dtype == torch.float64 else torch.float32
    taps = window.kernel_size[0] * window.kernel_size[1]
    places = (8 + 2 * taps) * torch.finfo(working).eps + 2 * torch.finfo(dtype).eps
    return 4 * places * scale + 8 * torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps


def compare(case, x, window):
    try:
        window.output_size(*x.shape[2:])
    except ValueError:
        assume(False)
    with pooling.backend("native"):
        y = case.call(x, window)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # In extended precision where there is one: a power of a denormal float64 is no float64.
        wide = x.double().numpy().astype(np.longdouble)
        expected = case.define(wide, window)
        bound = 0.0 if case.exact else rounding(wide, window, x.dtype, case.least, expected)
    assert y.dtype == x.dtype
    assert y.shape == expected.shape
    found = y.double().numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    finite = np.isfinite(found) & np.isfinite(expected)
    near = np.abs(np.where(finite, found, 0) - np.where(finite, expected, 0)) <= bound
    wrong = ~np.isnan(expected) & (found != expected) & ~(finite & near)
    assert not wrong.any(), f"{case.name}: {found[wrong][:3]}, defined as {expected[wrong][:3]}"


@FUZZ
@given(st.data())
def test_fixed_operators_agree_with_their_definitions(data):
    case = data.draw(st.sampled_from(CASES), label="operator")
    dtype = data.draw(st.sampled_from(DTYPES))
    kinds = ["normal", "ties", "negative", "denormal", "nan", "inf", "-inf"]
    compare(case, data.draw(inputs(dtype, kinds)), data.draw(windows()))


@FUZZ
@given(st.data())
def test_drawn_operators_agree_with_their_definitions_given_the_same_uniforms(data):
    case = data.draw(st.sampled_from(DRAWN), label="operator")
    dtype = data.draw(st.sampled_from(DTYPES))
    compare(case, data.draw(inputs(dtype, ["ties", "ties", "nan"])).mul(8).round().div(8), data.draw(windows()))


def compare_gradients(case, x, window):
    try:
        window.output_size(*x.shape[2:])
    except ValueError:
        assume(False)
    gradients = []
    for backend in ("native", "composite"):
        with pooling.backend(backend):
            leaf = x.detach().requires_grad_()
            y = case.call(leaf, window)
            generator = torch.Generator().manual_seed(0)
            weight = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(x.dtype)
            gradients.append(torch.autograd.grad(y, leaf, weight)[0].double())
    reach = window.kernel_size[0] * window.kernel_size[1]
    tolerance = {torch.float64: 1e-9, torch.float32: 2e-3, torch.bfloat16: 3e-2, torch.float16: 6e-3}[x.dtype]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance * reach)


@FUZZ
@given(st.data())
def test_gradients_agree_with_the_composite_backend(data):
    case = data.draw(st.sampled_from(CASES + DRAWN), label="operator")
    dtype = data.draw(st.sampled_from(DTYPES))
    compare_gradients(case, data.draw(inputs(dtype, ["normal", "ties", "negative"])), data.draw(windows()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("window", [Window((2, 2), (2, 2)), Window((3, 3), (2, 2), (1, 1))], ids=["2x2", "3x3"])
@pytest.mark.parametrize("case", CASES + DRAWN, ids=lambda case: case.name)
def test_the_usual_windows_where_rows_are_whole_vectors(case, window, layout):
    """Their ways of their own: unrolled windows, reduced at once, 2x2 tiles. The cases above seldom get there."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 32, 6, 36, generator=generator).mul(4).round().div(4).to(memory_format=layout)
    compare(case, x, window)
    compare(case, x.relu(), window)
    compare_gradients(case, x, window)
    compare(case, x * torch.tensor([1, 2.0**40, 2.0**-40, 0]).repeat(8).view(32, 1, 1), window)  # in one vector in NHWC
    x[0, ::3, ::2, 5::11] = float("nan")
    x[1, ::5, ::2, 7::13] = float("-inf")
    compare(case, x, window)


@pytest.mark.parametrize("channels", [144, 200, 272])  # in groups of 48, 64 with 8 left over, and 16
@pytest.mark.parametrize("window", [Window((2, 2), (2, 2)), Window((3, 3), (2, 2), (1, 1))], ids=["2x2", "3x3"])
@pytest.mark.parametrize("case", CASES + DRAWN, ids=lambda case: case.name)
def test_channels_last_with_more_channels_than_are_taken_together(case, window, channels):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, channels, 4, 6, generator=generator).mul(4).round().div(4).to(memory_format=torch.channels_last)
    compare(case, x, window)
    compare_gradients(case, x, window)


OVERLAPPING = {
    "soft": lambda x, w: functional.soft_pool2d(x, w, beta=0.7),
    "lse": lambda x, w: functional.lse_pool2d(x, w, r=0.7),
    "values": lambda x, w: functional.weighted_mean_pool2d(x, w, logits=torch.ones_like(x).cumsum(-1) / 32),
    "logits": lambda x, w: functional.weighted_mean_pool2d(torch.ones_like(x).cumsum(-1).cos(), w, logits=x),
    "lp2": functional.lp_pool2d,
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("odd", [0.0, 60.0, -200.0, 1e9, -1e30, 1e-25, 1e-42, float("nan"), float("inf")])
@pytest.mark.parametrize("name", OVERLAPPING)
def test_numbers_for_which_sums_over_rows_are_not_right(name, odd, layout):
    """Among others for which they are, in x and in the gradient; beside float64, which is not computed that way."""
    function, window = OVERLAPPING[name], Window((3, 3), (2, 2), (1, 1))
    differentiable = name != "soft" or not 1e6 < abs(odd) < float("inf")  # beta (x - y) is y's rounding alone
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 32, 12, 64, generator=generator).mul(8).round().div(8)
    x[0, ::7, 3, 5::9], x[1, :, 6:9, 20:40], x[2, 5] = odd, odd, odd
    weight = torch.randn(3, 32, 6, 32, generator=generator)
    weight[0, 1::6, 2, ::5], weight[2, 9] = odd, odd
    found = []
    for dtype, x_layout in ((torch.float32, layout), (torch.float64, torch.contiguous_format)):
        leaf = x.to(dtype).to(memory_format=x_layout).requires_grad_()
        y = function(leaf, window)
        found.append([y, *torch.autograd.grad(y, leaf, weight.to(dtype))])
    torch.testing.assert_close(found[0][0].double(), found[1][0], rtol=1e-5, atol=1e-6, equal_nan=True)
    if not differentiable:
        return
    got, expected = found[0][1].double(), found[1][1]
    scale = torch.nn.functional.max_pool2d(expected.abs().nan_to_num(0, 0, 0), 5, 1, 2)  # of what is added up near by
    both_nan = got.isnan() & expected.isnan()
    assert bool((both_nan | (got == expected) | ((got - expected).abs() <= 2e-5 * scale + 1e-44)).all())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("scale", [1e-28, 1e-12, 1e-4, 1.0, 20.0])
def test_log_mean_exp_is_as_exact_as_its_members(scale, layout):
    """Whichever way a window goes by its numbers: by sums of e^(r x) - 1, or from its own largest member down."""
    noise, window = (
        torch.randn(2, 16, 8, 64, generator=torch.Generator().manual_seed(5)),
        Window((3, 3), (2, 2), (1, 1)),
    )
    for offset, r in itertools.product((0.0, -2.2, -3.0, -30.0, 5.0, 30.0), (0.0, 1e-8, 1e-3, 1.0, -1.0, 40.0, -1e7)):
        x = noise * scale + offset * min(scale, 1.0)
        x[:, ::3, 2:5, 10:30] = 0.0
        y = functional.lse_pool2d(x.to(memory_format=layout), window, r=r).double()
        expected = functional.lse_pool2d(x.double(), window, r=r)
        largest = torch.nn.functional.max_pool2d(x.double().abs(), 3, 2, 1)
        assert bool(((y - expected).abs() <= 1e-6 * largest).all()), (offset, r)


def compare_blur(x, stride, length, pad_mode):
    eps = torch.finfo(x.dtype).eps
    with pooling.backend("native"):
        y = functional.blur_pool2d(x, stride, filter=length, pad_mode=pad_mode)
    expected = reference.blur_pool2d(x.double().numpy(), stride, filter=length, pad_mode=pad_mode)
    np.testing.assert_allclose(y.double().numpy(), expected, rtol=4 * eps, atol=16 * max(eps, 2.0**-50))
    for before in (None, (0, 0), (2, 2)):
        found = []
        for backend in ("native", "composite"):
            with pooling.backend(backend):
                leaf = x.detach().requires_grad_()
                y = functional.blur_pool2d(leaf, stride, filter=length, pad_mode=pad_mode, before=before)
                found.append((y.detach().double(), torch.autograd.grad(y.square().sum(), leaf)[0].double()))
        for own, other in zip(*found, strict=True):
            torch.testing.assert_close(own, other, rtol=16 * eps, atol=64 * eps)


@pytest.mark.parametrize("pad_mode", ["reflect", "zeros", "circular"])
@settings(max_examples=max(20, EXAMPLES // 10), deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_blur_agrees_with_its_definition(pad_mode, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    x = data.draw(inputs(dtype, ["normal", "negative"]))
    stride = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))
    compare_blur(x, stride, data.draw(st.integers(2, 7)), pad_mode)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("width", [32, 36, 37, 71])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("length", [2, 3, 5])
@pytest.mark.parametrize("pad_mode", ["reflect", "zeros", "circular"])
def test_blur_where_rows_are_whole_vectors(pad_mode, length, stride, width, layout):
    x = torch.randn(2, 32, 6, width, generator=torch.Generator().manual_seed(3)).to(memory_format=layout)
    compare_blur(x, stride, length, pad_mode)
    compare_blur(x.double(), stride, length, pad_mode)
    x[:, :, :, -1] = float("inf")  # beyond which a row in place looks at the next one
    x[:, :, -1, 0] = float("nan")
    with pooling.backend("native"):
        y = functional.blur_pool2d(x, stride, filter=length, pad_mode=pad_mode)
    expected = reference.blur_pool2d(x.double().numpy(), stride, filter=length, pad_mode=pad_mode)
    np.testing.assert_array_equal(np.isfinite(y.numpy()), np.isfinite(expected))


LEARNED = {
    "mixed": lambda x, w, p: functional.mixed_pool2d(x, w, a=p),
    "lp": lambda x, w, p: functional.lp_pool2d(x, w, p=2 + p),
    "gem": lambda x, w, p: functional.gem_pool2d(x, w, p=2 + p),
    "lse": lambda x, w, p: functional.lse_pool2d(x, w, r=p),
    "ada": lambda x, w, p: functional.ada_pool2d(x, w, b=p),
    "weighted_mean": lambda x, w, p: functional.weighted_mean_pool2d(x, w, logits=x.detach() * p),
    "subsample_scaled": lambda x, w, p: functional.subsample_scaled2d(x, w, scale=p.flatten(), bias=p.flatten() ** 2),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("window", [Window((2, 2), (2, 2)), Window((3, 3), (2, 2), (1, 1))], ids=["2x2", "3x3"])
@pytest.mark.parametrize("name", LEARNED)
def test_parameters_gradients_for_the_usual_windows(name, window, layout):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 32, 6, 36, generator=generator).abs().to(memory_format=layout).requires_grad_()
    p = torch.rand(32, 1, 1, generator=generator).add(0.1).requires_grad_()
    found = []
    for backend in ("native", "composite"):
        with pooling.backend(backend):
            y = LEARNED[name](x, window, p)
            found.append(torch.autograd.grad((y * y.detach().sin()).sum(), (x, p)))
    for native, composite in zip(*found, strict=True):
        torch.testing.assert_close(native, composite, rtol=2e-4, atol=2e-4)
