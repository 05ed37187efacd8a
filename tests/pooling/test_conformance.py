"""One suite over the registry: what every operator must pass, whatever it computes.

An operator is tested by being registered; variants of its options are in `cases.py`, its definition in
`definitions.py`. What an operator need not pass is in EXCEPTIONS, each with its reason.
"""

import copy
import io
import itertools
import pickle

import numpy as np
import pytest
import torch
import torch._inductor.config
from hypothesis import given, settings
from scipy.stats import chisquare
from torch import Tensor, nn

import pooling
from pooling import philox, reference
from pooling.geometry import Window
from tests.pooling.cases import CASES, CHANNELS, SITES, Case, Geometry, geometries
from tests.pooling.definitions import DEFINITIONS

# (check, operator or case): why it does not hold there.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("autocast", "conv"): "autocast lowers a convolution to half precision: that is its purpose",
    ("half", "conv"): "a convolution refuses an input of another dtype than its weights, as torch's does",
    ("autocast", "lip"): "autocast lowers the convolution that predicts the logits: that is its purpose",
    ("autocast", "ddac"): "autocast lowers the convolution that predicts the filters: that is its purpose",
    ("autocast", "space_to_depth"): "autocast lowers a convolution to half precision: that is its purpose",
    ("size", "fractional-ratio=1.4-method=random-overlapping=False"): "a ratio sets the size",
    ("size", "spectral-size=3"): "it is given",
    ("size", "spectral-size=9"): "it is given",
    ("nan", "s3"): "which windows are kept is drawn, and in eval mode neighbours are averaged",
    ("nan", "fractional"): "its cells are not the windows",
    ("nan", "lip"): "the logits are normalised over the whole map",
    ("frequencies", "fractional"): "it draws bounds, not values: test_facts counts those",
    ("frequencies", "lps"): "it draws weights, not values: test_facts counts the largest",
    **{
        (check, name): "a layer with matrix products, which takes its weights' dtype and follows autocast as torch's do"
        for check in ("autocast", "half")
        for name in ("map", "simpool", "covariance-features=2", "transposed_conv", "ppm", "aspp")
    },
    **{("frequencies", name): "random by torch's dropout alone" for name in ("ppm", "aspp")},
    **{
        ("compile", f"{name}-padding_mode={mode}"): "a small network that takes seconds; compiled with zeros"
        for name, mode in (("ppm", "circular"), ("aspp", "reflect"))
    },
    ("compile", "stochastic-negatives=error"): "whether to raise depends on the values; a compiled graph cannot look",
    ("second gradient", "roi_pool"): "torchvision's backward is not differentiable",
    ("second gradient", "roi_align"): "torchvision's backward is not differentiable",
    ("second gradient", "ps_roi_pool"): "torchvision's backward is not differentiable",
    ("second gradient", "ps_roi_align"): "torchvision's backward is not differentiable",
    ("image", "roi_pool"): "a box names an image of a batch",
    ("image", "roi_align"): "a box names an image of a batch",
    ("image", "ps_roi_pool"): "a box names an image of a batch",
    ("image", "ps_roi_align"): "a box names an image of a batch",
    ("export", "stochastic-negatives=error"): "whether to raise depends on the values; an exported graph cannot look",
}

WINDOW = Window.of((3, 2), (2, 1), 1)
SHAPE = (2, CHANNELS, 7, 6)


def over(check: str, cases: list[Case] = CASES) -> pytest.MarkDecorator:
    """Parametrise over the cases that the check has no exception for."""
    held = [c for c in cases if (check, c.name) not in EXCEPTIONS and (check, str(c)) not in EXCEPTIONS]
    return pytest.mark.parametrize("case", held, ids=lambda case: f"{case.kind}-{case}")


WINDOWED = [case for case in CASES if case.windowed]
REDUCERS = [case for case in CASES if case.kind == "reducer"]
RANDOM = [case for case in CASES if pooling.info(case.name, case.kind).random]


