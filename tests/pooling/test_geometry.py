"""Window: MaxPool2d's sizes for the same numbers, and refusals that say what is allowed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pooling.geometry import Window, pair
from tests.pooling.cases import Geometry, geometries


def test_an_int_means_both_axes() -> None:
    assert pair(3) == (3, 3)
    assert pair((3, 2)) == (3, 2)
    assert (
        Window.of(3, 2, 1, 2) == Window.of((3, 3), (2, 2), (1, 1), (2, 2)) == Window.of([3, 3], [2, 2], [1, 1], [2, 2])
    )


def test_stride_defaults_to_the_kernel_size() -> None:
    assert Window.of((3, 2)).stride == (3, 2)


def test_a_window_is_taken_as_it_is() -> None:
    window = Window.of(3, 2, 1)
    assert Window.of(window) is window


@pytest.mark.parametrize(
    "arguments, size, out",
    [
        # Sizes worked by hand: floor((H + 2p - d(k - 1) - 1) / s) + 1.
        ({"kernel_size": 2}, (28, 28), (14, 14)),
        ({"kernel_size": 2}, (5, 4), (2, 2)),
        ({"kernel_size": 2, "ceil_mode": True}, (5, 4), (3, 2)),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, (112, 111), (56, 56)),
        ({"kernel_size": (3, 1), "stride": (1, 2)}, (3, 7), (1, 4)),
        ({"kernel_size": 3, "stride": 1, "dilation": 2}, (5, 8), (1, 4)),
        # A window that would start in the far padding is dropped.
        ({"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True}, (3, 3), (2, 2)),
        # ceil_mode lets a window be larger than the input.
        ({"kernel_size": 3, "stride": 2, "ceil_mode": True}, (2, 2), (1, 1)),
    ],
)
def test_sizes(arguments: dict, size: tuple[int, int], out: tuple[int, int]) -> None:
    assert Window.of(**arguments).output_size(*size) == out


numbers = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(
    kernel=numbers, stride=numbers, dilation=numbers, ceil_mode=st.booleans(), size=numbers, padding=st.integers(0, 2)
)
def test_a_window_fits_where_torch_s_does_and_has_a_member(kernel, stride, dilation, ceil_mode, size, padding) -> None:
    padding = min(padding, min(kernel) // 2)
    window = Window.of(kernel, stride, padding, dilation, ceil_mode)
    try:
        theirs = torch.nn.functional.max_pool2d(torch.zeros(1, *size), kernel, stride, padding, dilation, ceil_mode)
    except RuntimeError:
        theirs = torch.tensor(-torch.inf)
    if theirs.isfinite().all():
        assert window.output_size(*size) == theirs.shape[1:]
    else:
        # torch refuses, or gives the -inf of a window whose taps all miss the input.
        with pytest.raises(ValueError, match="does not fit an input"):
            window.output_size(*size)


@given(geometry=geometries())
def test_overhang_is_the_far_padding_that_the_last_window_needs(geometry: Geometry) -> None:
    window, sides = geometry.window, (geometry.height, geometry.width)
    for axis, far in enumerate(window.overhang(*sides)):
        last = max(
            start * window.stride[axis] - window.padding[axis] + tap * window.dilation[axis]
            for start in range(window.output_size(*sides)[axis])
            for tap in range(window.kernel_size[axis])
        )
        assert far == max(0, last - sides[axis] + 1)


def test_taps_are_row_major() -> None:
    assert list(Window.of((2, 3), dilation=(2, 1)).taps()) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]
    assert Window.of((2, 3), dilation=(2, 1)).extent == (3, 3)


def test_dense_and_unpadded_change_one_thing() -> None:
    window = Window.of(3, 2, 1, 2, True)
    assert window.dense() == Window.of(3, 1, 1, 2, True)
    assert window.unpadded() == Window.of(3, 2, 0, 2, True)


@pytest.mark.parametrize(
    "error, arguments, message",
    [
        (ValueError, {"kernel_size": 0}, "mine: kernel_size must be at least 1, got 0"),
        (ValueError, {"kernel_size": 3, "stride": (1, 0)}, r"mine: stride must be at least 1, got \(1, 0\)"),
        (ValueError, {"kernel_size": 3, "dilation": -1}, "mine: dilation must be at least 1, got -1"),
        (ValueError, {"kernel_size": 3, "padding": -1}, "mine: padding must be at least 0, got -1"),
        (ValueError, {"kernel_size": (4, 3), "padding": 2}, r"at most half of kernel_size \(4, 3\), got 2"),
        (TypeError, {"kernel_size": True}, "mine: kernel_size must be an int or a pair of ints, got True"),
        (TypeError, {"kernel_size": (3,)}, r"mine: kernel_size must be an int or a pair of ints, got \(3,\)"),
        (TypeError, {"kernel_size": None}, "mine: kernel_size must be an int or a pair of ints, got None"),
        (TypeError, {"kernel_size": 3, "stride": 1.5}, "mine: stride must be an int or a pair of ints, got 1.5"),
        (TypeError, {"kernel_size": 3, "ceil_mode": "yes"}, "mine: ceil_mode must be True or False, got 'yes'"),
    ],
)
def test_refusals(error: type[Exception], arguments: dict, message: str) -> None:
    with pytest.raises(error, match=message):
        Window.of(**arguments, owner="mine")


def test_a_window_that_does_not_fit_names_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"mine: kernel_size \(3, 3\) .* 2x5 with padding \(0, 0\)"):
        Window.of(3).output_size(2, 5, owner="mine")
