"""95% confidence intervals, in plain floats."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
Z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # 1.96


class Estimate(NamedTuple):
    """A figure with its 95% confidence interval [low, high], from n images."""

    value: float
    low: float
    high: float
    n: int


def wilson(rate: float, n: float) -> tuple[float, float]:
    """Wilson's score interval (Wilson 1927) for a rate seen in n independent trials; n need not be whole.

    Unlike rate +- 1.96 standard errors it stays in [0, 1] and has a width at 0 and 1.
    """
    centre = rate + Z**2 / (2 * n)
    half = Z * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    # At 0 and 1 the interval ends there exactly; rounding must not move it.
    return min(max((centre - half) / scale, 0.0), rate), max(min((centre + half) / scale, 1.0), rate)


def effective_size(value: float, variance: float, images: int, answers: float = math.inf) -> float:
    """The number of independent yes/no trials that would know a rate as well as these clustered ones do.

    Trials of one image (repeated pairs, pixels) are alike, so that their number overstates what they tell. The rate's
    variance is estimated between images; n = value (1 - value) / variance independent trials would have that variance
    (the design effect: Kish 1965; with Wilson's interval: Korn & Graubard 1998). One trial per image: n = images.

    Args:
        value: in [0, 1]; a rate or the mean of anything bounded so.
        variance: of `value`, from the differences between images.
        answers: the number of yes/no trials, where that is what they are: n is never more.
    """
    spread = value * (1 - value)
    if images < 2 or spread <= 0:
        return images
    return spread / variance if variance > spread / answers else answers


def bounded(value: float, variance: float, images: int, answers: float = math.inf) -> tuple[float, float]:
    """Wilson's interval for a value in [0, 1] from clustered trials; see `effective_size`."""
    n = effective_size(value, variance, images, answers)
    return (value, value) if math.isinf(n) else wilson(value, n)


def normal(value: float, variance: float) -> tuple[float, float]:
    """value +- 1.96 standard errors, for means over many images of what has no bounds."""
    half = Z * math.sqrt(variance)
    return value - half, value + half


def student_t(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half-width of Student's t interval for it ("Student" 1908); one value has no half-width."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return mean, None
    from scipy.special import stdtrit  # the t quantile; scipy.stats takes a second to import

    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n)