def seeded(operator: nn.Module, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return operator(x)


def modes(operator: nn.Module) -> list[nn.Module]:
    """The operator in training mode and in eval mode, with the same parameters."""
    return [copy.deepcopy(operator).train(), copy.deepcopy(operator).eval()]


def differing_modes(case: Case) -> range:
    """Indices into `modes`, training alone for operators that do the same in both: for checks that take long."""
    if case.kind == "context":
        return range(
            1, 2
        )  # in training two values are normalised by their own variance, which has no gradient to speak of
    return range(2 if pooling.info(case.name, case.kind).random else 1)


def expected(operator: nn.Module, case: Case, x: Tensor, window: Window) -> Tensor:
    """The definition's value, with the uniform numbers that `seeded` makes the operator draw."""
    torch.manual_seed(0)
    seed = philox.draw_seed(x.device).item()
    uniforms = (lambda count: reference.uniform(seed, count)) if operator.training else None
    near = copy.deepcopy(operator).cpu()
    return torch.from_numpy(DEFINITIONS[case.kind, case.name](near, case, x.cpu().numpy(), window, uniforms)).to(x)


# 1. Values


def test_every_operator_has_a_definition() -> None:
    ours = {(case.kind, case.name) for case in CASES if pooling.info(case.name, case.kind).ours}
    missing = ours - DEFINITIONS.keys()
    missing = {(kind, name) for kind, name in missing if ("values", name) not in EXCEPTIONS}
    assert not missing, f"no NumPy definition in tests/pooling/definitions.py, and no exception: {missing}"


def test_every_kind_has_cases_of_this_suite() -> None:
    assert {case.kind for case in CASES} <= {
        "reducer",
        "downsampler",
        "global",
        "adaptive",
        "upsample",
        "context",
        "region",
    }


@over("values", [case for case in CASES if (case.kind, case.name) in DEFINITIONS])
@settings(max_examples=20)
@given(geometry=geometries())
def test_values_are_those_of_the_numpy_definition(case: Case, geometry: Geometry) -> None:
    x = case.values(2, CHANNELS, *geometry.input_size(case))
    for operator in modes(case.create(geometry.window)):
        torch.testing.assert_close(
            seeded(operator, x), expected(operator, case, x, geometry.window), rtol=1e-10, atol=1e-12
        )


@given(geometry=geometries())
def test_max_equals_torch_bit_for_bit(geometry: Geometry) -> None:
    x = torch.randn(2, CHANNELS, geometry.height, geometry.width)
    theirs = torch.nn.functional.max_pool2d(x, *geometry.arguments, return_indices=True)
    ours = pooling.functional.max_pool2d(x, geometry.window, return_indices=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert torch.equal(pooling.functional.max_pool2d(x, geometry.window), theirs[0])


@given(geometry=geometries(dilations=1))
def test_avg_equals_torch_bit_for_bit(geometry: Geometry) -> None:
    x = torch.randn(2, CHANNELS, geometry.height, geometry.width)
    kernel, stride, padding, _, ceil_mode = geometry.arguments
    for count_include_pad, divisor in itertools.product((True, False), (None, 5)):
        theirs = torch.nn.functional.avg_pool2d(x, kernel, stride, padding, ceil_mode, count_include_pad, divisor)
        ours = pooling.functional.avg_pool2d(
            x, geometry.window, count_include_pad=count_include_pad, divisor_override=divisor
        )
        assert torch.equal(ours, theirs)


# 2. Gradients


def differentiable(case: Case, mode: int) -> tuple:
    """The operator as a function of x and its parameters, and those, small enough for numerical gradients."""
    operator = modes(case.create(WINDOW))[mode]
    x = case.values(1, CHANNELS, 4, 3)
    names, parameters = zip(*operator.named_parameters(), strict=True) if list(operator.parameters()) else ((), ())

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        torch.manual_seed(0)
        return torch.func.functional_call(operator, dict(zip(names, parameters, strict=True)), (x,))

    return function, tuple(t.detach().clone().requires_grad_() for t in (x, *parameters))


@over("gradient")
def test_gradients_are_those_of_the_definition(case: Case) -> None:
    for mode in differing_modes(case):
        function, inputs = differentiable(case, mode)
        # In directions drawn at random where there are many numbers, instead of number by number.
        assert torch.autograd.gradcheck(function, inputs, fast_mode=sum(t.numel() for t in inputs) > 200)


@over("second gradient")
def test_second_gradients_are_those_of_the_definition(case: Case) -> None:
    for mode in differing_modes(case):
        assert torch.autograd.gradgradcheck(*differentiable(case, mode), fast_mode=True)


# 3. Output size


@over("size", WINDOWED)
@given(geometry=geometries())
def test_the_output_has_max_pool_s_size(case: Case, geometry: Geometry) -> None:
    x = case.values(1, CHANNELS, *geometry.input_size(case))
    size = torch.nn.functional.max_pool2d(torch.zeros(1, geometry.height, geometry.width), *geometry.arguments).shape
    if case.kind == "downsampler":
        (sh, sw), (H, W) = geometry.window.stride, x.shape[2:]
        if case.native == "conv" or case.padding_mode == "circular":
            size = (-1, -(-H // sh), -(-W // sw))
    assert case.create(geometry.window)(x).shape == (1, CHANNELS, *size[1:])


@given(geometry=geometries(ceil_modes=(False,)))
def test_at_a_convolution_site_the_output_has_the_strided_convolution_s_size(geometry: Geometry) -> None:
    kernel, stride, padding, dilation, _ = geometry.arguments
    strided = nn.Conv2d(1, 1, kernel, stride, padding, dilation)
    dense = nn.Conv2d(1, 1, kernel, 1, padding, dilation)
    x = torch.zeros(1, 1, geometry.height, geometry.width)
    for name in pooling.names("downsampler"):
        operator = Case("downsampler", name, {"native": "conv"}).create(geometry.window, channels=1)
        assert operator(dense(x).double()).shape == strided(x).shape


@over("size", [case for case in CASES if case.kind == "global"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 2)])
def test_a_head_has_out_features_for_any_size(case: Case, size: tuple[int, int]) -> None:
    operator = case.create()
    assert operator(case.values(2, CHANNELS, *size)).shape == (2, operator.out_features)


@over("size", [case for case in CASES if case.kind == "adaptive"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 2)])
def test_an_adaptive_pool_gives_the_size_it_is_told(case: Case, size: tuple[int, int]) -> None:
    told = case.option("output_size")
    y = case.create()(case.values(2, CHANNELS, *size))
    assert y.shape == (2, CHANNELS, *(told if isinstance(told, tuple) else (told, told)))


@over("size", [case for case in CASES if case.kind == "upsample"])
@given(geometry=geometries(dilations=1, ceil_modes=(False,)))
def test_an_upsampling_partner_gives_the_size_it_is_told_or_one_that_its_pool_maps_to_the_input_s(
    case: Case, geometry: Geometry
) -> None:
    window, (H, W) = geometry.window, (geometry.height, geometry.width)
    undone = case.create(window)
    operator, x = undone.operator, case.values(2, CHANNELS, *window.output_size(H, W))
    if operator.choice == "indices":
        _, choice = pooling.functional.max_pool2d(case.values(2, CHANNELS, H, W), window, return_indices=True)
    else:
        choice = undone.choice(x)
    channels = 2 if case.arguments else CHANNELS
    assert operator(x, choice, size=(H, W)).shape == (2, channels, H, W)
    (h, w), (sh, sw) = x.shape[2:], window.stride
    size = (h * sh, w * sw)
    if case.name in ("max_unpool", "transposed_conv"):
        size = operator.window_size(h, w)
        assert min(size) < 1 or window.output_size(*size) == (h, w)
    if min(size) < 1:
        with refused(case, ValueError, "size must be two positive numbers"):
            operator(x, choice)
    elif operator.choice != "indices" or choice.max() < size[0] * size[1]:
        assert operator(x, choice).shape == (2, channels, *size)


@over("size", [case for case in CASES if case.kind == "context"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 2)])
def test_context_keeps_the_size(case: Case, size: tuple[int, int]) -> None:
    channels = case.option("out_channels") or CHANNELS
    for operator in modes(case.create()):
        assert operator(case.values(2, CHANNELS, *size)).shape == (2, channels, *size)


# 4. Memory formats


@over("layout")
def test_every_layout_gives_the_same_values_and_is_kept(case: Case) -> None:
    x = case.values(*SHAPE)
    wide = torch.zeros(SHAPE[0], 2 * CHANNELS, SHAPE[2] + 1, SHAPE[3]).double()
    wide[:, ::2, 1:] = x
    layouts = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(2, 3).contiguous().transpose(2, 3),
        "sliced": wide[:, ::2, 1:],
    }
    for operator in modes(case.create(WINDOW)):
        y = seeded(operator, x)
        assert y.is_contiguous()
        for name, same in layouts.items():
            before = same.clone()
            y_same = seeded(operator, same)
            torch.testing.assert_close(y_same, y, rtol=1e-12, atol=1e-14, msg=f"{name}: {{}}".format)
            assert torch.equal(same, before), "the input was written to"
            if name == "channels_last" and y.dim() == 4:
                assert y_same.is_contiguous(memory_format=torch.channels_last)


