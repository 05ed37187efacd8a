"""Every operator in plain PyTorch: what runs where no native kernel does, and what is differentiated twice.

A windowed operator is a line or two over the *taps* of all windows: a tensor of shape (K, N, C, H', W') whose leading
axis walks through a window in row-major order. Inputs are (N, C, H, W) in float32 or float64.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from pooling import philox
from pooling.geometry import Window


def pad2d(x: Tensor, left: int, right: int, top: int, bottom: int, mode: str) -> Tensor:
    """Continue the last two axes past their border: "zeros", "edge", "reflect" or "circular".

    Unlike `torch.nn.functional.pad` it takes any width in any mode (reflecting or wrapping as often as it must), and
    negative widths crop.
    """
    if mode == "zeros":
        return F.pad(x, (left, right, top, bottom))
    rows = _source(x.shape[-2], top, bottom, mode, x.device)
    columns = _source(x.shape[-1], left, right, mode, x.device)
    x = x if rows is None else x.index_select(-2, rows)
    return x if columns is None else x.index_select(-1, columns)


def _source(length: int, before: int, after: int, mode: str, device: torch.device) -> Tensor | None:
    """The index that each position of a padded axis reads."""
    if before == after == 0:
        return None
    at = torch.arange(-before, length + after, device=device)
    if mode == "edge":
        return at.clamp(0, length - 1)
    if mode == "circular":
        return at % length
    period = max(1, 2 * (length - 1))
    folded = at % period
    return torch.minimum(folded, period - folded)  # not by abs(), which torch.compile's index analysis does not follow


def taps(x: Tensor, window: Window, fill: float = 0.0) -> Tensor:
    """(N, C, H, W) -> (K, N, C, H', W'): the K taps of every window; those past the border are `fill`."""
    (height, width), (ph, pw), (sh, sw) = x.shape[-2:], window.padding, window.stride
    out_h, out_w = window.output_size(height, width)
    if window == Window((height, width), (height, width)):  # the whole map is one window: no tap is copied
        return x.flatten(2).movedim(2, 0)[..., None, None]
    far_h, far_w = window.overhang(height, width)
    if ph or pw or far_h or far_w:
        x = F.pad(x, (pw, far_w, ph, far_h), value=fill)
    rows, columns = (out_h - 1) * sh + 1, (out_w - 1) * sw + 1
    return torch.stack([x[..., i : i + rows : sh, j : j + columns : sw] for i, j in window.taps()])


def members(x: Tensor, window: Window) -> Tensor:
    """(K, 1, 1, H', W') bool: which taps lie inside the input."""
    inside = torch.ones((1, 1, *x.shape[-2:]), dtype=torch.bool, device=x.device)
    return taps(inside, window)


def weighted_mean(values: Tensor, logits: Tensor, inside: Tensor) -> Tensor:
    """Sum of the taps' values under softmax(logits) over the members of each window."""
    weights = logits.masked_fill(~inside, -torch.inf).softmax(dim=0)
    return (weights * values).sum(dim=0)


def max_pool2d(x: Tensor, window: Window) -> Tensor:
    return F.max_pool2d(x, window.kernel_size, window.stride, window.padding, window.dilation, window.ceil_mode)


