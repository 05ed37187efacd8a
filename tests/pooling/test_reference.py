"""The definitions in NumPy: against values worked by hand and against torch's own operators."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from pooling import reference
from tests.pooling.cases import Geometry, geometries

WINDOW = np.array([[1.0, 3.0], [2.0, 6.0]])[None, None]


def with_ties(*shape: int) -> torch.Tensor:
    """float32 numbers whose sums round, a good many of them equal."""
    return torch.randint(-30, 31, shape).float() / 10


def same_bytes(ours: np.ndarray, theirs: torch.Tensor) -> bool:
    """The same numbers to the last bit; 0 and -0 are one number."""
    theirs = theirs.detach().numpy()
    return ours.dtype == theirs.dtype and (ours + 0.0).tobytes() == (theirs + 0.0).tobytes()


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(reference.__path__)])
def test_the_worked_examples(name: str) -> None:
    given = {"x": reference.EXAMPLE, "np": np}
    with np.printoptions(precision=4):
        failed, tried = doctest.testmod(importlib.import_module(f"pooling.reference.{name}"), extraglobs=given)
    assert failed == 0
    assert tried > 0


def test_every_definition_has_a_worked_example() -> None:
    functions = [getattr(reference, name) for name in reference.__all__]
    lacking = [f.__name__ for f in functions if inspect.isfunction(f) and ">>>" not in (f.__doc__ or "")]
    assert lacking == []


@pytest.mark.parametrize(
    "y, worked",
    [
        (reference.max_pool2d(WINDOW, 2), 6),
        (reference.min_pool2d(WINDOW, 2), 1),
        (reference.avg_pool2d(WINDOW, 2), 3),
        (reference.avg_pool2d(WINDOW, 2, divisor_override=6), 2),
        (reference.lp_pool2d(WINDOW, 2, p=1), 3),
        (reference.lp_pool2d(WINDOW, 2, p=2), np.sqrt(50 / 4)),
        (reference.lp_pool2d(-WINDOW, 2, p=3, normalize=False), 252 ** (1 / 3)),
        (reference.mixed_pool2d(WINDOW, 2, a=0.25), 0.25 * 6 + 0.75 * 3),
        (reference.soft_pool2d(np.log(WINDOW), 2), np.log(WINDOW.ravel()) @ WINDOW.ravel() / 12),
        (reference.stochastic_pool2d(WINDOW, None, 2), 50 / 12),
        (reference.stochastic_pool2d(WINDOW, None, 2, eval="max"), 6),
        (reference.stochastic_pool2d(WINDOW, None, 2, eval="avg"), 3),
        (reference.stochastic_pool2d(WINDOW, None, 2, negatives="shift"), 1 + (4 + 1 + 25) / 8),
        (reference.stochastic_pool2d(-WINDOW, None, 2), 0),
        (reference.subsample_scaled2d(WINDOW, 2, scale=np.array([0.5]), bias=np.array([1.0])), 7),
        # Tap by tap at padding 1: every window has one member, and three zeros that avg counts.
        (reference.max_pool2d(WINDOW, 2, 2, 1), [[1, 3], [2, 6]]),
        (reference.avg_pool2d(WINDOW, 2, 2, 1), [[0.25, 0.75], [0.5, 1.5]]),
        (reference.avg_pool2d(WINDOW, 2, 2, 1, count_include_pad=False), [[1, 3], [2, 6]]),
        (reference.max_pool2d_indices(WINDOW, 2, 2, 1), [[0, 1], [2, 3]]),
    ],
)
def test_values_worked_by_hand(y: np.ndarray, worked) -> None:
    np.testing.assert_allclose(y[0, 0], np.broadcast_to(worked, y[0, 0].shape), rtol=1e-14)


@pytest.mark.parametrize(
    # Running sums of (1, 3, 2, 6) over 12: 1/12, 4/12, 6/12, 1.
    "uniform, drawn",
    [(0.0, 1), (0.08, 1), (1 / 12, 3), (0.33, 3), (0.34, 2), (0.49, 2), (0.5, 6), (1 - 2**-24, 6)],
)
def test_the_draw_is_the_first_running_sum_above_the_uniform_number(uniform: float, drawn: float) -> None:
    assert reference.stochastic_pool2d(WINDOW, np.full((1, 1, 1, 1), uniform), 2).item() == drawn


@given(geometry=geometries())
def test_max_is_torch_s_byte_for_byte_forward_and_backward(geometry: Geometry) -> None:
    x = with_ties(2, 2, geometry.height, geometry.width).requires_grad_()
    theirs, their_indices = F.max_pool2d(x, *geometry.arguments, return_indices=True)
    indices = reference.max_pool2d_indices(x.detach().numpy(), geometry.window)
    assert same_bytes(reference.max_pool2d(x.detach().numpy(), geometry.window), theirs)
    assert np.array_equal(indices, their_indices)
    assert same_bytes(reference.min_pool2d(-x.detach().numpy(), geometry.window), -theirs)

    gradient = torch.randn_like(theirs)
    (dx,) = torch.autograd.grad(theirs, x, gradient)
    assert same_bytes(reference.argmax_router(gradient.numpy(), indices, x.shape[2:]), dx)


def test_the_last_nan_of_a_window_is_its_largest_value() -> None:
    x = torch.tensor([[1, torch.nan, 2], [torch.nan, 9, 3], [4, 5, 6]]).view(1, 1, 3, 3)
    theirs, indices = F.max_pool2d(x, 2, 1, return_indices=True)
    np.testing.assert_array_equal(reference.max_pool2d(x.numpy(), 2, 1), theirs)
    np.testing.assert_array_equal(reference.max_pool2d_indices(x.numpy(), 2, 1), indices)


@given(geometry=geometries(dilations=1), count=st.booleans(), divisor=st.sampled_from([None, 3]))
def test_avg_is_torch_s_byte_for_byte_forward_and_backward(
    geometry: Geometry, count: bool, divisor: int | None
) -> None:
    x = torch.randn(2, 2, geometry.height, geometry.width).requires_grad_()
    kernel, stride, padding, _, ceil_mode = geometry.arguments
    theirs = F.avg_pool2d(x, kernel, stride, padding, ceil_mode, count, divisor)
    rule = {"count_include_pad": count, "divisor_override": divisor}
    assert same_bytes(reference.avg_pool2d(x.detach().numpy(), geometry.window, **rule), theirs)

    gradient = torch.randn_like(theirs)
    (dx,) = torch.autograd.grad(theirs, x, gradient)
    assert same_bytes(reference.uniform_splitter(gradient.numpy(), x.shape[2:], geometry.window, **rule), dx)


@given(height=st.integers(1, 6), width=st.integers(1, 6), out=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_adaptive_bins_are_torch_s_byte_for_byte_forward_and_backward(
    height: int, width: int, out: tuple[int, int]
) -> None:
    x = with_ties(1, 2, height, width).requires_grad_()
    maximum, their_indices = F.adaptive_max_pool2d(x, out, return_indices=True)
    indices = reference.adaptive_max_pool2d_indices(x.detach().numpy(), out)
    assert same_bytes(reference.adaptive_pool2d(x.detach().numpy(), out, np.max), maximum)
    assert np.array_equal(indices, their_indices)
    gradient = torch.randn_like(maximum)
    (dx,) = torch.autograd.grad(maximum, x, gradient)
    assert same_bytes(reference.argmax_router(gradient.numpy(), indices, x.shape[2:]), dx)

    assume(out != (1, 1))  # torch takes its mean, whose sum has another order, for a single bin
    average = F.adaptive_avg_pool2d(x, out)
    (dx,) = torch.autograd.grad(average, x, gradient)
    assert same_bytes(reference.adaptive_avg_pool2d(x.detach().numpy(), out), average)
    assert same_bytes(reference.adaptive_avg_pool2d_backward(gradient.numpy(), x.shape[2:]), dx)


@given(geometry=geometries(dilations=1, ceil_modes=(False,)))
def test_max_unpool_is_torch_s_byte_for_byte_forward_and_backward(geometry: Geometry) -> None:
    kernel, stride, padding, *_ = geometry.arguments
    size = (geometry.height, geometry.width)
    y, indices = F.max_pool2d(torch.randn(2, 2, *size), kernel, stride, padding, return_indices=True)
    y.requires_grad_()
    theirs = F.max_unpool2d(y, indices, kernel, stride, padding, output_size=size)
    assert same_bytes(reference.max_unpool2d(y.detach().numpy(), indices.numpy(), size), theirs)

    gradient = torch.randn_like(theirs)
    (dy,) = torch.autograd.grad(theirs, y, gradient)
    assert same_bytes(reference.max_unpool2d_backward(gradient.numpy(), indices.numpy()), dy)


def test_adaptive_bins_cover_the_axis_and_are_never_empty() -> None:
    assert reference.adaptive_bins(5, 2) == [range(0, 3), range(2, 5)]
    assert reference.adaptive_bins(2, 3) == [range(0, 1), range(0, 2), range(1, 2)]


def test_spatial_pyramid_is_level_after_level() -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    assert reference.spatial_pyramid(x).tolist() == [[15, 5, 7, 13, 15, *range(16)]]


@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0])
@given(geometry=geometries(dilations=1, ceil_modes=(False,)))
def test_lp_is_torch_s_on_inputs_that_are_positive(norm: float, geometry: Geometry) -> None:
    x = 0.1 + torch.rand(1, 2, geometry.height, geometry.width, dtype=torch.float64)
    kernel, stride, (ph, pw), *_ = geometry.arguments
    ours = reference.lp_pool2d(x.numpy(), geometry.window, p=norm, normalize=False)
    np.testing.assert_allclose(ours, F.lp_pool2d(F.pad(x, (pw, pw, ph, ph)), norm, kernel, stride), rtol=1e-12)


@pytest.mark.parametrize(
    "length, row", [(2, [1, 1]), (3, [1, 2, 1]), (5, [1, 4, 6, 4, 1]), (7, [1, 6, 15, 20, 15, 6, 1])]
)
def test_binomial_rows(length: int, row: list[int]) -> None:
    assert reference.binomial_row(length).tolist() == (np.array(row) / sum(row)).tolist()


@pytest.mark.parametrize(
    "mode, outside",
    [
        ("circular", [2, 3, 0, 1, 2, 3, 0, 1]),
        ("edge", [0, 0, 0, 1, 2, 3, 3, 3]),
        ("reflect", [2, 1, 0, 1, 2, 3, 2, 1]),
        ("zeros", [None, None, 0, 1, 2, 3, None, None]),
    ],
)
def test_positions_past_the_border(mode: str, outside: list) -> None:
    assert [reference.continued(i, 4, mode) for i in range(-2, 6)] == outside


def test_reflecting_goes_back_and_forth() -> None:
    assert [reference.continued(i, 2, "reflect") for i in range(-3, 5)] == [1, 0, 1, 0, 1, 0, 1, 0]
    assert [reference.continued(i, 1, "reflect") for i in range(-2, 3)] == [0] * 5


def test_blur_of_an_impulse_is_the_filter() -> None:
    x = np.zeros((1, 1, 7, 7))
    x[0, 0, 3, 3] = 16
    assert reference.blur_pool2d(x, (1, 1))[0, 0, 2:5, 2:5].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    # An even filter reaches one further at the far side: the impulse is seen from before it.
    assert reference.blur_pool2d(x / 4, (1, 1), filter=2)[0, 0, 2:5, 2:5].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_polyphase_worked_by_hand() -> None:
    x = np.array([[1.0, 2, 1, 2], [3, 1, 0, 0], [1, 2, 1, 2], [3, 1, 0, 0]])[None, None]
    y, phase = reference.polyphase_pool2d(x, (2, 2))
    assert phase.tolist() == [2]  # rows 1, 3 and columns 0, 2: norm sqrt(18) against sqrt(16) of columns 1, 3
    assert y[0, 0].tolist() == [[3, 0], [3, 0]]
    y, phase = reference.polyphase_pool2d(x, (2, 2), norm=1)
    assert phase.tolist() == [1]  # 8 against 6
    # Ties go to the lowest phase.
    assert reference.polyphase_pool2d(np.ones((1, 1, 4, 4)), (2, 2))[1].tolist() == [0]