@over("layout")
def test_an_input_of_one_value_repeated_without_memory_of_its_own(case: Case) -> None:
    x = case.values(1, CHANNELS, 1, 1).expand(2, CHANNELS, 7, 6)
    operator = case.create(WINDOW)
    torch.testing.assert_close(seeded(operator, x), seeded(operator, x.contiguous()), rtol=1e-12, atol=1e-14)


# 5. Dtypes, autocast, empty batches, (C, H, W)


@over("dtype")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(case: Case, dtype: torch.dtype) -> None:
    x = case.values(*SHAPE).to(dtype)
    for operator in modes(case.create(WINDOW)):
        y = seeded(copy.deepcopy(operator).to(dtype), x)
        assert y.dtype == dtype
        # The same numbers in float32, for the same draw; parameters have been rounded too.
        wide = seeded(operator.to(dtype).float(), x.float())
        epsilon = 2 * torch.finfo(dtype).eps * (4 if case.kind == "context" else 1)  # layers, each of which rounds
        torch.testing.assert_close(y.float(), wide, rtol=epsilon, atol=epsilon)


@over("half")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_beside_float32_parameters(case: Case, dtype: torch.dtype) -> None:
    x = case.values(*SHAPE).to(dtype).requires_grad_()
    for operator in modes(case.create(WINDOW).float()):
        y = seeded(operator, x)
        torch.testing.assert_close(y, seeded(operator, x.float()).to(dtype))
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()