def max_pool2d_with_indices(x: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    return F.max_pool2d_with_indices(
        x, window.kernel_size, window.stride, window.padding, window.dilation, window.ceil_mode
    )


def min_pool2d(x: Tensor, window: Window) -> Tensor:
    return -max_pool2d(-x, window)


def avg_pool2d(x: Tensor, window: Window, count_include_pad: bool, divisor_override: int | None) -> Tensor:
    if window.dilation == (1, 1):
        return F.avg_pool2d(
            x, window.kernel_size, window.stride, window.padding, window.ceil_mode, count_include_pad, divisor_override
        )
    total = taps(x, window).sum(dim=0)
    if divisor_override is not None:
        return total / divisor_override
    if not count_include_pad:
        return total / members(x, window).sum(dim=0)
    # Padding counts, a ceil_mode window's reach past the padding does not.
    (ph, pw), (height, width) = window.padding, x.shape[-2:]
    field = x.new_empty((1, 1, height + 2 * ph, width + 2 * pw))
    reach = Window(window.kernel_size, window.stride, (0, 0), window.dilation, ceil_mode=True)
    return total / members(field, reach).sum(dim=0)[..., : total.shape[-2], : total.shape[-1]]


def lp_pool2d(x: Tensor, window: Window, p: float | Tensor, normalize: bool) -> Tensor:
    size = taps(x, window).abs()
    # The norm of a window in units of its largest value neither overflows nor underflows; the unit is a constant to
    # the gradient because the result does not depend on it. An all-zero window has the root of 0 masked out.
    unit = size.amax(dim=0).detach()
    unit = torch.where((unit > 0) & unit.isfinite(), unit, 1.0)
    total = safe_power(size / unit, p).sum(dim=0)
    if normalize:
        total = total / members(x, window).sum(dim=0)
    zero = total == 0
    root = torch.where(zero, 1.0, total) ** (1 / p)
    return torch.where(zero, 0.0, root * unit)


def safe_power(size: Tensor, p: float | Tensor) -> Tensor:
    """size^p with derivative 0, not NaN, at size = 0, in size and in a learned p."""
    zero = size == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, size) ** p)


def mixed_pool2d(x: Tensor, window: Window, a: float | Tensor) -> Tensor:
    top, mean = max_pool2d(x, window), _member_mean(x, window)
    return a * top + (1 - a) * mean


def _member_mean(x: Tensor, window: Window) -> Tensor:
    return avg_pool2d(x, window, count_include_pad=False, divisor_override=None)


def soft_pool2d(x: Tensor, window: Window, beta: float) -> Tensor:
    values = taps(x, window)
    return weighted_mean(values, beta * values, members(x, window))


def stochastic_pool2d(x: Tensor, window: Window, seed: Tensor | None, negatives: str, evaluate: str) -> Tensor:
    inside = members(x, window)
    values = taps(x, window)
    if negatives == "shift":
        floor = values.masked_fill(~inside, torch.inf).min(dim=0).values
        activation = values - floor
    else:
        floor = values.new_zeros(())
        activation = values.relu()  # not clamp, whose gradient at 0 was 1 in some versions of torch
    activation = torch.where(inside, activation, 0.0)
    total = _ordered_sum(activation)
    if seed is not None:
        tap = _drawn_tap(activation, total, philox.uniform(seed, total.numel()).view(total.shape))
        drawn = floor + activation.gather(0, tap).squeeze(0)
        return torch.where(total.isnan(), total, drawn)
    if evaluate == "max":
        return floor + activation.amax(dim=0)
    if evaluate == "avg":
        return floor + activation.sum(dim=0) / inside.sum(dim=0)
    empty = total == 0
    mean = (activation * (activation / torch.where(empty, 1.0, total))).sum(dim=0)
    return floor + torch.where(empty, 0.0, mean)


