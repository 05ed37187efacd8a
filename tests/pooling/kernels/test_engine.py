"""What the compiled operators promise beside their values: determinism, what they keep, how they register."""

import itertools

import pytest
import torch

import pooling
from pooling import functional, ranks
from pooling.kernels import native
from tests.pooling.kernels.operators import CASES, logits_of, seed

LAYOUTS = [torch.contiguous_format, torch.channels_last]
PARAMETERS = {"Mixed": 0.3, "Lp": 2.5, "Gem": 3.0, "LogSumExp": 1.5, "Soft": 0.7, "Ada": 0.6, "ScaledSum": 0.4}
CONSTANT = ("Soft",)  # whose parameter has no gradient


def given(reducer, x, taps):
    """The arguments of `native.pool2d` after the window."""
    call = {"reducer": reducer}
    if reducer in PARAMETERS:
        call["parameter"] = torch.full((x.shape[1], 1, 1), PARAMETERS[reducer]).requires_grad_(reducer not in CONSTANT)
    if reducer == "WeightedMean":
        call["logits"] = logits_of(x).requires_grad_()
    if reducer == "Filter":
        call["table"] = torch.linspace(-1, 1, taps)
    if reducer == "ScaledSum":
        call["table"] = torch.linspace(-1, 1, x.shape[1]).requires_grad_()
    if reducer in ("RankDraw", "RankMean"):
        table = ranks.geometric(taps, 0.4)
        call["table"] = (ranks.cumulative(table, certain=False) if reducer == "RankDraw" else table).float()
        call["table"].requires_grad_(reducer == "RankMean")
    if "Stochastic" in reducer or reducer == "RankDraw":
        call["seed"] = seed()
    return call


# Large enough that both passes are divided among the threads, within planes too: gathered, tiles, overlapping by one.
GEOMETRIES = {
    "3x2": ((3, 5, 61, 47), pooling.Window((3, 2), (2, 2), (1, 1))),
    "2x2": ((3, 16, 62, 48), pooling.Window((2, 2), (2, 2))),
    "3x3": ((3, 16, 62, 48), pooling.Window((3, 3), (2, 2), (1, 1))),
    "wide": ((2, 5, 38, 200), pooling.Window((3, 3), (2, 2), (1, 1))),
    "narrow": ((7, 83, 14, 14), pooling.Window((3, 3), (2, 2), (1, 1))),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("reducer", native.REDUCERS)
def test_threads_and_repetition_change_no_bit(reducer, geometry, layout):
    size, windows = GEOMETRIES[geometry]
    x = torch.randn(size)
    x[0, ::5, 3, ::7] = 100.0  # some rows' exponentials are too large to be added up as they are
    x = x.contiguous(memory_format=layout).requires_grad_()
    window = native.window_numbers(windows, windows.output_size(*size[2:]))
    found = []
    for threads in (1, 2, 2, 3):
        torch.set_num_threads(threads)
        call = given(reducer, x, windows.kernel_size[0] * windows.kernel_size[1])
        y = native.pool2d(call.pop("reducer"), x, window, **call)
        leaves = [x, *(t for t in call.values() if isinstance(t, torch.Tensor) and t.requires_grad)]
        found.append((y.detach(), *torch.autograd.grad(y, leaves, torch.linspace(-1, 1, y.numel()).view_as(y))))
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_all_share_has_the_gradient_of_the_largest_sum(layout):
    """Its 800,000 parts are rounded a few times each, not once for every one before them."""
    x = torch.rand(4, 256, 56, 56).contiguous(memory_format=layout)
    scale, bias = (torch.ones(1, requires_grad=True) for _ in range(2))
    window = native.window_numbers(pooling.Window((2, 2), (2, 2)), (28, 28))
    y = native.pool2d("ScaledSum", x, window, parameter=scale, table=bias)
    gradient = torch.rand(y.shape).to(memory_format=layout)
    found = torch.autograd.grad(y, (scale, bias), gradient)
    sums = 4 * torch.nn.functional.avg_pool2d(x.double(), 2)
    expected = (gradient * sums).sum(), gradient.double().sum()
    for sum_, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(sum_.double().squeeze(), exact, rtol=5e-7, atol=0)


@pytest.mark.parametrize("width", [5, 20])
@pytest.mark.parametrize("height", [*range(1, 9), 33, 70])
def test_every_row_counts_once_in_the_gradient_by_the_weights(height, width):
    """However rows of slopes are added up together: also where a dilated window begins past the border."""
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    checked = 0
    for k, d, s in itertools.product((1, 2, 3, 4), (1, 2, 3), (1, 2, 3)):
        for p in range(k // 2 + 1):
            window = pooling.Window((k, 2), (s, 2), (p, 1), (d, 1))
            try:
                window.output_size(height, width)
            except ValueError:
                continue
            table = (1 + torch.rand(2 * k + 1, 2 * k, dtype=torch.float64)).tril(-1).requires_grad_()
            found = []
            for backend in ("native", "composite"):
                with pooling.backend(backend):
                    y = functional.ranked_pool2d(x, window, table=table)
                found += torch.autograd.grad(y, table, torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape))
            torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12, msg=lambda m, w=window: f"{w}: {m}")
            checked += 1
    assert checked > 0