@over("half range", [case for case in CASES if not pooling.info(case.name, case.kind).learnable])
def test_half_precision_does_not_overflow_on_the_way(case: Case) -> None:
    x = 30000 + 5000 * case.values(*SHAPE)
    for operator in modes(case.create(WINDOW)):
        y = seeded(operator, x)
        if y.abs().max() < torch.finfo(torch.float16).max:
            torch.testing.assert_close(seeded(operator, x.half()).double(), y, rtol=2e-3, atol=0)


@over("autocast")
def test_autocast_changes_neither_values_nor_dtype(case: Case) -> None:
    x = case.values(*SHAPE).float()
    for operator in modes(case.create(WINDOW).float()):
        y = seeded(operator, x)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            torch.testing.assert_close(seeded(operator, x), y)


@over("empty batch")
def test_empty_batch(case: Case) -> None:
    x = case.values(0, *SHAPE[1:]).requires_grad_()
    for operator in modes(case.create(WINDOW)):
        y = operator(x)
        assert y.shape == (0, *operator(case.values(*SHAPE)).shape[1:])
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.shape == x.shape


@over("image")
def test_one_image_without_a_batch(case: Case) -> None:
    x = case.values(1, *SHAPE[1:])
    for operator in modes(case.create(WINDOW)):
        assert torch.equal(seeded(operator, x[0]), seeded(operator, x)[0])


