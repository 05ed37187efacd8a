"""Facts about the operators that sample rows, columns and cells, and about those that learn."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor, nn

import pooling
from pooling import functional, sampling
from tests.pooling.cases import Geometry, geometries


def image(geometry: Geometry, channels: int = 2) -> Tensor:
    return torch.randn(2, channels, geometry.height, geometry.width, dtype=torch.float64)


def site(geometry: Geometry) -> dict:
    return dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), geometry.arguments, strict=True))


# s3


@settings(max_examples=25)
@given(geometry=geometries(dilations=1), keep=st.integers(1, 3), seed=st.integers(0, 99))
def test_s3_keeps_ascending_rows_and_columns_of_the_dense_max(geometry: Geometry, keep: int, seed: int) -> None:
    """Each output is a dense max, in the order of the map: of a rising ramp it is a rising ramp."""
    ramp = torch.arange(geometry.height * geometry.width).double().view(1, 1, geometry.height, geometry.width)
    y = functional.s3_pool2d(ramp, geometry.window, keep=keep, seed=torch.tensor(seed))[0, 0]
    assert (y.diff(dim=0) >= 0).all()
    assert (y.diff(dim=1) >= 0).all()
    assert torch.isin(y, ramp).all()


@given(length=st.integers(1, 20), stride=st.integers(1, 4), keep=st.integers(1, 4), seed=st.integers(0, 99))
def test_s3_keeps_as_many_of_each_strip(length: int, stride: int, keep: int, seed: int) -> None:
    generator, grid = torch.Generator().manual_seed(seed), stride * keep
    count = -(-length // stride)
    kept = sampling.kept(torch.rand(length, generator=generator), stride, keep, count)
    assert len(kept) == count == len(kept.unique())
    whole = length // grid
    assert (kept // grid).bincount(minlength=whole)[:whole].tolist() == [keep] * whole


def test_every_choice_of_rows_is_as_likely() -> None:
    torch.manual_seed(0)
    drawn = Counter(tuple(sampling.kept(torch.rand(4), 2, 2, 2).tolist()) for _ in range(3000))
    assert len(drawn) == 6  # two of four
    assert chisquare(list(drawn.values())).pvalue > 1e-4


def test_s3_that_keeps_one_of_each_block_has_its_eval_rule_as_mean() -> None:
    x = torch.randn(1, 2, 5, 7, dtype=torch.float64)
    draws = torch.stack([functional.s3_pool2d(x, 2, keep=1, seed=torch.tensor(seed)) for seed in range(1500)])
    error = draws.mean(dim=0) - functional.s3_pool2d(x, 2, training=False)
    assert (error.abs() < 5 * draws.std(dim=0) / 1500**0.5 + 1e-12).all()


def test_s3_at_stride_1_is_max_pooling() -> None:
    x = torch.randn(2, 3, 7, 6)
    pool = pooling.create("s3", kernel_size=3, stride=1, padding=1)
    assert torch.equal(pool(x), functional.max_pool2d(x, 3, 1, 1))
    assert torch.equal(pool.eval()(x), functional.max_pool2d(x, 3, 1, 1))


# fractional


lengths = st.integers(1, 40).flatmap(lambda count: st.tuples(st.integers(count, 2 * count), st.just(count)))


@given(lengths=lengths, seed=st.integers(0, 999), method=st.sampled_from(["pseudo", "random"]))
def test_steps_are_1_or_2_and_cover_the_axis(lengths: tuple[int, int], seed: int, method: str) -> None:
    (length, count), generator = lengths, torch.Generator().manual_seed(seed)
    if method == "pseudo":
        offset = torch.randint(sampling.UNIT, (), generator=generator)
        bounds = sampling.pseudo_random_bounds(length, count, offset)
    else:
        bounds = sampling.random_bounds(length, torch.rand(count, generator=generator))
    steps = bounds.diff()
    assert bounds[0] == 0
    assert bounds[-1] == length
    assert set(steps.tolist()) <= {1, 2}
    # Graham 2014: as many twos as the lengths leave.
    assert (steps == 2).sum() == length - count
    disjoint = sampling.cells(bounds, length, overlapping=False)
    assert disjoint.unique().tolist() == list(range(length))


def test_every_random_order_of_steps_is_as_likely() -> None:
    torch.manual_seed(0)
    drawn = Counter(tuple(sampling.random_bounds(6, torch.rand(4)).diff().tolist()) for _ in range(3000))
    assert len(drawn) == 6  # two twos among four
    assert chisquare(list(drawn.values())).pvalue > 1e-4


@given(lengths=lengths, u=st.integers(0, sampling.UNIT - 1))
def test_pseudo_random_bounds_lie_within_one_of_their_regular_places(lengths: tuple[int, int], u: int) -> None:
    length, count = lengths
    regular = torch.arange(count + 1) * length / count
    assert ((sampling.pseudo_random_bounds(length, count, torch.tensor(u)) - regular).abs() < 1).all()


@pytest.mark.parametrize("method", ["pseudo", "random"])
@pytest.mark.parametrize("training", [True, False])
def test_disjoint_cells_of_ratio_2_are_2x2_max_pooling(method: str, training: bool) -> None:
    x = torch.randn(2, 3, 8, 6)
    y = functional.fractional_pool2d(x, (4, 3), method=method, overlapping=False, training=training)
    assert torch.equal(y, functional.max_pool2d(x, 2))
    overlapping = functional.fractional_pool2d(x, (4, 3), method=method, training=training)
    assert torch.equal(overlapping, functional.max_pool2d(x, 3, 2, ceil_mode=True))


@pytest.mark.parametrize("ratio, size", [(1.5, (6, 4)), (2**0.5, (7, 4)), (2, (5, 3)), (1.01, (9, 6))])
def test_a_ratio_sets_the_size(ratio: float, size: tuple[int, int]) -> None:
    x = torch.randn(1, 1, 10, 7)
    pool = pooling.create("fractional", ratio=ratio)
    assert pool(x).shape[2:] == pool.eval()(x).shape[2:] == size


def test_of_tied_members_of_a_cell_the_first_gets_the_gradient() -> None:
    x = torch.tensor([[[[1.0, 5.0], [5.0, 5.0]]]], requires_grad=True)
    (slope,) = torch.autograd.grad(functional.fractional_pool2d(x, 1).sum(), x)
    assert slope.tolist() == [[[[0, 1], [0, 0]]]]


# gated, tree


@given(geometry=geometries())
def test_gated_starts_as_half_max_and_half_mean_and_reaches_both(geometry: Geometry) -> None:
    x = image(geometry)
    pool = pooling.create("gated", **site(geometry))
    torch.testing.assert_close(pool(x), functional.mixed_pool2d(x, geometry.window, a=0.5))
    nn.init.constant_(pool.weight, 1e9)
    top, mean = functional.max_pool2d(x, geometry.window), functional.mixed_pool2d(x, geometry.window, a=0.0)
    y = pool(x)
    assert (torch.isclose(y, top) | torch.isclose(y, mean)).all()  # by the sign of the window's sum


def test_a_gate_looks_at_its_own_window() -> None:
    x = torch.tensor([[1.0, 3.0, -1.0, -3.0], [0.0, 0.0, 0.0, 0.0]])[None, None]
    pool = pooling.create("gated")
    nn.init.constant_(pool.weight, 50.0)
    assert pool(x).tolist() == [[[[3.0, -1.0]]]]  # max where the sum is positive, mean where it is negative


@pytest.mark.parametrize("depth, parameters", [(2, 27), (3, 63)])
def test_a_tree_has_the_paper_s_number_of_parameters(depth: int, parameters: int) -> None:
    """2^(depth - 1) leaves and one gate less, nine weights each (Lee et al. 2016)."""
    tree = pooling.create("tree", kernel_size=3, depth=depth)
    assert sum(p.numel() for p in tree.parameters()) == parameters
    each = pooling.create("tree", kernel_size=3, depth=depth, per="channel", channels=5)
    assert sum(p.numel() for p in each.parameters()) == 5 * parameters


def test_a_tree_of_equal_leaves_is_its_leaf_whatever_the_gates() -> None:
    x = torch.randn(2, 3, 8, 8)
    tree = pooling.create("tree", depth=4)
    nn.init.constant_(tree.leaves, 1 / 4)
    nn.init.normal_(tree.gates)
    torch.testing.assert_close(tree(x), functional.avg_pool2d(x, 2))


@pytest.mark.parametrize("leaf", range(4))
def test_gates_lead_to_every_leaf(leaf: int) -> None:
    tree = pooling.create("tree", kernel_size=1, depth=3)
    with torch.no_grad():
        tree.leaves.copy_(torch.arange(4.0).unsqueeze(1))
        left = torch.tensor([leaf % 2 == 0, leaf % 2 == 0, leaf < 2])
        tree.gates.copy_(torch.where(left, 100.0, -100.0).unsqueeze(1))
    assert tree(torch.ones(1, 1, 1, 1)).item() == leaf


# lip, dpp


@pytest.mark.parametrize("name", ["lip", "dpp", "space_to_depth"])
@pytest.mark.parametrize("padding", [0, 1])
def test_these_start_near_the_mean(name: str, padding: int) -> None:
    x = torch.randn(2, 4, 9, 8)
    if name == "space_to_depth":
        pool = pooling.create(name, channels=4, native="conv")
        torch.testing.assert_close(pool(x[:, :, :8]), functional.avg_pool2d(x[:, :, :8], 2))
        return
    pool = pooling.create(name, channels=4, kernel_size=3, stride=2, padding=padding)
    mean = functional.avg_pool2d(x, 3, 2, padding, count_include_pad=False)
    if name == "lip":
        torch.testing.assert_close(pool(x), mean)
    else:
        assert (pool(x) > mean - 1e-6).all()  # it rewards larger values
        nn.init.constant_(pool.log_alpha, 20.0)
        torch.testing.assert_close(pool(x), mean)


def test_lip_s_logits_lie_between_0_and_12() -> None:
    """So no member has more than e^12 times the weight of another (Gao et al. 2019)."""
    pool = pooling.create("lip", channels=1, kernel_size=2)
    nn.init.constant_(pool.conv.weight, 0.0)
    pool.conv.weight.data[0, 0, 1, 1] = 1.0
    nn.init.constant_(pool.norm.weight, 1e6)
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 0, 0] = 1.0
    w = torch.tensor([12.0]).exp()
    torch.testing.assert_close(pool(x).flatten(), w / (w + 3))


def test_lip_learns_from_its_start() -> None:
    x = torch.randn(2, 4, 8, 8)
    pool = pooling.create("lip", channels=4)
    assert torch.autograd.grad(pool(x).square().sum(), pool.conv.weight)[0].abs().max() > 1e-3


def test_dpp_between_mean_and_max() -> None:
    """Asymmetric, alpha -> 0 and a large lambda: the member furthest above the mean, the max (Saeedan et al. 2018)."""
    x = torch.rand(2, 3, 4, 4, 4).argsort(dim=4).double().view(2, 3, 4, 4, 2, 2).transpose(3, 4).reshape(2, 3, 8, 8)
    pool = pooling.create("dpp", channels=3).double()
    nn.init.constant_(pool.log_alpha, -300.0)
    nn.init.constant_(pool.log_lambda, 4.0)
    torch.testing.assert_close(pool(x), functional.max_pool2d(x, 2))
    nn.init.constant_(pool.log_lambda, -100.0)  # rho^0 = 1
    torch.testing.assert_close(pool(x), functional.avg_pool2d(x, 2))
    symmetric = pooling.create("dpp", channels=3, symmetric=True).double()
    torch.testing.assert_close(symmetric(-x), -symmetric(x))


# ddac


@pytest.mark.parametrize("native", ["max", "conv"])
def test_ddac_starts_as_blur(native: str) -> None:
    x = torch.randn(2, 6, 9, 8)
    for length in (2, 3, 5):
        pool = pooling.create("ddac", channels=6, filter=length, native=native)
        torch.testing.assert_close(pool(x), pooling.create("blur", filter=length, native=native)(x))


@given(channels=st.integers(1, 12), groups=st.integers(1, 12))
def test_ddac_s_filters_are_positive_and_sum_to_1(channels: int, groups: int) -> None:
    pool = pooling.create("ddac", channels=channels, groups=groups, native="conv")
    assert pool.groups <= groups
    nn.init.normal_(pool.predict.weight)
    # Constants stay, and between the extremes everything does.
    x = torch.full((1, channels, 6, 5), 1.5)
    torch.testing.assert_close(pool(x), x[..., :3, :3])
    x = torch.rand(1, channels, 6, 5)
    y = pool(x)
    assert (y > x.amin(dim=(2, 3), keepdim=True)).all()
    assert (y < x.amax(dim=(2, 3), keepdim=True)).all()


# lps


def trained(module: nn.Module) -> nn.Module:
    """As if it had learned to tell its components apart."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module.eval()


