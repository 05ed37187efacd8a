"""The pooling operators as they are written in plain PyTorch: what the native ones are compared with.

PROGRAMS holds by benchmark the ways worth trying, functions of (x, window, *extra): torch's own operator ("max_pool2d",
"avg_pool2d", "conv2d"), arithmetic between average pools ("avg_pool2d"), a running combination over the K strided
slices of x ("slices"), the same after sorting them by pairwise minimum and maximum ("network"), the slices as one
tensor ("stack") and `torch.nn.functional.unfold` ("unfold"). None subtracts a maximum before it exponentiates: they are
right for inputs of moderate size only, which makes them faster than a careful program would be.

Shapes: x is (N, C, H, W), the result (N, C, H', W').
"""

from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.taps import Program, counts, members, padded, slices, tensors, unfolded
from pooling.geometry import Window

EPS = 1e-6
TINY = 1e-30


# Means of the members, and the operators that are arithmetic between them.


def mean_by_pool(x: Tensor, window: Window) -> Tensor:
    return F.avg_pool2d(x, window.kernel_size, window.stride, window.padding, count_include_pad=False)


def mean_by_slices(x: Tensor, window: Window) -> Tensor:
    return reduce(torch.add, slices(x, window)) / counts(x, window)


def mean_by_unfold(x: Tensor, window: Window) -> Tensor:
    return unfolded(x, window).sum(dim=0) / counts(x, window)


def arithmetic(formula: Program) -> dict[str, Program]:
    """The programs of a formula of (mean, x, *extra)."""

    def program(mean: Program, x: Tensor, window: Window, *extra: Tensor) -> Tensor:
        return formula(partial(mean, window=window), x, *extra)

    means = {"avg_pool2d": mean_by_pool, "slices": mean_by_slices, "unfold": mean_by_unfold}
    return {name: partial(program, mean) for name, mean in means.items()}


def lp2(mean: Program, x: Tensor) -> Tensor:
    return mean(x * x).sqrt()


def lp3(mean: Program, x: Tensor) -> Tensor:
    return mean(x.abs().pow(3)).pow(1 / 3)


def lp_pool2d(p: float, x: Tensor, window: Window) -> Tensor:
    """torch's has no padding, sums instead of averaging and takes powers of signed numbers."""
    total = F.lp_pool2d(padded(x, window, 0.0).abs(), p, window.kernel_size, window.stride)
    return total / counts(x, window) ** (1 / p)


def gem(mean: Program, x: Tensor) -> Tensor:
    return mean(x.clamp(min=EPS).pow(3)).pow(1 / 3)


def lse(mean: Program, x: Tensor) -> Tensor:
    return mean(x.exp()).log()


def weighted_mean(mean: Program, x: Tensor, logits: Tensor) -> Tensor:
    weight = logits.exp()
    return mean(weight * x) / mean(weight)


def soft(mean: Program, x: Tensor) -> Tensor:
    return weighted_mean(mean, x, x)


def stochastic_eval(mean: Program, x: Tensor) -> Tensor:
    activation = x.relu()
    return mean(activation * activation) / mean(activation).clamp(min=TINY)


# Extremes.


def max_by_pool(x: Tensor, window: Window, return_indices: bool = False) -> Any:
    return F.max_pool2d(x, window.kernel_size, window.stride, window.padding, return_indices=return_indices)


def max_by_slices(x: Tensor, window: Window) -> Tensor:
    return reduce(torch.maximum, slices(x, window, -torch.inf))


def min_by_pool(x: Tensor, window: Window) -> Tensor:
    return -max_by_pool(-x, window)


def min_by_slices(x: Tensor, window: Window) -> Tensor:
    return reduce(torch.minimum, slices(x, window, torch.inf))


def min_by_tensor(gather: Program, x: Tensor, window: Window) -> Tensor:
    return gather(x, window, torch.inf).amin(dim=0)


def mixed(top: Program, mean: Program, x: Tensor, window: Window, a: float | Tensor = 0.5) -> Tensor:
    return a * top(x, window) + (1 - a) * mean(x, window)


# Sums.


def scaled_by_pool(x: Tensor, window: Window, scale: Tensor, bias: Tensor) -> Tensor:
    total = F.avg_pool2d(x, window.kernel_size, window.stride, window.padding, divisor_override=1)
    return total * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)