@pytest.mark.parametrize("reducer", ["Max", "Avg", "Soft"])
def test_torch_librarys_gradient_is_that_of_eager_calls(reducer):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    numbers = native.window_numbers(pooling.Window((2, 2), (2, 2)), (4, 4))
    eager = native.pool2d(reducer, x, numbers, parameter=1.0)
    call = (x, None, None, None, None, native.NUMBER[reducer], numbers, [1.0, 0.0, 1.0], reducer == "Max")
    registered = torch.ops.poolzoo.pool2d.default(*call)[0]
    assert torch.equal(eager, registered)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (eager, registered)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("beside", [float("inf"), 1e12])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_shares_a_vector_with_a_window_changes_no_bit_of_it(case, size, beside):
    window = pooling.Window((size, size), (1, 1))
    # The last two channels stand where one thread had the 64 before them, and another had none.
    x = torch.rand(1, 130, 24, 24)
    x[:, 66:128] = beside
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(case.call(x.contiguous(memory_format=torch.channels_last), window))
    assert torch.equal(found[0].nan_to_num(), found[1].nan_to_num())
    # A row of few outputs is followed by the next image's.
    x = torch.rand(2, 1, 8, 8)
    alone = case.call(x[:1], window)
    x[1] = beside
    assert torch.equal(case.call(x, window)[:1], alone)


def kept_bytes(function, x):
    """What the backward pass keeps beside the input itself, in bytes."""
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        function(x.requires_grad_())
    return sum(t.numel() * t.element_size() for t in kept if t.data_ptr() != x.data_ptr()), kept


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("name", "bytes_per_output"),
    [*((name, 1) for name in ("max", "min", "median", "stochastic", "rsp", "max_dropout", "mixed")), ("avg", 0)],
)
def test_at_most_one_byte_per_output_is_kept(name, bytes_per_output, layout):
    x = torch.randn(2, 3, 12, 16).contiguous(memory_format=layout)
    operator = pooling.create(name, channels=3, kernel_size=2)
    kept, tensors = kept_bytes(operator, x)
    assert kept <= bytes_per_output * 2 * 3 * 6 * 8
    assert all(t.data_ptr() != x.data_ptr() for t in tensors), "the input is kept too"


def test_a_filter_keeps_its_weights_alone():
    kept, tensors = kept_bytes(lambda x: functional.blur_pool2d(x, 2, filter=3), torch.randn(2, 3, 12, 16))
    assert kept == 4 * 9
    assert len(tensors) == 1


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own reading
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reducer", native.REDUCERS)
def test_opcheck(reducer, layout):
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    call = given(reducer, x, 6)
    wide = {k: call[k].detach().double() if k in call else None for k in ("logits", "parameter", "table")}
    constant = {"Soft": {"parameter"}, "ScaledSum": set()}.get(reducer, {"table"})
    wide = {k: t if t is None or k in constant else t.requires_grad_() for k, t in wide.items()}
    window = native.window_numbers(pooling.Window((3, 2), (2, 1), (1, 1)), (3, 7))
    number = native.NUMBER[reducer]
    save = native.SLOPES if reducer == "Mixed" else native.TAPS if number in native.INDEXED else native.NOTHING
    arguments = (x, *wide.values(), call.get("seed"), number, window, [1.0, 0.01, 0.0], save)
    torch.library.opcheck(torch.ops.poolzoo.pool2d.default, arguments)


@pytest.mark.parametrize("reducer", CONSTANT)
def test_a_parameter_that_has_no_gradient_is_not_given_one(reducer):
    x = torch.randn(2, 3, 8, 8)
    call = given(reducer, x, 4)
    call["parameter"].requires_grad_()
    window = native.window_numbers(pooling.Window((2, 2), (2, 2)), (4, 4))
    y = native.pool2d(call.pop("reducer"), x, window, **call)
    with pytest.raises(RuntimeError, match="as constants"):
        y.sum().backward()


@pytest.mark.parametrize("native_pool", ["conv", "max"])
def test_a_filter_on_another_device_is_an_error(native_pool):
    # As of a network built on the meta device, whose state_dict holds no fixed filters.
    with torch.device("meta"):
        pool = pooling.create("blur", kernel_size=2, stride=2, native=native_pool)
    with pytest.raises(ValueError, match=r"the input is on cpu, .* on meta"):
        pool(torch.randn(1, 2, 8, 8))


def test_the_seed_alone_decides_a_draw_in_any_layout():
    x, key = torch.rand(2, 5, 9, 11), torch.tensor(77)
    first = functional.stochastic_pool2d(x, 3, 2, 1, seed=key)
    other = functional.stochastic_pool2d(x.contiguous(memory_format=torch.channels_last), 3, 2, 1, seed=key)
    with pooling.backend("composite"):
        third = functional.stochastic_pool2d(x, 3, 2, 1, seed=key)
    assert torch.equal(first, other)
    assert torch.equal(first, third)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(2, 3, 40, 40), (2, 37, 14, 14)])
@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 1), (17, 8)])
def test_indices_are_torchs_with_a_gradient_and_without(kernel, padding, size, layout):
    x = torch.randn(size).contiguous(memory_format=layout)
    window = pooling.Window((kernel, kernel), (2, 2), (padding, padding))
    numbers = native.window_numbers(window, window.output_size(*size[2:]))
    expected = torch.nn.functional.max_pool2d(x, kernel, 2, padding, return_indices=True)
    for leaf in (x, x.detach().requires_grad_()):
        found = native.max_with_indices(leaf, numbers)
        assert all(map(torch.equal, found, expected))
        assert found[1].is_contiguous(memory_format=layout)
    torch.library.opcheck(torch.ops.poolzoo.max_with_indices.default, (x, numbers))


class Cut(torch.autograd.Function):
    """The identity, through which no gradient comes: not zeros, none."""

    @staticmethod
    def forward(ctx, y):
        return y.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None


@pytest.mark.parametrize("name", ["max", "avg", "aps"])
def test_where_no_gradient_comes_there_is_none(name):
    operator, x = pooling.create(name, kernel_size=2, stride=2), torch.randn(2, 3, 8, 8, requires_grad=True)
    assert torch.autograd.grad(Cut.apply(operator(x)).sum(), x, allow_unused=True) == (None,)
