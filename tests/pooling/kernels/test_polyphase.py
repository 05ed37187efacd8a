"""The compiled polyphase operators: against the NumPy definition and plain PyTorch, and what a choice depends on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pooling
from pooling import composite, functional, reference
from pooling.kernels import gradients, native
from tests.pooling.kernels.test_fuzz import DTYPES, EXAMPLES, FUZZ, inputs

SOME = settings(FUZZ, max_examples=max(50, EXAMPLES // 4))

STRIDES = st.tuples(st.integers(1, 5), st.integers(1, 5))
FAR_MODES = ["edge", "circular", "zeros"]
KINDS = ["normal", "ties", "denormal", "nan", "inf"]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def drawn_phases(data, x, stride):
    return torch.tensor([data.draw(st.integers(0, stride[0] * stride[1] - 1)) for _ in x], dtype=torch.int64)


@SOME
@given(data=st.data())
def test_the_choice_and_the_component_are_those_of_the_definition(data):
    x = data.draw(inputs(data.draw(st.sampled_from(DTYPES)), ["normal", "ties", "denormal"]))
    stride, far_mode, norm = (
        data.draw(STRIDES),
        data.draw(st.sampled_from(FAR_MODES)),
        data.draw(st.sampled_from([1, 2, np.inf])),
    )
    if norm == 2:  # of near ties the definition, which takes the root, may choose the other
        x = x.mul(4).round().div(4)
    with pooling.backend("native"):
        y, phase = functional.polyphase_pool2d(x, stride, norm=norm, far_mode=far_mode)
    expected = reference.polyphase_pool2d(x.double().numpy(), stride, norm=norm, far_mode=far_mode)
    np.testing.assert_array_equal(phase.numpy(), expected[1])
    np.testing.assert_array_equal(y.double().numpy(), expected[0])
    assert y.dtype == x.dtype
    assert y.is_contiguous(memory_format=functional.memory_format(x))


@pytest.mark.parametrize("shape", [(9, 3, 5, 7), (64, 20, 33, 48)], ids=["small", "large"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_images_are_each_pooled_as_if_alone(layout, dtype, shape):
    """From four images for each thread on, a thread takes one image after the other."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype).contiguous(memory_format=layout)
    with pooling.backend("native"):
        y, phase = functional.polyphase_pool2d(x, 2)
        alone = [functional.polyphase_pool2d(image.unsqueeze(0), 2) for image in x]
    assert torch.equal(y, torch.cat([part for part, _ in alone]))
    assert torch.equal(phase, torch.cat([part for _, part in alone]))
    assert len(phase.unique()) > 1


def norms_of(x, stride, far_mode, norm):
    """(N, S) float64: each component's norm, its p-th power for finite p."""
    return torch.ops.poolzoo.polyphase_norms(x, stride, native.BORDERS[far_mode], native.ORDERS[norm])


@SOME
@given(data=st.data())
def test_norms_are_those_of_the_components(data):
    x = data.draw(inputs(data.draw(st.sampled_from(DTYPES)), KINDS))
    stride, far_mode = data.draw(STRIDES), data.draw(st.sampled_from(FAR_MODES))
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    components = composite.polyphase(wide, stride, far_mode)
    for norm in native.ORDERS:
        found = norms_of(x, stride, far_mode, norm)
        expected = composite.polyphase_norms(components, norm).double()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0, equal_nan=True)


@SOME
@given(data=st.data())
def test_both_derivatives_are_those_of_plain_pytorch(data):
    x = data.draw(inputs(data.draw(st.sampled_from(DTYPES)), ["normal"]))
    stride, far_mode = data.draw(STRIDES), data.draw(st.sampled_from(FAR_MODES))
    phase, found = drawn_phases(data, x, stride), []
    for backend in ("native", "composite"):
        leaf = x.detach().requires_grad_()
        with pooling.backend(backend):
            y, _ = functional.polyphase_pool2d(leaf, stride, phase=phase, far_mode=far_mode)
        weight = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view(y.shape).to(x.dtype).requires_grad_()
        (dx,) = torch.autograd.grad(y, leaf, weight, create_graph=True)
        (again,) = torch.autograd.grad(dx, weight, x.detach())
        found.append((y.detach(), dx.detach(), again))
    torch.testing.assert_close(*found, rtol=torch.finfo(x.dtype).eps, atol=0)


