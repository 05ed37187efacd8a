"""Facts about single operators: limits, identities, what the papers promise."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor, nn

import pooling
from pooling import functional, philox
from pooling.geometry import Window
from tests.pooling.cases import Geometry, geometries


def image(geometry: Geometry, channels: int = 2) -> Tensor:
    return torch.randn(2, channels, geometry.height, geometry.width, dtype=torch.float64)


def member_mean(x: Tensor, window: Window) -> Tensor:
    return functional.avg_pool2d(x, window, count_include_pad=False)


def gradient(y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(y.sum(), x)[0]


# max, min, avg


@given(geometry=geometries())
def test_min_and_max_bound_every_mean(geometry: Geometry) -> None:
    x, window = image(geometry), geometry.window
    low, high = functional.min_pool2d(x, window) - 1e-12, functional.max_pool2d(x, window) + 1e-12
    for mean in (
        member_mean(x, window),
        functional.soft_pool2d(x, window),
        functional.mixed_pool2d(x, window, a=0.3),
        functional.stochastic_pool2d(x, window, negatives="shift"),
        functional.stochastic_pool2d(x, window, negatives="shift", training=False),
    ):
        assert ((low <= mean) & (mean <= high)).all()


@given(geometry=geometries())
def test_min_is_the_negative_of_max_of_the_negative(geometry: Geometry) -> None:
    x = image(geometry)
    assert torch.equal(functional.min_pool2d(x, geometry.window), -functional.max_pool2d(-x, geometry.window))


@pytest.mark.parametrize("name", ["max", "min"])
def test_of_tied_taps_the_first_gets_the_gradient(name: str) -> None:
    x = torch.tensor([[[[1.0, 5.0], [5.0, 5.0]]]]) * (1 if name == "max" else -1)
    x.requires_grad_()
    assert gradient(pooling.create(name)(x), x).tolist() == [[[[0, 1], [0, 0]]]]


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "circular"])
@given(geometry=geometries())
def test_max_indices_say_where_the_values_are(padding_mode: str, geometry: Geometry) -> None:
    x = image(geometry)
    pool = pooling.create("max", return_indices=True, padding_mode=padding_mode, **site(geometry))
    values, indices = pool(x)
    assert torch.equal(x.flatten(2).gather(2, indices.flatten(2)).view_as(values), values)


def site(geometry: Geometry) -> dict:
    return dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), geometry.arguments, strict=True))


@pytest.mark.parametrize("padding_mode", ["reflect", "circular"])
@pytest.mark.parametrize("name", ["max", "avg", "soft", "lp"])
def test_padding_modes_continue_the_input_as_torch_does(name: str, padding_mode: str) -> None:
    x = torch.rand(2, 3, 8, 6)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode=padding_mode)
    pool = pooling.create(name, kernel_size=3, stride=2, padding=1, padding_mode=padding_mode)
    torch.testing.assert_close(pool(x), pooling.create(name, kernel_size=3, stride=2)(padded))


# Limits of the families


@given(geometry=geometries())
def test_soft_runs_from_the_mean_to_max(geometry: Geometry) -> None:
    x, window = image(geometry), geometry.window
    torch.testing.assert_close(functional.soft_pool2d(x, window, beta=1e-9), member_mean(x, window))
    torch.testing.assert_close(functional.soft_pool2d(x, window, beta=1e9), functional.max_pool2d(x, window))


def test_soft_neither_overflows_nor_turns_constants_into_anything_else() -> None:
    for value in (0.0, 1e4, -1e4, 3e38, -3e38):
        x = torch.full((1, 1, 4, 4), value)
        torch.testing.assert_close(functional.soft_pool2d(x, 2), x[..., :2, :2])


def test_the_gradient_of_soft_is_w_times_1_plus_beta_x_minus_y() -> None:
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    y = functional.soft_pool2d(x, 2, beta=1.7)
    w = (1.7 * x).flatten().softmax(0).view_as(x)
    torch.testing.assert_close(gradient(y, x), (w * (1 + 1.7 * (x - y))).detach())


@given(geometry=geometries())
def test_lp_runs_from_the_mean_magnitude_to_the_largest(geometry: Geometry) -> None:
    x, window = image(geometry), geometry.window
    torch.testing.assert_close(functional.lp_pool2d(x, window, p=1), member_mean(x.abs(), window))
    torch.testing.assert_close(functional.lp_pool2d(x, window, p=2), member_mean(x**2, window).sqrt())
    largest = functional.max_pool2d(x.abs(), window)
    torch.testing.assert_close(functional.lp_pool2d(x, window, p=1e6), largest, rtol=1e-5, atol=0)
    torch.testing.assert_close(functional.lp_pool2d(x, window, p=3), functional.lp_pool2d(-x, window, p=3))


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, 50.0])
def test_lp_neither_overflows_nor_underflows(p: float) -> None:
    x = torch.rand(1, 1, 4, 4) + 0.1
    y = functional.lp_pool2d(x, 2, p=p)
    for scale in (1e-30, 1e30):
        torch.testing.assert_close(functional.lp_pool2d(x * scale, 2, p=p) / scale, y)


@pytest.mark.parametrize(
    "options", [{"p": 1}, {"p": 1.5}, {"p": 2}, {"p": 3, "normalize": False}, {"learn_p": "layer"}]
)
def test_the_gradient_of_lp_at_an_all_zero_window_is_0(options: dict) -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[..., 2:] = 1.0
    x.requires_grad_()
    pool = pooling.create("lp", **options)
    y = pool(x)
    slope = gradient(y, x)
    assert (slope[..., :2] == 0).all()
    assert (slope[..., 2:] > 0).all()
    if pool.theta is not None:
        assert torch.autograd.grad(pool(x).sum(), pool.theta)[0].isfinite()


@pytest.mark.parametrize("p", [1.01, 2.0, 3.5, 20.0])
def test_a_learned_p_starts_where_it_is_told(p: float) -> None:
    torch.testing.assert_close(pooling.create("lp", p=p, learn_p="layer").p.item(), p)
    assert pooling.create("lp", p=p, learn_p="channel", channels=5).p.shape == (5, 1, 1)
    with pytest.raises(ValueError, match="lp: p must be > 1 where it is learned"):
        pooling.create("lp", p=1, learn_p="layer")


@given(geometry=geometries())
def test_mixed_runs_from_the_mean_to_max(geometry: Geometry) -> None:
    x, window = image(geometry), geometry.window
    torch.testing.assert_close(functional.mixed_pool2d(x, window, a=0.0), member_mean(x, window))
    torch.testing.assert_close(functional.mixed_pool2d(x, window, a=1.0), functional.max_pool2d(x, window))


def test_a_learned_mixture_starts_as_half_and_half_and_learns() -> None:
    x = torch.randn(2, 3, 6, 6)
    pool = pooling.create("mixed", a="learned", per="channel", channels=3)
    torch.testing.assert_close(pool(x), pooling.create("mixed", a=0.5)(x))
    assert (torch.autograd.grad(pool(x).sum(), pool.theta)[0] > 0).all()  # max >= mean: more of it gives more


def test_a_random_mixture_is_max_or_mean_a_channel_or_layer_at_a_time() -> None:
    x = torch.randn(1, 64, 8, 8)
    top, mean = functional.max_pool2d(x, 2), functional.avg_pool2d(x, 2)

    def is_max(y: Tensor) -> list[bool]:
        chosen = [torch.allclose(y[:, c], top[:, c]) for c in range(64)]
        assert all(m or torch.allclose(y[:, c], mean[:, c]) for c, m in enumerate(chosen))
        return chosen

    each = is_max(pooling.create("mixed", a="random", per="channel", channels=64)(x))
    assert 10 < sum(each) < 54
    layer = pooling.create("mixed", a="random")
    whole = [sum(is_max(layer(x))) for _ in range(40)]
    assert set(whole) == {0, 64}
    torch.testing.assert_close(layer.eval()(x), (top + mean) / 2)


# stochastic


def equal_windows(count: int) -> Tensor:
    return torch.ones(1, 1, 2, 2 * count)


def test_of_four_equal_values_each_tap_is_drawn_a_quarter_of_the_time() -> None:
    x = equal_windows(8000).requires_grad_()
    drawn = gradient(functional.stochastic_pool2d(x, 2), x).view(2, 8000, 2)
    assert (drawn.sum(dim=(0, 2)) == 1).all()
    assert chisquare(drawn.sum(dim=1).flatten()).pvalue > 1e-4


def test_neighbouring_windows_channels_and_images_are_drawn_independently() -> None:
    x = torch.ones(20, 20, 2 * 10, 2 * 10).requires_grad_()
    drawn = gradient(functional.stochastic_pool2d(x, 2), x).view(20, 20, 10, 2, 10, 2).permute(3, 5, 0, 1, 2, 4)
    tap = drawn.flatten(0, 1).argmax(dim=0)
    for dim in range(4):
        pairs = 4 * tap.narrow(dim, 0, tap.shape[dim] - 1) + tap.narrow(dim, 1, tap.shape[dim] - 1)
        assert chisquare(pairs.flatten().bincount(minlength=16)).pvalue > 1e-4


@given(seed=st.integers(-(2**63), 2**63 - 1), geometry=geometries())
def test_a_draw_is_a_positive_member_and_gets_all_of_the_gradient(seed: int, geometry: Geometry) -> None:
    x = image(geometry).requires_grad_()
    y = functional.stochastic_pool2d(x, geometry.window, seed=torch.tensor(seed))
    top = functional.max_pool2d(x, geometry.window)
    assert (y[top <= 0] == 0).all()
    assert (y[top > 0] > 0).all()
    # A linear function of the drawn taps alone: the gradient times x gives the values back, and is 1 per draw.
    slope = gradient(y, x)
    torch.testing.assert_close((slope * x).sum(), y.sum())
    assert slope.sum() == (top > 0).sum()
    assert (slope[x <= 0] == 0).all()


@pytest.mark.parametrize(
    "uniform, seed, index, window, drawn",
    [
        (0.0, 20524, 1552, [[0, 8], [8, 8]], [[0, 1], [0, 0]]),
        (0.25, 19491, 1855, [[8, 8], [8, 8]], [[0, 1], [0, 0]]),
        (0.5, 402, 1900, [[8, 8], [8, 8]], [[0, 0], [1, 0]]),
        (0.75, 4738, 710, [[8, 8], [8, 8]], [[0, 0], [0, 1]]),
    ],
)
def test_a_number_at_the_edge_of_two_taps_draws_the_second(uniform, seed, index, window, drawn) -> None:
    assert philox.uniform(torch.tensor(seed), 1, index).item() == uniform
    x = torch.tensor(window).float().repeat(1, index + 1)[None, None].requires_grad_()
    slope = gradient(functional.stochastic_pool2d(x, 2, seed=torch.tensor(seed)), x)
    assert slope[0, 0, :, 2 * index :].tolist() == drawn


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_an_all_nonpositive_window_gives_0_and_no_gradient(value: float, training: bool) -> None:
    x = torch.full((1, 1, 4, 4), value, requires_grad=True)
    for rule in ("weighted", "max", "avg"):
        y = functional.stochastic_pool2d(x, 2, training=training, eval=rule)
        assert (y == 0).all()
        assert (gradient(y, x) == 0).all()


def test_zeros_are_never_drawn_beside_a_positive_value() -> None:
    x = torch.zeros(1, 1, 3, 3 * 4000)
    x[..., 2, 1::3] = 1e-20
    assert (functional.stochastic_pool2d(x, 3) > 0).all()


def test_eval_is_the_expectation_of_the_draw() -> None:
    x = torch.randn(1, 4, 2, 2, dtype=torch.float64)
    draws = torch.stack([functional.stochastic_pool2d(x, 2, seed=torch.tensor(seed)) for seed in range(1000)])
    expectation = functional.stochastic_pool2d(x, 2, training=False)
    assert ((draws.mean(dim=0) - expectation).abs() < 5 * draws.std(dim=0) / math.sqrt(1000) + 1e-12).all()


def test_eval_rules() -> None:
    x = torch.rand(1, 2, 6, 6)
    rules = {rule: functional.stochastic_pool2d(x, 2, training=False, eval=rule) for rule in ("weighted", "max", "avg")}
    torch.testing.assert_close(rules["max"], functional.max_pool2d(x, 2))
    torch.testing.assert_close(rules["avg"], functional.avg_pool2d(x, 2))
    torch.testing.assert_close(rules["weighted"], functional.avg_pool2d(x**2, 2) / functional.avg_pool2d(x, 2))


def test_shifted_draws_move_with_the_input() -> None:
    x, seed = torch.randint(0, 9, (2, 3, 6, 6)).double(), torch.tensor(5)
    drawn = functional.stochastic_pool2d(x, 2, seed=seed, negatives="shift")
    assert torch.equal(functional.stochastic_pool2d(x - 32, 2, seed=seed, negatives="shift"), drawn - 32)


def test_negative_inputs_can_be_refused() -> None:
    pool = pooling.create("stochastic", negatives="error")
    pool(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"must not be negative with negatives='error', got -0\.5"):
        pool(torch.tensor([[[[1.0, -0.5], [2.0, 3.0]]]]))


@given(seed=st.integers(-(2**63), 2**63 - 1))
def test_a_sample_depends_on_seed_and_index_alone(seed: int) -> None:
    x = torch.rand(4, 6, 9, 8)
    whole = functional.stochastic_pool2d(x, 3, 2, 1, seed=torch.tensor(seed))
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(functional.stochastic_pool2d(last, 3, 2, 1, seed=torch.tensor(seed)), whole)
    # The first images of a batch keep their indices without the others.
    assert torch.equal(functional.stochastic_pool2d(x[:2], 3, 2, 1, seed=torch.tensor(seed)), whole[:2])
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        assert torch.equal(functional.stochastic_pool2d(x, 3, 2, 1, seed=torch.tensor(seed)), whole)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("negatives", ["relu", "shift"])
def test_a_sample_is_the_same_on_cuda(dtype: torch.dtype, negatives: str) -> None:
    x, seed = torch.randn(8, 16, 31, 30).to(dtype), torch.tensor(2**40 + 7)
    near = functional.stochastic_pool2d(x, 3, 2, 1, seed=seed, negatives=negatives)
    for layout in (torch.contiguous_format, torch.channels_last):
        far = x.cuda().contiguous(memory_format=layout)
        assert torch.equal(
            functional.stochastic_pool2d(far, 3, 2, 1, seed=seed.cuda(), negatives=negatives).cpu(), near
        )


# Ranks


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["rap", "rwp", "rsp", "max_dropout"])
def test_weights_by_rank_are_not_rounded_with_the_module(name: str, training: bool) -> None:
    x = torch.randn(2, 3, 9, 9)
    pools = [pooling.create(name, kernel_size=3).train(training) for _ in range(3)]
    with torch.device("meta"):
        pools.append(pooling.create(name, kernel_size=3).train(training))
    given = pools[0], pools[1].to(torch.bfloat16), pools[2].to(torch.bfloat16).double(), pools[3].to_empty(device="cpu")
    outputs = []
    for pool in given:
        torch.manual_seed(0)
        outputs.append((pool(x), pool(x.double())))
    for y, exact in outputs:
        assert torch.equal(y, outputs[0][0])
        assert torch.equal(exact, outputs[0][1])


# Learned


@pytest.mark.parametrize("padding", [0, 1])
def test_lenet_s_subsampling_starts_as_average_pooling(padding: int) -> None:
    x = torch.randn(2, 5, 9, 8)
    pool = pooling.create("subsample_scaled", channels=5, kernel_size=3, stride=2, padding=padding)
    torch.testing.assert_close(pool(x), nn.AvgPool2d(3, 2, padding)(x))
    assert sum(p.numel() for p in pool.parameters()) == 2 * 5


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (4,), (5, 1, 1)])
def test_lenet_s_subsampling_needs_a_scale_and_a_bias_for_each_channel(shape: tuple[int, ...], learned: bool) -> None:
    right, wrong = torch.ones(5, requires_grad=learned), torch.ones(shape, requires_grad=learned)
    for scale, bias in ((right, wrong), (wrong, right)):
        with pytest.raises(ValueError, match="one number for each of the input's 5 channels"):
            functional.subsample_scaled2d(torch.randn(2, 5, 8, 8), 2, scale=scale, bias=bias)


def test_constant_scales_leave_lenet_s_subsampling_twice_differentiable() -> None:
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    scale, bias = torch.tensor([0.5, -2.0]), torch.tensor([1.0, 3.0])
    pool = partial(functional.subsample_scaled2d, kernel_size=2, scale=scale, bias=bias)
    assert torch.autograd.gradcheck(pool, x)
    assert torch.autograd.gradgradcheck(pool, x)


@pytest.mark.parametrize("backend", ["native", "composite"])
def test_zeros_beside_an_infinity_get_no_gradient_of_a_norm(backend: str) -> None:
    x = torch.tensor([[torch.inf, 0.0], [0.0, 1.0]]).view(1, 1, 2, 2).requires_grad_()
    with pooling.backend(backend):
        functional.lp_pool2d(x, 2, p=3.0).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten()[1:3].tolist() == [0, 0]


@pytest.mark.parametrize("depthwise, weights", [(False, 4 * 4 * 6), (True, 4 * 6)])
def test_conv_is_torch_s_strided_convolution(depthwise: bool, weights: int) -> None:
    x = torch.randn(2, 4, 9, 8)
    pool = pooling.create("conv", channels=4, kernel_size=(3, 2), stride=2, padding=1, depthwise=depthwise)
    conv = nn.Conv2d(4, 4, (3, 2), 2, padding=1, groups=4 if depthwise else 1)
    conv.load_state_dict(pool.conv.state_dict())
    assert conv.weight.numel() == weights
    torch.testing.assert_close(pool(x), conv(x))


# Downsamplers


@pytest.mark.parametrize("native", ["max", "avg"])
@given(geometry=geometries())
def test_subsampling_what_stood_there_densely_is_what_stood_there(native: str, geometry: Geometry) -> None:
    x = image(geometry)
    y = pooling.create("subsample", native=native, **site(geometry))(x)
    torch.testing.assert_close(y, pooling.create(native, **site(geometry))(x))


@pytest.mark.parametrize("name", ["subsample", "blur", "aps"])
def test_at_stride_1_a_max_site_that_is_not_filtered_is_max_pooling(name: str) -> None:
    x = torch.rand(2, 3, 7, 6)
    y = pooling.create(name, kernel_size=3, stride=1, padding=1)(x)
    dense = functional.max_pool2d(x, 3, 1, 1)
    torch.testing.assert_close(y, functional.blur_pool2d(dense, 1) if name == "blur" else dense)


filters = st.integers(2, 7)


@given(length=filters)
def test_a_blur_filter_sums_to_1_and_is_symmetric(length: int) -> None:
    row = functional.binomial_row(length)
    assert len(row) == length
    assert row.sum() == 1
    assert torch.equal(row, row.flip(0))


@pytest.mark.parametrize("native", ["max", "avg", "conv"])
@given(length=filters, geometry=geometries(), pad_mode=st.sampled_from(["reflect", "circular"]))
def test_blur_keeps_constants(native: str, length: int, geometry: Geometry, pad_mode: str) -> None:
    # Without padding, which an average counts as zeros.
    window = geometry.window.unpadded()
    arguments = {name: getattr(window, name) for name in ("kernel_size", "stride", "dilation")}
    x = torch.full((1, 2, geometry.height + 8, geometry.width + 8), 3.25)
    y = pooling.create("blur", filter=length, pad_mode=pad_mode, native=native, **arguments)(x)
    torch.testing.assert_close(y, torch.full_like(y, 3.25))


@given(length=filters, size=st.tuples(st.integers(2, 5), st.integers(2, 5)))
def test_blur_takes_the_nyquist_checkerboard_to_0(length: int, size: tuple[int, int]) -> None:
    rows, columns = (2 * n for n in size)
    board = (-1.0) ** (torch.arange(rows)[:, None] + torch.arange(columns))
    for x in (board, board[:1].expand(rows, -1), board[:, :1].expand(-1, columns)):
        y = functional.blur_pool2d(x[None, None], 2, filter=length, pad_mode="circular")
        torch.testing.assert_close(y, torch.zeros_like(y))
        assert functional.blur_pool2d(x[None, None], 2, filter=torch.ones(1)).abs().min() == 1  # plain striding


@given(length=filters, roll=st.tuples(st.integers(0, 7), st.integers(0, 5)))
def test_a_circular_blur_commutes_with_rolls_by_its_stride(length: int, roll: tuple[int, int]) -> None:
    x = torch.randn(1, 2, 8, 6)
    pool = pooling.create("blur", filter=length, padding_mode="circular")
    rolled = pool(x.roll((2 * roll[0], 2 * roll[1]), (2, 3)))
    torch.testing.assert_close(rolled, pool(x).roll(roll, (2, 3)))


@pytest.mark.parametrize("stride", [2, 3, (2, 3)])
@pytest.mark.parametrize("norm", [1, 2, "inf"])
@pytest.mark.parametrize("native", ["max", "avg", "conv"])
def test_aps_commutes_with_every_circular_roll(stride, norm, native: str) -> None:
    if (norm, native) == ("inf", "max"):
        pytest.skip("the largest value of a dense max stands in several components: see the next test")
    sh, sw = stride if isinstance(stride, tuple) else (stride, stride)
    x = torch.randn(2, 3, 2 * sh, 3 * sw)
    arguments = {"kernel_size": 2, "stride": stride, "padding": 1, "padding_mode": "circular", "native": native}
    for options in ({}, {"filter": 3}):
        pool = pooling.create("aps", norm=norm, **options, **arguments)
        y, phase = pool(x, return_phase=True)
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                rolled, rolled_phase = pool(x.roll((i, j), (2, 3)), return_phase=True)
                for n in range(2):
                    # The grid moves with the image: by as many samples as the roll carries its first one past 0.
                    row, column = divmod(phase[n].item(), sw)
                    assert rolled_phase[n] == (row + i) % sh * sw + (column + j) % sw
                    shift = (row + i) // sh, (column + j) // sw
                    torch.testing.assert_close(rolled[n], y[n].roll(shift, (1, 2)))


def test_at_a_max_site_the_inf_norm_of_aps_always_ties() -> None:
    dense = functional.max_pool2d(torch.randn(4, 3, 9, 9), 2, 1)
    components = torch.stack([dense[..., i::2, j::2] for i in range(2) for j in range(2)])
    assert ((components.abs().flatten(2).amax(dim=2) == dense.abs().flatten(1).amax(dim=1)).sum(dim=0) > 1).all()


def test_a_filter_is_a_row_or_a_square() -> None:
    x, row = torch.randn(2, 3, 9, 8), torch.tensor([1.0, 2.0, 3.0])
    y = functional.blur_pool2d(x, 2, filter=row)
    assert torch.equal(functional.blur_pool2d(x, 2, filter=torch.outer(row, row)), y)
    for shape in ((), (1, 3), (3, 5), (3, 3, 3)):
        with pytest.raises(ValueError, match="a length, a row of weights or a square"):
            functional.blur_pool2d(x, 2, filter=torch.ones(shape))


@pytest.mark.parametrize("name", ["max", "avg", "subsample", "blur"])
def test_what_strides_at_fixed_places_does_not(name: str) -> None:
    pool = pooling.create(name, padding_mode="circular")
    x = torch.randn(1, 1, 8, 8)
    y, rolled = pool(x), pool(x.roll(1, 3))
    assert all(
        (rolled - y.roll(shift, (2, 3))).abs().max() > 0.1 for shift in ((i, j) for i in range(4) for j in range(4))
    )


@pytest.mark.parametrize("name", ["gap", "gmp", "avgmax"])
def test_aps_and_a_global_pool_give_the_same_whatever_the_roll(name: str) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"),
        pooling.create("aps", padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        pooling.create("aps", padding_mode="circular", native="conv"),
        pooling.create(name, channels=4),
    ).double()
    x = torch.randn(1, 1, 8, 12, dtype=torch.float64)
    for i in range(8):
        for j in range(12):
            torch.testing.assert_close(network(x.roll((i, j), (2, 3))), network(x))


def test_aps_keeps_the_component_of_largest_norm_of_each_image() -> None:
    x = torch.full((4, 2, 6, 6), 0.1)
    for n, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        x[n, :, i::2, j::2] = -n - 1.0
    y, phase = functional.polyphase_pool2d(x, 2)
    assert phase.tolist() == [0, 1, 2, 3]
    assert torch.equal(y, torch.tensor([-1.0, -2.0, -3.0, -4.0]).view(4, 1, 1, 1).expand(4, 2, 3, 3))


def test_ties_go_to_the_lowest_phase() -> None:
    assert functional.polyphase_pool2d(torch.ones(2, 1, 4, 6), (2, 3))[1].tolist() == [0, 0]


def test_the_norms_of_aps_differ() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0::2, 0::2] = 2.0  # sum 8, root of squares 4, largest 2
    x[0, 0, 0, 1], x[0, 0, 2, 3] = 3.0, 3.0  # sum 6, root of squares sqrt(18), largest 3
    x[0, 0, 1, 0] = 4.0  # sum 4, root of squares 4, largest 4
    phases = [pooling.create("aps", norm=norm, native="conv")(x, return_phase=True)[1] for norm in (1, 2, "inf")]
    assert [phase.item() for phase in phases] == [0, 1, 2]


def test_a_shortcut_uses_the_phase_of_its_main_branch() -> None:
    main, shortcut = torch.randn(3, 4, 6, 6), torch.randn(3, 2, 6, 6)
    pool = pooling.create("aps", native="conv")
    _, phase = pool(main, return_phase=True)
    y, used = pool(shortcut, phase=phase, return_phase=True)
    assert torch.equal(used, phase)
    for n in range(3):
        i, j = divmod(phase[n].item(), 2)
        assert torch.equal(y[n], shortcut[n, :, i::2, j::2])
    assert torch.equal(pool(shortcut, phase=phase), y)


# Seeds


def test_one_seed_is_drawn_per_call_from_the_input_s_generator() -> None:
    x = torch.rand(1, 2, 6, 6)
    pool = pooling.create("stochastic")
    torch.manual_seed(11)
    first, second = pool(x), pool(x)
    torch.manual_seed(11)
    seeds = [philox.draw_seed(x.device) for _ in range(2)]
    assert torch.equal(first, functional.stochastic_pool2d(x, 2, seed=seeds[0]))
    assert torch.equal(second, functional.stochastic_pool2d(x, 2, seed=seeds[1]))
    assert not torch.equal(first, second)