def _ordered_sum(values: Tensor | list[Tensor]) -> Tensor:
    """The sum over the leading axis, or of a list, in that order, so that every backend rounds alike."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _drawn_tap(activation: Tensor, total: Tensor, uniform: Tensor) -> Tensor:
    """(1, N, C, H', W'): the first tap whose running sum exceeds uniform * total; it has a positive activation."""
    activation, threshold = activation.detach(), (uniform * total).detach()
    running = torch.zeros_like(threshold)
    tap = torch.zeros_like(threshold, dtype=torch.int64)
    found = torch.zeros_like(threshold, dtype=torch.bool)
    for k, value in enumerate(activation):
        running = running + value
        # Where rounding leaves no running sum above the threshold, the last positive tap keeps the choice.
        tap = torch.where(~found & (value > 0), k, tap)
        # An infinite activation leaves nothing to those after it.
        found = found | (running > threshold) | running.isinf()
    return tap.unsqueeze(0)


def gem_pool2d(x: Tensor, window: Window, p: float | Tensor, eps: float) -> Tensor:
    size = taps(x.clamp(min=eps), window)
    inside = members(x, window)
    unit = size.masked_fill(~inside, 0).amax(dim=0).detach()
    unit = torch.where((unit > 0) & unit.isfinite(), unit, 1.0)
    powers = torch.where(inside, size / unit, 1.0) ** p
    mean = torch.where(inside, powers, 0.0).sum(dim=0) / inside.sum(dim=0)
    return mean ** (1 / p) * unit


def lse_pool2d(x: Tensor, window: Window, r: float | Tensor) -> Tensor:
    """(log sum e^{r x} - log n) / r, by way of log1p and expm1, which keep their places where r is small."""
    values, inside = taps(x, window), members(x, window)
    count = inside.sum(dim=0)
    z = r * values
    top = z.masked_fill(~inside, -torch.inf).amax(dim=0).detach()
    centre = torch.where(top.isfinite(), top, 0.0)
    excess = torch.expm1((z - centre).masked_fill(~inside, 0.0)).sum(dim=0) / count
    mean = torch.where(inside, values, 0.0).sum(dim=0) / count
    r = torch.as_tensor(r, dtype=x.dtype, device=x.device)
    safe = torch.where(r == 0, 1.0, r)
    y = torch.where(top.isinf(), top * r, (centre + torch.log1p(excess)) / safe)
    spread = torch.where(inside, (values - mean) ** 2, 0.0).sum(dim=0) / count
    return torch.where(r == 0, mean + r * spread / 2, torch.where(top.isnan(), top, y))


def normalised(values: Tensor, weights: Tensor, inside: Tensor) -> Tensor:
    """Sum of the taps' values over the members of each window, by their weights over the weights' sum."""
    weights = torch.where(inside, weights, 0.0)
    return (weights * torch.where(inside, values, 0.0)).sum(dim=0) / weights.sum(dim=0)


def edscw_pool2d(x: Tensor, window: Window, eps: float) -> Tensor:
    values, mean = taps(x, window), _member_mean(x, window)
    similarity = 2 * (values * mean).abs() / (values**2 + mean**2 + eps)
    return weighted_mean(values, similarity, members(x, window))


def idw_pool2d(x: Tensor, window: Window, eps: float) -> Tensor:
    values, mean = taps(x, window), _member_mean(x, window)
    return normalised(values, 1 / ((values - mean).abs() + eps), members(x, window))


def ada_pool2d(x: Tensor, window: Window, b: float | Tensor, eps: float) -> Tensor:
    return b * edscw_pool2d(x, window, eps) + (1 - b) * soft_pool2d(x, window, 1.0)


def weighted_mean_pool2d(x: Tensor, window: Window, logits: Tensor) -> Tensor:
    return weighted_mean(taps(x, window), taps(logits, window), members(x, window))


def sorted_members(x: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """The taps in descending order, ties row-major, members first: values, tap numbers, the number of members."""
    inside = members(x, window)
    values, order = taps(x, window).masked_fill(~inside, -torch.inf).sort(dim=0, descending=True, stable=True)
    return values, order, inside.sum(dim=0)


def _nan_of(values: Tensor, y: Tensor) -> Tensor:
    nan = values.isnan().any(dim=0)
    return torch.where(nan, torch.nan, y)


def median_pool2d(x: Tensor, window: Window) -> Tensor:
    values, _, count = sorted_members(x, window)
    rank = (count // 2).expand(values.shape[1:]).unsqueeze(0)
    return _nan_of(values, values.gather(0, rank).squeeze(0))


def ranked_pool2d(x: Tensor, window: Window, table: Tensor) -> Tensor:
    """sum_r w_r x(r); `table` (K + 1, K), or (C, K + 1, K), holds the weights by number of members and rank."""
    values, _, count = sorted_members(x, window)
    weights = table.to(x.dtype)[..., count.flatten(), :].movedim(-1, 0)
    weights = weights.reshape(len(values), 1, -1, *count.shape[-2:])
    # Masked before the product, whose gradient by the weights of absent members would be -inf * 0.
    return _nan_of(values, (weights * torch.where(weights == 0, 0.0, values)).sum(dim=0))


def rank_draw_pool2d(x: Tensor, window: Window, table: Tensor, seed: Tensor) -> Tensor:
    """x(r) for the first rank r whose cumulative probability (`table`) exceeds a uniform number; 0 where none does."""
    values, _, count = sorted_members(x, window)
    uniform = philox.uniform(seed, values[0].numel()).view(values.shape[1:])
    cumulative = table.to(x.dtype)[count.flatten()].movedim(-1, 0).reshape(len(values), 1, 1, *count.shape[-2:])
    rank = torch.arange(len(values), device=x.device).view(-1, 1, 1, 1, 1)
    rank = torch.where((cumulative > uniform) & (rank < count), rank, len(values)).amin(dim=0, keepdim=True)
    y = values.gather(0, rank.clamp(max=len(values) - 1))
    return _nan_of(values, torch.where(rank < len(values), y, 0.0).squeeze(0))


def subsample_scaled2d(x: Tensor, window: Window, scale: Tensor, bias: Tensor) -> Tensor:
    total = avg_pool2d(x, window, count_include_pad=True, divisor_override=1)
    return total * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)


def filter2d(
    x: Tensor, kernel: Tensor, stride: tuple[int, int], before: tuple[int, int], size: tuple[int, int], pad_mode: str
) -> Tensor:
    """The same (h, w) filter on every channel, H', W' = `size`, the first window `before` rows and columns outside."""
    channels = x.shape[1]
    reach = [(n - 1) * s + k - b for n, s, k, b in zip(size, stride, kernel.shape, before, strict=True)]
    top, left = before
    x = pad2d(x, left, reach[1] - x.shape[3], top, reach[0] - x.shape[2], pad_mode)
    weight = kernel.to(x.dtype).expand(channels, 1, *kernel.shape)
    with full_precision(x.device):
        return F.conv2d(x, weight, stride=stride, groups=channels)


def max_blur_pool2d(
    x: Tensor,
    dense: Window,
    maxima: tuple[int, int],
    row: Tensor,
    stride: tuple[int, int],
    before: int,
    size: tuple[int, int],
    pad_mode: str,
) -> Tensor:
    """The window's max at H1, W1 = `maxima` positions one apart, then the filter outer(row, row)."""
    (ph, pw), (eh, ew) = dense.padding, dense.extent
    x = F.pad(x, (pw, maxima[1] + ew - 1 - pw - x.shape[3], ph, maxima[0] + eh - 1 - ph - x.shape[2]), value=-torch.inf)
    return filter2d(max_pool2d(x, dense.unpadded()), torch.outer(row, row), stride, (before, before), size, pad_mode)