def scaled_by_conv(x: Tensor, window: Window, scale: Tensor, bias: Tensor) -> Tensor:
    weight = scale.view(-1, 1, 1, 1).expand(-1, 1, *window.kernel_size)
    return F.conv2d(x, weight, bias, window.stride, window.padding, groups=len(scale))


def scaled_by_slices(x: Tensor, window: Window, scale: Tensor, bias: Tensor) -> Tensor:
    return reduce(torch.add, slices(x, window)) * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)


# Means weighted by the distance from the window's mean.


def closeness(value: Tensor, mean: Tensor) -> Tensor:
    """EDSCW's weight: the exponential of a Dice-Sorensen coefficient, which lies in [0, 1]."""
    return (2 * (value * mean).abs() / (value * value + mean * mean + EPS)).exp()


def nearness(value: Tensor, mean: Tensor) -> Tensor:
    return 1 / ((value - mean).abs() + EPS)


def steepness(value: Tensor, mean: Tensor) -> Tensor:
    return value.exp()


def by_tensor(gather: Program, x: Tensor, window: Window, weigh: Program) -> Tensor:
    values, inside = gather(x, window), torch.stack(members(x, window))
    weights = weigh(values, mean_by_pool(x, window)) * inside
    return (weights * values).sum(dim=0) / weights.sum(dim=0)


def by_slices(x: Tensor, window: Window, weigh: Program) -> Tensor:
    mean = mean_by_pool(x, window)
    values = slices(x, window)
    weights = [weigh(v, mean) * m for v, m in zip(values, members(x, window), strict=True)]
    return reduce(torch.add, [w * v for w, v in zip(weights, values, strict=True)]) / reduce(torch.add, weights)


def weighed(weigh: Program) -> dict[str, Program]:
    return {"slices": partial(by_slices, weigh=weigh)} | tensors(partial(by_tensor, weigh=weigh))


def ada_by_slices(x: Tensor, window: Window, b: Tensor) -> Tensor:
    return b * by_slices(x, window, closeness) + (1 - b) * by_slices(x, window, steepness)


def ada_by_pool(x: Tensor, window: Window, b: Tensor) -> Tensor:
    return b * by_slices(x, window, closeness) + (1 - b) * soft(partial(mean_by_pool, window=window), x)


def ada_by_tensor(gather: Program, x: Tensor, window: Window, b: Tensor) -> Tensor:
    return b * by_tensor(gather, x, window, closeness) + (1 - b) * by_tensor(gather, x, window, steepness)


# Draws.


def stochastic_by_slices(x: Tensor, window: Window) -> Tensor:
    values = slices(x.relu(), window)
    total = reduce(torch.add, values)
    threshold = torch.rand_like(total) * total.detach()
    y, running = values[0], values[0].detach()
    for value in values[1:]:
        y = torch.where(running <= threshold, value, y)
        running = running + value.detach()
    return y


def stochastic_by_tensor(gather: Program, x: Tensor, window: Window) -> Tensor:
    values = gather(x.relu(), window)
    running = values.detach().cumsum(dim=0)
    threshold = torch.rand_like(running[-1]) * running[-1]
    tap = (running <= threshold).sum(dim=0, keepdim=True).clamp(max=len(values) - 1)
    return values.gather(0, tap).squeeze(0)


def max_dropout_by_slices(x: Tensor, window: Window, table: Tensor) -> Tensor:
    q = 1 - table[-1, 0]  # the largest is the result where it is kept
    values = [v.masked_fill(torch.rand_like(v) < q, -torch.inf) for v in slices(x, window, -torch.inf)]
    y = reduce(torch.maximum, values)
    return torch.where(y == -torch.inf, 0.0, y)


def max_dropout_by_pool(x: Tensor, window: Window, table: Tensor) -> Tensor:
    """Where windows overlap they share what is dropped: another joint distribution, each window's is the same."""
    y = max_by_pool(x.masked_fill(torch.rand_like(x) < 1 - table[-1, 0], -torch.inf), window)
    return torch.where(y == -torch.inf, 0.0, y)


# Ranks. `table` (K + 1, K): row n is for windows with n members.


def by_rank(table: Tensor, x: Tensor, window: Window) -> Tensor:
    """(K, 1, 1, H', W') or, where all windows are full, (K, 1, 1, 1, 1): each rank's entry."""
    if window.padding == (0, 0):
        return table[-1].view(-1, 1, 1, 1, 1)
    return table[counts(x, window).long()].movedim(-1, 0)