@pytest.mark.parametrize("stride", [2, 3, (2, 3)])
@pytest.mark.parametrize("native", ["max", "avg", "conv"])
def test_lps_commutes_with_every_circular_roll(stride, native: str) -> None:
    sh, sw = stride if isinstance(stride, tuple) else (stride, stride)
    x = torch.randn(2, 3, 2 * sh, 3 * sw, dtype=torch.float64)
    arguments = {"kernel_size": 2, "stride": stride, "padding": 1, "padding_mode": "circular", "native": native}
    pool = trained(pooling.create("lps", channels=3, **arguments).double())
    y, phase = pool(x, return_phase=True)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            rolled, rolled_phase = pool(x.roll((i, j), (2, 3)), return_phase=True)
            for n in range(2):
                row, column = divmod(phase[n].item(), sw)
                assert rolled_phase[n] == (row + i) % sh * sw + (column + j) % sw
                shift = (row + i) // sh, (column + j) // sw
                torch.testing.assert_close(rolled[n], y[n].roll(shift, (1, 2)))


def test_lps_and_a_global_pool_give_the_same_whatever_the_roll() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"),
        pooling.create("lps", channels=4, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        pooling.create("lps", channels=4, padding_mode="circular", native="conv"),
        pooling.create("gap", channels=4),
    ).double()
    x = torch.randn(1, 1, 8, 12, dtype=torch.float64)
    network.eval()
    for i in range(8):
        for j in range(12):
            torch.testing.assert_close(network(x.roll((i, j), (2, 3))), network(x))