@SOME
@given(data=st.data())
def test_the_drivers_agree(driver, data):
    x = data.draw(inputs(data.draw(st.sampled_from(DTYPES)), KINDS))
    stride, border = data.draw(STRIDES), native.BORDERS[data.draw(st.sampled_from(FAR_MODES))]
    phase = drawn_phases(data, x, stride)

    def same(name, *given_):
        cpu = getattr(torch.ops.poolzoo, name).default(*given_)
        other = driver(name, *given_)
        torch.testing.assert_close(other, cpu, rtol=0, atol=0, equal_nan=True)
        assert other.stride() == cpu.stride()
        return cpu

    if x.dtype != torch.float64:  # whose squares are rounded, or not where they are fused with the addition
        for order in native.ORDERS.values():
            same("polyphase_norms", x, stride, border, order)
            pooled = (x, stride, border, order)
            for found, other in zip(
                torch.ops.poolzoo.polyphase_pool(*pooled), driver("polyphase_pool", *pooled), strict=True
            ):
                assert torch.equal(found.nan_to_num(), other.nan_to_num())
    y = same("polyphase_gather", x, phase, stride, border)
    same("polyphase_scatter", y, phase, *x.shape[2:], gradients._is_channels_last(x), stride, border)


@SOME
@given(data=st.data())
def test_the_norms_are_the_same_bits_in_both_memory_formats(data):
    x = data.draw(inputs(data.draw(st.sampled_from(DTYPES)), ["normal", "inf"]))
    stride, far_mode = data.draw(STRIDES), data.draw(st.sampled_from(FAR_MODES))
    norms = [norms_of(x.contiguous(memory_format=layout), stride, far_mode, 2.0) for layout in LAYOUTS]
    assert torch.equal(*norms)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_norms_are_the_same_bits_with_any_number_of_threads(layout):
    x = torch.randn(3, 20, 33, 47).contiguous(memory_format=layout)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(norms_of(x, (2, 3), "edge", 2.0))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("far_mode", FAR_MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck(far_mode, layout):
    x = torch.randn(2, 3, 5, 7).contiguous(memory_format=layout)
    phase, border = torch.tensor([3, 5]), native.BORDERS[far_mode]
    ops = torch.ops.poolzoo
    torch.library.opcheck(ops.polyphase_norms.default, (x, (2, 3), border, 2))
    torch.library.opcheck(ops.polyphase_pool.default, (x.detach().requires_grad_(), (2, 3), border, 2))
    torch.library.opcheck(ops.polyphase_gather.default, (x.requires_grad_(), phase, (2, 3), border))
    gradient = torch.randn(2, 3, 3, 3).contiguous(memory_format=layout).requires_grad_()
    channels_last = layout == torch.channels_last
    torch.library.opcheck(ops.polyphase_scatter.default, (gradient, phase, 5, 7, channels_last, (2, 3), border))


def test_it_compiles_in_one_graph():
    x = torch.randn(2, 3, 6, 7, requires_grad=True)
    with pooling.backend("native"):
        compiled = torch.compile(functional.polyphase_pool2d, fullgraph=True, backend="aot_eager")
        found, expected = (f(x, 2) for f in (compiled, functional.polyphase_pool2d))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        *(torch.autograd.grad(y.square().sum(), x) for y, _ in (found, expected)), rtol=0, atol=0
    )


@pytest.mark.parametrize("phase", [-1, 4])
def test_a_phase_that_is_none_is_refused(phase):
    with pytest.raises(RuntimeError, match=rf"phase must be in \[0, 4\), got {phase}"):
        native.polyphase_gather(torch.zeros(1, 1, 4, 4), torch.tensor([phase]), (2, 2), "edge")