def exchanges(count: int) -> list[tuple[int, int]]:
    """Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M): a sorting network."""
    top = 1 << max(0, (count - 1).bit_length() - 1)
    found = []
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            found += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return found


def sorted_slices(x: Tensor, window: Window) -> list[Tensor]:
    """The taps in descending order."""
    values = slices(x, window, -torch.inf)
    for i, j in exchanges(len(values)):
        values[i], values[j] = torch.maximum(values[i], values[j]), torch.minimum(values[i], values[j])
    return values


def sorted_taps(gather: Program, x: Tensor, window: Window) -> Tensor:
    return gather(x, window, -torch.inf).sort(dim=0, descending=True).values


def present(values: Tensor, weights: Tensor, window: Window) -> Tensor:
    """An absent member is -inf and its weight 0: together not 0 but NaN."""
    return values if window.padding == (0, 0) else torch.where(weights == 0, 0.0, values)


def combined(values: list[Tensor], weights: Tensor, window: Window) -> Tensor:
    pairs = zip(values, weights, strict=True)
    return reduce(torch.add, [weight * present(value, weight, window) for value, weight in pairs])


def ranked_by_network(x: Tensor, window: Window, table: Tensor) -> Tensor:
    return combined(sorted_slices(x, window), by_rank(table, x, window), window)


def ranked_by_tensor(gather: Program, x: Tensor, window: Window, table: Tensor) -> Tensor:
    weights = by_rank(table, x, window)
    return (weights * present(sorted_taps(gather, x, window), weights, window)).sum(dim=0)


def drawn_by_network(x: Tensor, window: Window, table: Tensor) -> Tensor:
    values, limits = sorted_slices(x, window), by_rank(table, x, window)
    uniform, y = torch.rand_like(values[0]), torch.zeros_like(values[0])
    for value, limit in zip(reversed(values), reversed(limits), strict=True):
        y = torch.where(uniform < limit, value, y)
    return y


def drawn_by_tensor(gather: Program, x: Tensor, window: Window, table: Tensor) -> Tensor:
    values = sorted_taps(gather, x, window)
    rank = (torch.rand_like(values[0]) >= by_rank(table, x, window)).sum(dim=0, keepdim=True)
    y = values.gather(0, rank.clamp(max=len(values) - 1))
    return torch.where(rank < len(values), y, 0.0).squeeze(0)


def learned(theta: Tensor, x: Tensor, window: Window) -> Tensor:
    """(K, 1, 1, H', W'): softmax(theta) over the ranks that a window has."""
    weights = theta.softmax(dim=0).view(-1, 1, 1, 1, 1)
    if window.padding == (0, 0):
        return weights
    rank = torch.arange(len(theta), device=x.device).view(-1, 1, 1, 1, 1)
    weights = torch.where(rank < counts(x, window), weights, 0.0)
    return weights / weights.sum(dim=0)


def ordinal_by_network(x: Tensor, window: Window, theta: Tensor) -> Tensor:
    return combined(sorted_slices(x, window), learned(theta, x, window), window)


def ordinal_by_tensor(gather: Program, x: Tensor, window: Window, theta: Tensor) -> Tensor:
    weights = learned(theta, x, window)
    return (weights * present(sorted_taps(gather, x, window), weights, window)).sum(dim=0)


def median_by_network(x: Tensor, window: Window) -> Tensor:
    values = sorted_slices(x, window)
    if window.padding == (0, 0):
        return values[len(values) // 2]
    rank = counts(x, window) // 2
    y = values[0]
    for k, value in enumerate(values[1:], start=1):
        y = torch.where(rank == k, value, y)
    return y


def median_by_tensor(gather: Program, x: Tensor, window: Window) -> Tensor:
    if window.padding == (0, 0):
        return gather(x, window).median(dim=0).values
    return gather(x, window, torch.nan).nanmedian(dim=0).values


# The binomial filter of length 3 at every other position, and polyphase components.


def blur_by_conv(x: Tensor, window: Window) -> Tensor:
    row = x.new_tensor([1.0, 2.0, 1.0]) / 4
    weight = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), weight, stride=window.stride, groups=x.shape[1])


