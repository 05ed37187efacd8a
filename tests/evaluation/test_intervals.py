import math

import numpy as np
import pytest
import torch
from scipy import stats

from evaluation import metrics
from evaluation.intervals import Z, effective_size, student_t, wilson


@pytest.mark.parametrize("hits, n", [(0, 10), (1, 10), (5, 10), (10, 10), (9731, 10000), (7, 7)])
def test_wilson_is_scipys(hits, n):
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_ends_exactly_at_zero_and_one_and_has_a_width_there():
    assert wilson(0.0, 20)[0] == 0.0
    assert wilson(1.0, 20)[1] == 1.0
    # A published value: no hit in 20 gives [0, 0.161].
    assert wilson(0.0, 20)[1] == pytest.approx(Z**2 / (20 + Z**2))


@pytest.mark.parametrize("values", [[0.97, 0.98], [1.0, 2.0, 4.0], list(np.linspace(0, 1, 10))])
def test_student_t_is_scipys(values):
    mean, half = student_t(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert half is not None
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_one_seed_has_no_interval_and_equal_seeds_have_none_to_speak_of():
    assert student_t([0.5]) == (0.5, None)
    assert student_t([0.5, 0.5, 0.5]) == (0.5, 0.0)


def test_one_trial_per_image_is_worth_one():
    hits = torch.tensor([1, 1, 0, 1, 0, 1, 1])
    value, low, high, n = metrics.ratio(hits, torch.ones(7))
    assert (low, high) == pytest.approx(wilson(5 / 7, 7))
    assert n == 7
    assert value == pytest.approx(5 / 7)


def test_repeats_that_always_agree_are_worth_one_and_independent_ones_many():
    alike = effective_size(0.5, variance=0.25 / 100, images=100, answers=500)
    apart = effective_size(0.5, variance=0.25 / 500, images=100, answers=500)
    assert (alike, apart) == pytest.approx((100, 500))
    assert effective_size(0.6, variance=0.0, images=100, answers=500) == 500
    assert effective_size(1.0, variance=0.0, images=100, answers=500) == 100
    assert effective_size(0.6, variance=0.0, images=1, answers=5) == 1


def test_the_interval_of_repeated_pairs_holds_the_truth_95_times_in_100():
    draw = np.random.default_rng(0)
    N, R, experiments = 200, 5, 2000
    p = draw.beta(2, 0.5, (experiments, N))  # each image has its own rate
    hits = draw.binomial(R, p)
    truth = 2 / 2.5
    covered = naive = 0
    for row in hits:
        _, low, high, _ = metrics.ratio(torch.from_numpy(row), torch.full((N,), R))
        covered += low <= truth <= high
        low, high = wilson(row.mean() / R, N * R)
        naive += low <= truth <= high
    assert 0.935 < covered / experiments < 0.965
    assert naive / experiments < 0.9  # taking pairs for independent would promise too much


def test_a_mean_without_bounds_has_the_normal_interval():
    losses = torch.tensor([0.1, 2.5, 7.0, 0.3], dtype=torch.float64)
    value, low, high, _ = metrics.ratio(losses, torch.ones(4), "mean")
    error = losses.std(correction=0).item() / math.sqrt(4)
    assert (low, high) == pytest.approx((value - Z * error, value + Z * error))
