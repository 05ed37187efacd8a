"""The CUDA driver beside the CPU driver, every reducer with everything that it can be given.

The CUDA driver's threads run on the CPU, one by one, and on a GPU where there is one. The drivers add in different
orders, so sums differ by rounding. Which member is taken or drawn is the same, bit for bit.
"""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pooling import composite, ranks
from pooling.geometry import Window
from pooling.kernels import gradients, native, toolchain, twice
from tests.pooling.kernels.operators import logits_of, seed
from tests.pooling.kernels.test_fuzz import DTYPES, EXAMPLES, FUZZ, inputs, windows

PARAMETERS = {"Mixed": 0.3, "Lp": 2.5, "Gem": 3.0, "LogSumExp": 1.5, "Soft": 0.7, "Ada": 0.6, "ScaledSum": 0.4}


def wide(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def arguments(data, reducer, x, window):
    """What `pool2d` takes for this input, without `save`."""
    C, taps = x.shape[1], window.kernel_size[0] * window.kernel_size[1]
    logits, parameter, table, divisor, border = None, None, None, native.MEMBERS, 0
    size = window.output_size(*x.shape[2:])
    if reducer in PARAMETERS:
        parameter = torch.full((data.draw(st.sampled_from([1, C])),), PARAMETERS[reducer], dtype=wide(x.dtype))
        parameter = parameter + torch.arange(len(parameter)) / 64
    if reducer == "WeightedMean":
        logits = logits_of(x)
    if reducer in ("Avg", "Root2", "Lp"):
        divisor = data.draw(st.sampled_from([native.MEMBERS, native.PADDED, native.FIXED]))
    if reducer == "Filter":
        border = data.draw(st.sampled_from(list(native.BORDERS.values())))
        table = torch.linspace(-1, 1, taps)
        size = tuple(-(-n // s) for n, s in zip(x.shape[2:], window.stride, strict=True))
    if reducer == "ScaledSum":
        table = torch.linspace(-1, 1, data.draw(st.sampled_from([1, C])))
    if reducer in native.RANKED and reducer != "Median":
        table = ranks.geometric(taps, 0.4).expand(data.draw(st.sampled_from([1, C])), taps + 1, taps)
        table = ranks.cumulative(table[0], certain=False) if reducer == "RankDraw" else table.contiguous()
    table = None if table is None else table.to(wide(x.dtype))
    numbers = native.window_numbers(window, size, border, divisor)
    return x, logits, parameter, table, seed(), native.NUMBER[reducer], numbers, [3.0, 0.01, 0.0]


def both(driver, name, *given):
    return getattr(torch.ops.poolzoo, name)(*given), driver(name, *given)


def close(found, dtype, scale=1.0):
    """Equal up to a few roundings; NaN and infinities where the other has them."""
    tolerance = {torch.float64: 1e-11, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}[dtype]
    torch.testing.assert_close(*found, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def in_memory(x):
    """A tensor's numbers in the order in which they lie there, whichever memory format it has."""
    return x.as_strided((x.numel(),), (1,))


def compare(driver, data, reducer, x, window):
    x, logits, parameter, table, seed_, number, numbers, more = arguments(data, reducer, x, window)
    indexed, linear = number in native.INDEXED, number in gradients.LINEAR
    learned = reducer in {*PARAMETERS, "RankMean"} - {"Soft"} and data.draw(st.booleans(), label="learned")
    save = native.TAPS if indexed or reducer == "Mixed" else native.NOTHING
    save = native.SLOPES if reducer == "Mixed" and learned else save
    (y, taps), (other, other_taps) = both(
        driver, "pool2d", x, logits, parameter, table, seed_, number, numbers, more, save
    )
    assert other.stride() == y.stride()
    N = len(x)
    assert torch.equal(taps[len(taps) - N :], other_taps[len(taps) - N :])
    if save == native.SLOPES:
        slopes = (in_memory(t)[: -y.numel()].view(composite.working_dtype(x)) for t in (taps, other_taps))
        close(slopes, x.dtype)
    if indexed:
        index, other_index = both(driver, "flat_index", taps, numbers, *x.shape[2:])
        if reducer == "Max":
            for values, positions in both(driver, "max_with_indices", x, numbers):
                assert torch.equal(values.nan_to_num(nan=-7.0), y.nan_to_num(nan=-7.0))
                assert torch.equal(positions, index)
        assert torch.equal(index, other_index)
        assert torch.equal(index, twice._flat_index(taps, x.shape, numbers))
        assert torch.equal(y.nan_to_num(nan=-7.0), other.nan_to_num(nan=-7.0))
    else:
        close((y, other), x.dtype)
    gradient = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).to(x.dtype).view(y.shape)
    kept = (None, None, parameter, None if save else table, taps if save else None)
    kept = kept if save or (linear and not learned) else (x, logits, parameter, table, None)
    channels_last = gradients._is_channels_last(x)
    found = both(
        driver, "pool2d_backward", gradient, *kept, *x.shape[2:], channels_last, number, numbers, more, learned
    )
    members = window.kernel_size[0] * window.kernel_size[1]
    for pair in zip(*(parts[:2] for parts in found), strict=True):
        close(pair, x.dtype, scale=members)
    if not learned:
        assert all(parts[2].numel() == parts[3].numel() == 0 for parts in found)
        return
    # The CPU's operator has added up already.
    shared = table[0] if reducer == "RankMean" and len(table) == 1 else table
    parameters = [None if t is None else t.double() for t in (parameter, shared)]
    added = gradients._added_up(found[1][2].double(), *parameters, number, x.shape, numbers)
    for sums, others, given_ in zip(found[0][2:], added, parameters, strict=True):
        if given_ is not None:
            assert sums.dtype == wide(x.dtype)
            close((sums.double().view(others.shape), others), x.dtype, scale=y.numel())


@pytest.mark.parametrize("reducer", native.REDUCERS)
@settings(FUZZ, max_examples=max(20, EXAMPLES // 10))
@given(data=st.data())
def test_the_drivers_agree(driver, reducer, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    # Where a sorted window has a NaN, its value is NaN; which rank a member then has is of no account.
    kinds = ["normal", "ties", "inf"] if reducer in native.RANKED else ["normal", "ties", "nan", "inf"]
    x, window = data.draw(inputs(dtype, kinds)), data.draw(windows())
    try:
        window.output_size(*x.shape[2:])
    except ValueError:
        assume(False)
    compare(driver, data, reducer, x, window)


@pytest.mark.parametrize("reducer", ["Max", "Min", "Stochastic", "ShiftedStochastic"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [Window((19, 17), (3, 2), (5, 8)), Window((31, 31), (1, 1), (15, 15))])
def test_the_drivers_agree_where_a_window_has_more_than_255_taps(driver, reducer, dtype, window):
    x = torch.randn(2, 3, 40, 30, dtype=torch.float64).to(dtype)
    compare(driver, None, reducer, x, window)


@pytest.mark.slow
def test_a_tensor_of_more_than_2_to_31_elements(driver):
    # Only what the windows look at is ever written, so most of its memory never exists on the CPU.
    x = torch.empty(3, 1, 30000, 30000, dtype=torch.bfloat16)
    seen = torch.randn(3, 1, 469, 469).bfloat16()
    x[:, :, ::64, ::64] = seen
    window = native.window_numbers(Window((1, 1), (64, 64)), (469, 469))
    y = driver("pool2d_forward", x, None, None, None, None, native.NUMBER["Max"], window, [1.0, 0.0, 0.0])
    assert torch.equal(y, seen)


SANITIZER = shutil.which("compute-sanitizer") or f"{toolchain.cuda_home()}/bin/compute-sanitizer"


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(SANITIZER), reason="compute-sanitizer is not installed")
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_compute_sanitizer_finds_nothing(tool):
    command = [
        SANITIZER,
        "--tool",
        tool,
        "--error-exitcode",
        "1",
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
    ]
    # Without the cache each tensor has memory of its own, and an access past its end is seen.
    environment = os.environ | {"POOLZOO_FUZZ": "20", "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    only = ["-m", "gpu and not slow", __file__]
    result = subprocess.run([*command, *only], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:]
    assert " passed" in result.stdout