def blur_by_pool(x: Tensor, window: Window) -> Tensor:
    """The filter is the mean of two, twice."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 2, 1), 2, window.stride)


def blur_by_slices(x: Tensor, window: Window) -> Tensor:
    x = F.pad(x, (1, 1, 1, 1), mode="reflect")
    sh, sw = window.stride
    x = (x[:, :, :-2:sh] + 2 * x[:, :, 1:-1:sh] + x[:, :, 2::sh]) / 4
    return (x[..., :-2:sw] + 2 * x[..., 1:-1:sw] + x[..., 2::sw]) / 4


def max_then(blur: Program, x: Tensor, window: Window) -> Tensor:
    return blur(max_by_pool(x, Window(window.kernel_size, (1, 1), window.padding)), window)


def aps_by_view(x: Tensor, window: Window) -> Tensor:
    (N, _, H, W), (sh, sw) = x.shape, window.stride
    parts = x.unflatten(3, (W // sw, sw)).unflatten(2, (H // sh, sh))
    phase = parts.detach().square().sum(dim=(1, 2, 4)).flatten(1).argmax(dim=1)
    return parts[torch.arange(N, device=x.device), :, :, phase // sw, :, phase % sw]


def aps_by_slices(x: Tensor, window: Window) -> Tensor:
    sh, sw = window.stride
    parts = [x[..., i::sh, j::sw] for i in range(sh) for j in range(sw)]
    phase = torch.stack([part.detach().square().sum(dim=(1, 2, 3)) for part in parts]).argmax(dim=0)
    return reduce(lambda y, k: torch.where(phase.view(-1, 1, 1, 1) == k, parts[k], y), range(1, len(parts)), parts[0])


def aps_by_stack(x: Tensor, window: Window) -> Tensor:
    sh, sw = window.stride
    parts = torch.stack([x[..., i::sh, j::sw] for i in range(sh) for j in range(sw)])
    phase = parts.detach().square().sum(dim=(2, 3, 4)).argmax(dim=0)
    return parts[phase, torch.arange(len(x), device=x.device)]


BLURS: dict[str, Program] = {"conv2d": blur_by_conv, "avg_pool2d": blur_by_pool, "slices": blur_by_slices}
RANKED: dict[str, Program] = {"network": ranked_by_network} | tensors(ranked_by_tensor)
DRAWN: dict[str, Program] = {"network": drawn_by_network} | tensors(drawn_by_tensor)
MIXED: dict[str, Program] = {
    "avg_pool2d": partial(mixed, max_by_pool, mean_by_pool),
    "slices": partial(mixed, max_by_slices, mean_by_slices),
}

PROGRAMS: dict[str, dict[str, Program]] = {
    "max": {"max_pool2d": max_by_pool},
    "max_indices": {"max_pool2d": partial(max_by_pool, return_indices=True)},
    "min": {"max_pool2d": min_by_pool, "slices": min_by_slices} | tensors(min_by_tensor),
    "avg": {"avg_pool2d": lambda x, window: F.avg_pool2d(x, window.kernel_size, window.stride, window.padding)},
    "subsample_scaled": {"avg_pool2d": scaled_by_pool, "conv2d": scaled_by_conv, "slices": scaled_by_slices},
    "mixed": MIXED,
    "mixed_learned": MIXED,
    "blur": BLURS,
    "max_blur": {name: partial(max_then, blur) for name, blur in BLURS.items()},
    "lp2": {"lp_pool2d": partial(lp_pool2d, 2.0)} | arithmetic(lp2),
    "lp3": {"lp_pool2d": partial(lp_pool2d, 3.0)} | arithmetic(lp3),
    "gem": arithmetic(gem),
    "lse": arithmetic(lse),
    "soft": arithmetic(soft),
    "stochastic": {"slices": stochastic_by_slices} | tensors(stochastic_by_tensor),
    "stochastic_eval": arithmetic(stochastic_eval),
    "weighted_mean": arithmetic(weighted_mean),
    "edscw": weighed(closeness),
    "idw": weighed(nearness),
    "ada": {"avg_pool2d": ada_by_pool, "slices": ada_by_slices} | tensors(ada_by_tensor),
    "aps": {"view": aps_by_view, "slices": aps_by_slices, "stack": aps_by_stack},
    "median": {"network": median_by_network} | tensors(median_by_tensor),
    "rap": RANKED,
    "rwp": RANKED,
    "rsp": DRAWN,
    "max_dropout": {"max_pool2d": max_dropout_by_pool, "slices": max_dropout_by_slices} | DRAWN,
    "ordinal": {"network": ordinal_by_network} | tensors(ordinal_by_tensor),
}