@over("nan", REDUCERS)
def test_a_nan_makes_the_windows_that_hold_it_nan_and_no_other(case: Case) -> None:
    x = case.values(*SHAPE)
    x[1, :, 3, 2] = torch.nan
    window = Window.of(2, 2)
    for operator in modes(case.create(window)):
        held = torch.zeros(2, CHANNELS, 3, 3, dtype=torch.bool)
        held[1, :, 1, 1] = True
        assert torch.equal(seeded(operator, x).isnan(), held)


@over("nan", [case for case in CASES if case.kind == "global"])
def test_a_nan_in_a_channel_shows_in_the_head(case: Case) -> None:
    x = case.values(*SHAPE)
    x[1, :, 3, 2] = torch.nan
    y = case.create()(x)
    assert y[0].isfinite().all()
    assert y[1].isnan().any()


# 6. compile, export, copies


def assert_same_copy(operator: nn.Module, twin: nn.Module, x: Tensor) -> None:
    assert twin.training == operator.training
    assert repr(twin) == repr(operator)
    assert torch.equal(seeded(twin, x), seeded(operator, x))


@over("copy")
def test_deepcopy_and_pickle(case: Case) -> None:
    for operator in modes(case.create(WINDOW)):
        x = case.values(*SHAPE)
        assert_same_copy(operator, copy.deepcopy(operator), x)
        assert_same_copy(operator, pickle.loads(pickle.dumps(operator)), x)


@over("state_dict")
def test_state_dict_round_trip(case: Case) -> None:
    operator, twin = case.create(WINDOW), case.create(WINDOW)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    file = io.BytesIO()
    torch.save(operator.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert_same_copy(operator, twin, case.values(*SHAPE))


def test_parameter_free_operators_share_a_network_s_state_dict() -> None:
    def network(case: Case) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, CHANNELS, 3), case.create(WINDOW), nn.BatchNorm2d(CHANNELS))

    free = [case for case in WINDOWED if not list(case.create(WINDOW).parameters())]
    assert len(free) > 10
    for one, other in itertools.pairwise([*free, free[0]]):
        network(other).load_state_dict(network(one).state_dict(), strict=True)


@over("learnable")
def test_an_operator_with_parameters_says_so(case: Case) -> None:
    if list(case.create().parameters()):
        assert pooling.info(case.name, case.kind).learnable


def compiled_agrees(case: Case, backend: str) -> None:
    for mode in differing_modes(case):
        operator = modes(case.create(WINDOW))[mode]
        torch.compiler.reset()
        twin = copy.deepcopy(operator)
        twin.compile(fullgraph=True, backend=backend)
        x = case.values(*SHAPE).requires_grad_()
        (one, other) = seeded(operator, x), seeded(twin, x)
        torch.testing.assert_close(other, one)
        ones, others = (
            torch.autograd.grad(y.sum(), (x, *module.parameters()), allow_unused=True)
            for y, module in ((one, operator), (other, twin))
        )
        torch.testing.assert_close(others, ones)


# An option that is a number does not change what is traced.
@over("compile", [c for c in CASES if not c.arguments or any(isinstance(v, str) for v in c.arguments.values())])
def test_compiles_without_graph_breaks(case: Case) -> None:
    compiled_agrees(case, "aot_eager")