def adaptive_filter2d(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, stride: tuple[int, int], size: tuple[int, int], pad_mode: str
) -> Tensor:
    """A filter of its own at each place for each group of channels: softmax over the taps of conv(x, weight) + bias.

    weight is (G * h * w, C, h, w): the filter has the size of the convolution that predicts it.
    """
    (N, C), (h, w), (sh, sw) = x.shape[:2], weight.shape[-2:], stride
    top, left = (h - 1) // 2, (w - 1) // 2
    rows, columns = (size[0] - 1) * sh + 1, (size[1] - 1) * sw + 1
    x = pad2d(x, left, columns + w - 1 - left - x.shape[3], top, rows + h - 1 - top - x.shape[2], pad_mode)
    logits = F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride=stride).to(x.dtype)
    filters = logits.view(N, groups, h * w, 1, *size).softmax(dim=2)
    parts = x.view(N, groups, C // groups, *x.shape[2:])
    taps = (parts[..., i : i + rows : sh, j : j + columns : sw] for i in range(h) for j in range(w))
    return _ordered_sum([filters[:, :, k] * tap for k, tap in enumerate(taps)]).flatten(1, 2)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Without autocast, which would lower a filter or a product to half precision, unlike every other pooling."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()


def widest(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def working_dtype(x: Tensor) -> torch.dtype:
    """What an operator computes in: float64 for float64, float32 for everything else."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def window_dot(x: Tensor, window: Window, weight: Tensor) -> Tensor:
    """The inner product of each window with M weightings of its K taps: weight (C or 1, M, K) -> (N, C, M, H', W').

    What lies past the border counts as 0.
    """
    (ph, pw), far, (N, C) = window.padding, window.overhang(x.shape[-2], x.shape[-1]), x.shape[:2]
    weight = weight.to(x.dtype).expand(C, *weight.shape[1:])
    kernels = weight.reshape(-1, 1, *window.kernel_size)
    with full_precision(x.device):
        x = F.pad(x, (pw, far[1], ph, far[0]))
        y = F.conv2d(x, kernels, stride=window.stride, dilation=window.dilation, groups=C)
    return y.view(N, C, weight.shape[1], *y.shape[-2:])


def polyphase(x: Tensor, stride: tuple[int, int], far_mode: str) -> Tensor:
    """(N, C, H, W) -> (N, S, C, ceil(H / s), ceil(W / s)): the S = s_h * s_w polyphase components, row-major.

    Sides that the stride does not divide are first continued at the far end.
    """
    sh, sw = stride
    x = pad2d(x, 0, -x.shape[3] % sw, 0, -x.shape[2] % sh, far_mode)
    N, C, H, W = x.shape
    parts = x.reshape(N, C, H // sh, sh, W // sw, sw)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(N, sh * sw, C, H // sh, W // sw)


def polyphase_norms(components: Tensor, norm: float) -> Tensor:
    """(N, S, C, h, w) -> (N, S): each component's norm, monotonically (the p-th power for finite p).

    Summed in float64 where the device has it: a rolled image adds the same numbers in another order, and the choice
    between components must not hang on how that rounds.
    """
    size = components.detach().abs().flatten(2)
    if norm == float("inf"):
        return size.amax(dim=2)
    return (size.to(widest(size.device)) ** norm).sum(dim=2)


def polyphase_unpool2d(x: Tensor, phase: Tensor, stride: tuple[int, int], size: tuple[int, int] | None) -> Tensor:
    """`polyphase` the other way round: every grid empty but the one that `phase` (N,) names, or filled by shares."""
    (sh, sw), (N, C, h, w) = stride, x.shape
    grids = x.unsqueeze(1)
    if phase.dim() == 1:
        named = torch.arange(sh * sw, device=x.device) == phase.unsqueeze(1)
        grids = torch.where(named.view(N, sh * sw, 1, 1, 1), grids, 0.0)
    else:
        grids = phase.to(x.dtype).view(N, sh * sw, 1, 1, 1) * grids
    y = grids.view(N, sh, sw, C, h, w).permute(0, 3, 4, 1, 5, 2).reshape(N, C, h * sh, w * sw)
    return y if size is None else pad2d(y, 0, size[1] - w * sw, 0, size[0] - h * sh, "zeros")


def covariance_pool2d(x: Tensor, iterations: int) -> Tensor:
    """(N, C, H, W) -> (N, C (C + 1) / 2)."""
    with full_precision(x.device):
        centred = x.flatten(2) - x.mean(dim=(2, 3)).unsqueeze(2)
        covariance = centred @ centred.transpose(1, 2) / centred.shape[2]
        trace = covariance.diagonal(dim1=1, dim2=2).sum(dim=1).view(-1, 1, 1)
        trace = torch.where(trace > 0, trace, 1.0)  # a map of one position has no covariance: its root is 0
        identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        # The iteration converges for matrices with eigenvalues in [0, 1]; over the trace they are.
        y = covariance / trace
        z = step = (3 * identity - y) / 2
        y = y @ step
        for _ in range(iterations - 1):
            step = (3 * identity - z @ y) / 2
            y, z = y @ step, step @ z
        rows, columns = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
        return (y * trace.sqrt())[:, rows, columns]
