"""Facts about heads and adaptive pools: limits, invariances, what other libraries give."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import pooling
from tests.pooling.cases import WHOLE_MAPS

C = 12
POSITIONAL = ("flatten", "spp")


def head(name: str, channels: int = C, **options) -> nn.Module:
    return pooling.create(name, kind="global", channels=channels, **options).double().eval()


def maps(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# All heads


def test_heads_of_a_constant_are_that_constant() -> None:
    for name in pooling.names("global"):
        if name not in ("map", "simpool", "covariance"):
            y = head(name)(torch.full((2, C, 7, 5), 1.5, dtype=torch.float64))
            torch.testing.assert_close(y, torch.full_like(y, 1.5), msg=f"{name}: {{}}".format)


@pytest.mark.parametrize("name", [name for name in pooling.names("global") if name not in POSITIONAL])
def test_a_head_does_not_see_where_things_are(name: str) -> None:
    """So a network that is shift-equivariant up to its head is shift-invariant."""
    x, pool = maps(2, C, 6, 4), head(name)
    shuffled = x.flatten(2)[:, :, torch.randperm(24)].view_as(x)
    torch.testing.assert_close(pool(shuffled), pool(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", pooling.names("global"))
def test_an_image_s_features_do_not_hang_on_the_other_images(name: str) -> None:
    x, pool = maps(3, C, 6, 4), head(name)
    torch.testing.assert_close(pool(x)[1:2], pool(x[1:2]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", pooling.names("global"))
def test_a_map_of_one_position_has_finite_features_and_gradients(name: str) -> None:
    x = maps(2, C, 1, 1).requires_grad_()
    y = head(name)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert gradient.isfinite().all()


# Reducers over the whole map


def test_the_reducers_of_any_window_are_heads() -> None:
    fixed = "max min avg median lp gem lse soft edscw idw ada mixed rap rwp stochastic".split()
    assert set(fixed) <= set(WHOLE_MAPS)
    assert not {"conv", "ordinal", "subsample_scaled"} & set(WHOLE_MAPS)


def test_heads_that_have_two_names_or_a_twin_in_torch() -> None:
    x = maps(2, C, 6, 5)
    twins = {
        "max": head("gmp")(x),
        "avg": head("gap")(x),
        "mixed": head("avgmax")(x),
        "median": x.flatten(2).median(dim=2).values,
        "lse": x.flatten(2).logsumexp(dim=2) - np.log(30),
    }
    for name, twin in twins.items():
        torch.testing.assert_close(head(name)(x), twin, rtol=1e-12, atol=0, msg=f"{name}: {{}}".format)
    cat = head("cat_avgmax")(x)
    assert torch.equal(cat, torch.cat([head("gap")(x), head("gmp")(x)], dim=1))


def test_the_limits_of_the_families() -> None:
    x = maps(2, C, 6, 5) + 0.1
    mean, top = head("gap")(x), head("gmp")(x)
    for name, options in [("gem", {"p": 1}), ("lp", {"p": 1}), ("soft", {"beta": 1e-9}), ("rap", {"t": 30})]:
        torch.testing.assert_close(head(name, **options)(x), mean)
    for name, options in [("gem", {"p": 1e5}), ("soft", {"beta": 1e9}), ("rap", {"t": 1}), ("rwp", {"a": 1})]:
        torch.testing.assert_close(head(name, **options)(x), top, rtol=1e-3, atol=0)


def test_a_map_of_the_grid_s_size_is_only_flattened() -> None:
    x = maps(2, 3, 4, 4)
    assert torch.equal(head("flatten", 3)(x), x.flatten(1))


# Attention


@pytest.mark.parametrize("heads", [1, 3])
def test_map_is_torch_s_multihead_attention_of_one_query(heads: int) -> None:
    ours = head("map", heads=heads, mlp_ratio=0)
    theirs = nn.MultiheadAttention(C, heads, batch_first=True).double().eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([torch.eye(C, dtype=torch.float64), ours.key_value.weight]))
        theirs.in_proj_bias[C:] = ours.key_value.bias
        theirs.out_proj.load_state_dict(ours.project.state_dict())
    x = maps(2, C, 5, 4)
    tokens = x.flatten(2).transpose(1, 2)
    expected, _ = theirs(ours.query.expand(2, 1, C), tokens, tokens)
    torch.testing.assert_close(ours(x), expected.squeeze(1))


def test_map_names_the_divisors_that_it_needs() -> None:
    assert head("map", 64).heads == 8
    assert head("map", 12).heads == 4
    with pytest.raises(ValueError, match="map: heads must be a divisor of the 12 channels, got 5"):
        head("map", heads=5)


def test_simpool_with_gamma_1_is_an_attended_mean_above_the_minimum() -> None:
    pool, x = head("simpool", gamma=1), maps(2, C, 5, 4)
    z = pool.norm(x.flatten(2).transpose(1, 2))
    with torch.no_grad():
        pool.query.weight.zero_()  # a query of nothing attends to everything alike
    torch.testing.assert_close(pool(x), z.mean(dim=1) - z.amin(dim=(1, 2)).unsqueeze(1))


# Covariance


def test_covariance_converges_to_the_matrix_root() -> None:
    x = maps(2, 4, 7, 6)
    triangle = head("covariance", 4, iterations=30)(x)
    root = torch.zeros(2, 4, 4, dtype=torch.float64)
    rows, columns = torch.triu_indices(4, 4)
    root[:, rows, columns] = triangle
    root[:, columns, rows] = triangle
    covariance = torch.stack([torch.cov(image.flatten(1), correction=0) for image in x])
    torch.testing.assert_close(root @ root, covariance)


@given(scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_covariance_ignores_a_constant_and_scales_with_the_map(scale: float, shift: float) -> None:
    x, pool = maps(2, C, 6, 5), head("covariance")
    torch.testing.assert_close(pool(scale * x + shift), scale * pool(x), rtol=1e-6, atol=1e-8)


def test_covariance_projects_more_channels_than_it_takes() -> None:
    assert head("covariance", 300).out_features == 256 * 257 // 2
    assert head("covariance", 6, features=4).out_features == 10
    assert not list(head("covariance", 256).parameters())


# Adaptive pools


@given(size=st.tuples(*2 * [st.integers(1, 12)]), bins=st.tuples(*2 * [st.integers(1, 14)]))
def test_adaptive_pools_equal_torch_byte_for_byte(size: tuple[int, int], bins: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    assert torch.equal(pooling.create("adaptive_max", output_size=bins)(x), F.adaptive_max_pool2d(x, bins))
    assert torch.equal(pooling.create("adaptive_avg", output_size=bins)(x), F.adaptive_avg_pool2d(x, bins))


def test_where_the_bins_divide_the_map_they_are_windows() -> None:
    x = maps(2, 3, 6, 8)
    for name, window in (("adaptive_max", "max"), ("adaptive_avg", "avg")):
        bins = pooling.create(name, output_size=(3, 2))(x)
        torch.testing.assert_close(bins, pooling.create(window, kernel_size=(2, 4))(x))


@pytest.mark.parametrize("wrong", [0, (2, 0), (1, 2, 3), None])
def test_a_wrong_output_size_is_refused(wrong) -> None:
    with pytest.raises((ValueError, TypeError), match="adaptive_avg: output_size must be an int"):
        pooling.create("adaptive_avg", output_size=wrong)


def test_an_adaptive_pool_is_no_drop_in_at_a_site() -> None:
    import models

    with pytest.raises(ValueError, match="'adaptive_avg' is of kind 'adaptive'; a site takes a reducer or downsampler"):
        models.create("lenet5", pooling={"name": "adaptive_avg", "output_size": 2})