def test_lps_draws_components_by_the_softmax_of_their_scores() -> None:
    """The largest of scores + Gumbel noise is a draw from their softmax."""
    pool = pooling.create("lps", channels=1, native="conv", tau=0.7).train()
    x = torch.randn(1, 1, 4, 4)
    scores = torch.tensor([0.0, 1.0, -1.0, 0.5])
    pool.score.forward = lambda components: scores.expand(len(components), 4)
    weights = pool(x.expand(4000, 1, 4, 4), return_phase=True)[1]
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4000))
    counts = weights.argmax(dim=1).bincount(minlength=4)
    assert chisquare(counts, 4000 * scores.double().softmax(dim=0)).pvalue > 1e-4


def test_lps_starts_near_uniform_and_a_small_tau_nearly_chooses() -> None:
    x = torch.rand(500, 3, 8, 8)
    pool = pooling.create("lps", channels=3, tau=0.01).train()
    weights = pool(x, return_phase=True)[1]
    assert (weights.mean(dim=0) - 0.25).abs().max() < 0.1
    assert weights.amax(dim=1).mean() > 0.95


def test_a_shortcut_uses_the_weights_of_its_main_branch() -> None:
    x = torch.randn(3, 4, 6, 6)
    main, shortcut = (pooling.create("lps", channels=4, native="conv") for _ in range(2))
    shortcut.follow()
    assert not list(shortcut.parameters())
    _, weights = main(x, return_phase=True)
    assert weights.shape == (3, 4)
    parts = torch.stack([x[..., i::2, j::2] for i in range(2) for j in range(2)], dim=1)
    torch.testing.assert_close(shortcut(x, phase=weights), torch.einsum("ns,nschw->nchw", weights, parts))
    _, phase = main.eval()(x, return_phase=True)
    assert torch.equal(shortcut(x, phase=phase), parts[torch.arange(3), phase])
    with pytest.raises(ValueError, match="lps: a shortcut's operator does not choose"):
        shortcut(x)