@pytest.mark.slow
@over("compile", [case for case in CASES if str(case) in ("stochastic", "lp", "blur", "spp")])
def test_inductor_agrees(case: Case) -> None:
    # Compiled code draws from a generator of its own unless told otherwise; the seed's expansion is what is compared.
    with torch._inductor.config.patch(fallback_random=True):
        compiled_agrees(case, "inductor")


@over("export")
def test_exports_in_eval_mode(case: Case) -> None:
    operator, x = case.create(WINDOW).eval(), case.values(*SHAPE)
    exported = torch.export.export(operator, (x,)).module()
    torch.testing.assert_close(exported(x), operator(x))


# 7. Random operators


# Of a single window's values: what the operator gives in training, each with its probability.
OUTCOMES = {
    "stochastic": ([[-1.0, 1.0], [3.0, 6.0]], {1.0: 0.1, 3.0: 0.3, 6.0: 0.6}),
    "stochastic-negatives=shift": ([[-1.0, 1.0], [0.0, 3.0]], {1.0: 2 / 7, 0.0: 1 / 7, 3.0: 4 / 7}),
    "rsp": ([[-1.0, 1.0], [3.0, 6.0]], {6.0: 8 / 15, 3.0: 4 / 15, 1.0: 2 / 15, -1.0: 1 / 15}),
    "max_dropout": ([[-1.0, 1.0], [3.0, 6.0]], {6.0: 1 / 2, 3.0: 1 / 4, 1.0: 1 / 8, -1.0: 1 / 16, 0.0: 1 / 16}),
    "mixed-a=random": ([[0.0, 1.0], [2.0, 5.0]], {5.0: 0.5, 2.0: 0.5}),
    "s3": ([[-1.0, 1.0], [3.0, 6.0]], dict.fromkeys((-1.0, 1.0, 3.0, 6.0), 0.25)),
}
# Where they are drawn from otherwise than from one 2x2 window.
SAMPLED = {"s3": Window.of(1, 2)}


@pytest.mark.parametrize("name", sorted({case.name for case in RANDOM if pooling.info(case.name, case.kind).ours}))
def test_every_random_operator_has_known_frequencies(name: str) -> None:
    assert any(known.split("-")[0] == name for known in OUTCOMES) or ("frequencies", name) in EXCEPTIONS


@pytest.mark.parametrize("case", [case for case in CASES if str(case) in OUTCOMES], ids=str)
def test_frequencies_match_the_probabilities(case: Case) -> None:
    window, outcomes = OUTCOMES[str(case)]
    x = torch.tensor([[window]], dtype=torch.float64)
    operator = case.create(SAMPLED.get(str(case), Window.of(2))).train()
    seen = torch.cat([operator(x).flatten() for _ in range(2000)])
    counts = [(seen == value).sum().item() for value in outcomes]
    assert sum(counts) == len(seen)
    assert chisquare(counts, len(seen) * np.array(list(outcomes.values()))).pvalue > 1e-4


@over("random", RANDOM)
def test_the_same_seed_repeats(case: Case) -> None:
    operator, x = case.create().train(), case.values(*SHAPE)
    assert torch.equal(seeded(operator, x), seeded(operator, x))


@over("random")
def test_a_random_operator_draws_one_seed_in_training_and_nothing_else_draws(case: Case) -> None:
    x = case.values(*SHAPE)
    for operator in modes(case.create(WINDOW)):
        first, second = (seeded(operator, x, seed) for seed in (0, 1))
        after = torch.get_rng_state()
        torch.manual_seed(1)
        if torch.equal(torch.get_rng_state(), after):
            assert torch.equal(first, second)
            continue
        philox.draw_seed(x.device)
        assert torch.equal(torch.get_rng_state(), after), "it drew something else than one seed"
        assert pooling.info(case.name, case.kind).random
        assert operator.training


# 8. Bad input


def refused(case: Case, error: type[Exception], *parts: str):
    return pytest.raises(error, match="(?s)" + ".*".join([case.name, *parts]))


