"""Region pools beside their definitions, over boxes of all kinds, and the boxes that they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pooling
from tests.pooling import regions

NAMES = pooling.names("region")


@st.composite
def some_boxes(draw) -> torch.Tensor:
    """Boxes inside the 7 x 9 map's image and past its border, some without an area; no corner at a half."""
    numbers = st.integers(-8, 30).map(lambda n: n * 0.63 + 0.01)
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        left, right = sorted((draw(numbers), draw(numbers)))
        top, bottom = sorted((draw(numbers), draw(numbers)))
        boxes.append([draw(st.integers(0, 1)), left, top, right, bottom])
    return torch.tensor(boxes, dtype=torch.float64).view(-1, 5)


@pytest.mark.parametrize("name", NAMES)
@given(boxes=some_boxes(), scale=st.sampled_from([1.0, 0.5, 0.31]), size=st.sampled_from([(1, 1), (2, 3), (4, 2)]))
def test_values_are_those_of_the_definition(name, boxes, scale, size):
    operator = pooling.create(name, output_size=size, spatial_scale=scale)
    x = torch.randn(2, 2 * size[0] * size[1], 7, 9, dtype=torch.float64)
    expected = regions.DEFINITIONS[name](x.numpy(), boxes.numpy(), size, **operator.options)
    np.testing.assert_allclose(operator(x, boxes).numpy(), expected, rtol=1e-9, atol=1e-12)
    lists = [boxes[boxes[:, 0] == i][:, 1:] for i in range(2)]
    order = torch.cat([torch.nonzero(boxes[:, 0] == i)[:, 0] for i in range(2)])
    assert torch.equal(operator(x, lists), operator(x, boxes)[order])


def test_a_box_s_mean_is_the_function_s_at_its_centre():
    """Of a linear function bilinear samples are exact, and `aligned` puts pixel (i, j) at (i + 1/2, j + 1/2)."""
    row = torch.arange(12, dtype=torch.float64)
    x = (2 * (row[:, None] + 0.5) + 3 * (row + 0.5))[None, None]
    boxes = torch.tensor([[0, 2.3, 3.1, 7.7, 8.2]], dtype=torch.float64)
    y = pooling.create("roi_align", output_size=1, sampling_ratio=3)(x, boxes)
    assert y.item() == pytest.approx(2 * (3.1 + 8.2) / 2 + 3 * (2.3 + 7.7) / 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "boxes, words",
    [
        (torch.zeros(3, 4), r"boxes must be \(K, 5\) or a list of \(L, 4\), got \(3, 4\)"),
        ([torch.zeros(1, 4)], r"2 tensors \(L, 4\), one for each image, got \[\(1, 4\)\]"),
        ([torch.zeros(1, 4), torch.zeros(4)], r"got \[\(1, 4\), \(4,\)\]"),
        (torch.tensor([[2.0, 0, 0, 1, 1]]), r"an image below 2.*got \[2.0, 0.0"),
        (torch.tensor([[-1.0, 0, 0, 1, 1]]), r"an image below 2"),
        (torch.tensor([[0.0, 0, 0, 1, 1], [0, 3, 0, 1, 1]]), r"left <= right.*got \[0.0, 3.0, 0.0, 1.0, 1.0\]"),
        (torch.tensor([[0.0, 0, 0, 1, torch.nan]]), r"top <= bottom"),
    ],
)
def test_bad_boxes_are_refused_by_name(name, boxes, words):
    with pytest.raises(ValueError, match=f"(?s)^{name}: .*{words}"):
        pooling.create(name, output_size=1)(torch.zeros(2, 1, 4, 4), boxes)


def test_other_bad_input_is_refused_by_name():
    boxes = torch.zeros(0, 5)
    with pytest.raises(ValueError, match=r"roi_pool: the map must be \(N, C, H, W\), got \(3, 4, 4\)"):
        pooling.create("roi_pool")(torch.zeros(3, 4, 4), boxes)
    with pytest.raises(ValueError, match=r"ps_roi_pool: channels must be a multiple of the 49 positions .*, got 48"):
        pooling.create("ps_roi_pool")(torch.zeros(1, 48, 4, 4), boxes)
    with pytest.raises(ValueError, match="roi_align: output_size must be one number or two"):
        pooling.create("roi_align", output_size=(1, 2, 3))
    with pytest.raises(ValueError, match="roi_align: spatial_scale must be a number > 0, got 0"):
        pooling.create("roi_align", spatial_scale=0)