@over("bad input")
def test_bad_inputs_are_refused_by_name(case: Case) -> None:
    operator = case.create(WINDOW)
    with refused(case, ValueError, r"\(N, C, H, W\)", r"\(7, 6\)"):
        operator(torch.zeros(7, 6))
    with refused(case, ValueError, r"\(N, C, H, W\)", r"\(1, 1, 3, 7, 6\)"):
        operator(torch.zeros(1, 1, 3, 7, 6))
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex64):
        with refused(case, TypeError, "floating point", str(dtype)):
            operator(torch.zeros(SHAPE, dtype=dtype))


@over("bad input", [case for case in WINDOWED if case.native != "conv"])
def test_a_window_that_does_not_fit_is_refused(case: Case) -> None:
    operator = case.create(Window.of(5, 1))
    with refused(case, ValueError, "kernel_size", r"\(5, 5\)", "4x6"):
        operator(torch.zeros(1, CHANNELS, 4, 6).double())


BAD_GEOMETRIES = [
    (ValueError, {"kernel_size": 0}, "at least 1"),
    (ValueError, {"kernel_size": (2, -1)}, "at least 1"),
    (TypeError, {"kernel_size": 2.0}, "int or a pair"),
    (TypeError, {"kernel_size": (2, 2, 2)}, "int or a pair"),
    (ValueError, {"stride": 0}, "at least 1"),
    (TypeError, {"stride": "2"}, "int or a pair"),
    (ValueError, {"padding": 2}, "at most half of kernel_size"),
    (ValueError, {"padding": (0, -1)}, "at least 0"),
    (ValueError, {"dilation": 0}, "at least 1"),
    (TypeError, {"ceil_mode": 1}, "True or False"),
    (ValueError, {"padding_mode": "replicate"}, "'zeros', 'reflect' or 'circular'"),
]


@over(
    "bad input",
    [case for case in CASES if (case.windowed or case.kind == "upsample") and case.arguments in ({}, *SITES)],
)
def test_bad_geometries_are_refused_by_name(case: Case) -> None:
    site = {"kernel_size": 3, "channels": CHANNELS} | case.arguments
    for error, bad, allowed in BAD_GEOMETRIES:
        ((argument, value),) = bad.items()
        with pytest.raises(error) as caught:
            pooling.create(case.name, kind=case.kind, **site | bad)
        for part in (case.name, argument, allowed, repr(value)):
            assert part in str(caught.value)


@over("bad input", [case for case in CASES if not case.arguments])
def test_bad_options_are_refused_by_name(case: Case) -> None:
    arguments = {"channels": CHANNELS, "kind": case.kind}
    with refused(case, TypeError, "no option 'colour'"):
        pooling.create(case.name, colour=1, **arguments)
    for option in pooling.info(case.name, case.kind).options.values():
        with pytest.raises(TypeError) as caught:
            pooling.create(case.name, **arguments, **{option.name: 1j})
        for part in (case.name, option.name, option.allowed, "1j"):
            assert part in str(caught.value)


def test_a_bad_native_is_refused_by_name() -> None:
    for name in pooling.names("downsampler"):
        with pytest.raises(ValueError, match=rf"{name}: native must be 'max', 'avg' or 'conv', got 'min'"):
            pooling.create(name, native="min")


# CUDA


@pytest.mark.gpu
@over("cuda")
def test_cuda_agrees_with_cpu(case: Case) -> None:
    x = case.values(*SHAPE)
    operator = case.create(WINDOW).eval()
    for layout in (torch.contiguous_format, torch.channels_last):
        near = x.contiguous(memory_format=layout).requires_grad_()
        far = near.detach().cuda().requires_grad_()
        y, y_far = operator(near), copy.deepcopy(operator).cuda()(far)
        torch.testing.assert_close(y_far.cpu(), y)
        assert y_far.is_contiguous(memory_format=layout) or y.dim() == 2
        y.sum().backward()
        y_far.sum().backward()
        torch.testing.assert_close(far.grad.cpu(), near.grad)
