"""For each operator's name its definition in NumPy float64, for the conformance suite.

A definition takes the module (for its parameters), the case (for its options), x, the window and, where the operator
is to be random, `uniforms`: count -> that many numbers in [0, 1); None in eval mode.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import pooling
from pooling import reference
from pooling.geometry import Window
from tests.pooling import regions
from tests.pooling.cases import WHOLE_MAPS, Case, boxes_in
from tests.pooling.definitions_of_maps import (
    Array,
    Uniforms,
    adaptive,
    aspp,
    attention_pool,
    covariance,
    ppm,
    put_back,
    shared_out,
    simpool,
    tensor,
    transposed_conv,
)


def continued(x: Array, window: Window, mode: str) -> Array:
    """x continued past its border by the window's padding."""
    (H, W), (ph, pw) = x.shape[2:], window.padding
    rows = [reference.continued(h, H, mode) for h in range(-ph, H + ph)]
    columns = [reference.continued(w, W, mode) for w in range(-pw, W + pw)]
    return x[:, :, rows][:, :, :, columns]


def over_windows(function: Callable[..., Array]) -> Callable[..., Array]:
    """A reducer's definition under every padding mode: continuing the input first, and MaxPool2d's size after."""

    def define(module: nn.Module, case: Case, x: Array, window: Window, uniforms: Uniforms) -> Array:
        size = window.output_size(*x.shape[2:])
        if case.padding_mode != "zeros" and any(window.padding):
            x, window = continued(x, window, case.padding_mode), window.unpadded()
        larger = window.output_size(*x.shape[2:])

        def drawn() -> Array | None:
            """A number for each element of the result; for what is cut off below, 0."""
            if uniforms is None:
                return None
            each = uniforms(x.shape[0] * x.shape[1] * size[0] * size[1]).reshape(*x.shape[:2], *size)
            return np.pad(each, ((0, 0), (0, 0), (0, larger[0] - size[0]), (0, larger[1] - size[1])))

        draws = drawn if function in EACH_WINDOW_DRAWS else uniforms
        return function(module, case, x, window, draws)[:, :, : size[0], : size[1]]

    return define


def per_channel(x: Array, value: Any, define: Callable[[Array, float], Array]) -> Array:
    """`define(channel, value of the channel)` for a value that may be one per layer or one per channel."""
    each = np.broadcast_to(np.asarray(value).reshape(-1), (x.shape[1],))
    return np.concatenate([define(x[:, c : c + 1], each[c]) for c in range(x.shape[1])], axis=1)


def maximum(module, case, x, window, uniforms):
    return reference.max_pool2d(x, window)


def minimum(module, case, x, window, uniforms):
    return reference.min_pool2d(x, window)


def average(module, case, x, window, uniforms):
    options = {name: case.option(name) for name in ("count_include_pad", "divisor_override")}
    return reference.avg_pool2d(x, window, **options)


def lp(module, case, x, window, uniforms):
    p = case.option("p") if module.theta is None else 1 + np.log1p(np.exp(tensor(module.theta)))
    return per_channel(x, p, lambda x, p: reference.lp_pool2d(x, window, p=p, normalize=case.option("normalize")))


def soft(module, case, x, window, uniforms):
    return reference.soft_pool2d(x, window, beta=case.option("beta"))


def mixed(module, case, x, window, uniforms):
    a = case.option("a")
    if a == "learned":
        a = 1 / (1 + np.exp(-tensor(module.theta)))
    elif a == "random":
        count = x.shape[1] if case.option("per") == "channel" else 1
        a = 0.5 if uniforms is None else (uniforms(count) < 0.5).astype(float)
    return per_channel(x, a, lambda x, a: reference.mixed_pool2d(x, window, a=a))


def stochastic(module, case, x, window, drawn):
    rules = {name: case.option(name) for name in ("negatives", "eval")}
    return reference.stochastic_pool2d(x, drawn(), window, **rules)


def median(module, case, x, window, uniforms):
    return reference.median_pool2d(x, window)


def gem(module, case, x, window, uniforms):
    p = case.option("p") if module.theta is None else np.log1p(np.exp(tensor(module.theta)))
    return per_channel(x, p, lambda x, p: reference.gem_pool2d(x, window, p=p, eps=case.option("eps")))


def lse(module, case, x, window, uniforms):
    r = case.option("r") if module.r is None else tensor(module.r)
    return per_channel(x, r, lambda x, r: reference.lse_pool2d(x, window, r=r))


def edscw(module, case, x, window, uniforms):
    return reference.edscw_pool2d(x, window)


def idw(module, case, x, window, uniforms):
    return reference.idw_pool2d(x, window)


def ada(module, case, x, window, uniforms):
    b = (1 / (1 + np.exp(-tensor(module.theta))))[:, 0, 0][:, None, None]
    return b * reference.edscw_pool2d(x, window) + (1 - b) * reference.soft_pool2d(x, window)


def rap(module, case, x, window, uniforms):
    return reference.ranked_pool2d(x, window, weights=lambda n: reference.rank_average_weights(n, case.option("t")))


def rwp(module, case, x, window, uniforms):
    return reference.ranked_pool2d(x, window, weights=lambda n: reference.geometric_weights(n, case.option("a")))


def drawn_rank(x, window, drawn, weights):
    if (uniforms := drawn()) is None:
        return reference.ranked_pool2d(x, window, weights=weights)
    return reference.rank_draw_pool2d(x, uniforms, window, weights=weights)


def rsp(module, case, x, window, drawn):
    return drawn_rank(x, window, drawn, lambda n: reference.geometric_weights(n, case.option("a")))


def max_dropout(module, case, x, window, drawn):
    return drawn_rank(x, window, drawn, lambda n: reference.first_kept_weights(n, case.option("q")))


def ordinal(module, case, x, window, uniforms):
    """softmax(theta), of which a window with fewer members takes the first weights, divided by their sum."""
    weights = np.atleast_2d(np.exp(tensor(module.theta)))

    def first(c: int, n: int) -> Array:
        return weights[c, :n] / weights[c, :n].sum()

    return per_channel(
        x, np.arange(len(weights)), lambda x, c: reference.ranked_pool2d(x, window, weights=lambda n: first(int(c), n))
    )


def s3(module, case, x, window, uniforms):
    size = window.output_size(*x.shape[2:])
    if case.padding_mode != "zeros":
        # All of the padding, or with ceil_mode no more than the windows reach.
        (H, W), (ph, pw), far = x.shape[2:], window.padding, window.overhang(*x.shape[2:])
        far = (min(ph, far[0]), min(pw, far[1])) if window.ceil_mode else (ph, pw)
        x = continued(x, window, case.padding_mode)[:, :, : H + ph + far[0], : W + pw + far[1]]
        window = window.unpadded()
    draws = None if uniforms is None else uniforms(x.shape[2] + x.shape[3] + 64)  # as many as any size may need
    y = reference.s3_pool2d(x, draws, window, keep=case.option("keep"))
    assert y.shape[2:] == size
    return y


def fractional(module, case, x, window, uniforms):
    ratio, sides = case.option("ratio"), x.shape[2:]
    size = window.output_size(*sides) if ratio is None else tuple(max(1, int(n // ratio)) for n in sides)
    if uniforms is not None and case.option("method") == "random":
        u = uniforms(sum(size))
        bounds = [reference.random_bounds(n, each) for n, each in zip(sides, (u[: size[0]], u[size[0] :]), strict=True)]
    else:
        u = np.zeros(2) if uniforms is None else uniforms(2)
        bounds = [reference.pseudo_random_bounds(n, m, each) for n, m, each in zip(sides, size, u, strict=True)]
    return reference.fractional_pool2d(x, *bounds, overlapping=case.option("overlapping"))


def products(x: Array, window: Window, weights: Array) -> Array:
    """v . x of each window for each v of weights (C or 1, M, K), absent taps counting 0: (N, C, M, H', W')."""
    size, (sh, sw), (ph, pw) = window.output_size(*x.shape[2:]), window.stride, window.padding
    y = np.zeros((*x.shape[:2], weights.shape[1], *size))
    for n, c, m, i, j in np.ndindex(*y.shape):
        for k, (di, dj) in enumerate(window.taps()):
            h, w = i * sh - ph + di, j * sw - pw + dj
            if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
                y[n, c, m, i, j] += weights[c % len(weights), m, k] * x[n, c, h, w]
    return y


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gated(module, case, x, window, uniforms):
    weight = np.atleast_2d(tensor(module.weight))[:, None]
    gate = sigmoid(products(x, window, weight))[:, :, 0]
    mean = reference.avg_pool2d(x, window, count_include_pad=False)
    return gate * reference.max_pool2d(x, window) + (1 - gate) * mean


def tree(module, case, x, window, uniforms):
    """Recursively: a tree's value is its gate's mixture of its left and right half."""
    leaves, gates = tensor(module.leaves), tensor(module.gates)
    leaves, gates = (w if w.ndim == 3 else w[None] for w in (leaves, gates))
    values, mixing = products(x, window, leaves), sigmoid(products(x, window, gates))
    level_starts = [0]  # gates are stored level by level, from above the leaves to the root
    while (width := leaves.shape[1] >> len(level_starts)) > 1:
        level_starts.append(level_starts[-1] + width)

    def value(level: int, node: int) -> Array:
        if level == 0:
            return values[:, :, node]
        g = mixing[:, :, level_starts[level - 1] + node]
        return g * value(level - 1, 2 * node) + (1 - g) * value(level - 1, 2 * node + 1)

    return value(case.option("depth") - 1, 0)


def conv3x3(x: Array, weight: Array, bias: Array, mode: str) -> Array:
    """The convolution that keeps the size, the map continued by `mode`."""
    x = continued(x, Window.of(3, 1, 1), mode) if mode != "zeros" else np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = np.empty((len(x), len(weight), x.shape[2] - 2, x.shape[3] - 2))
    for i, j in np.ndindex(*y.shape[2:]):
        y[:, :, i, j] = np.einsum("nchw,ochw->no", x[:, :, i : i + 3, j : j + 3], weight) + bias
    return y


def lip(module, case, x, window, uniforms):
    z = conv3x3(x, tensor(module.conv.weight), np.zeros(x.shape[1]), case.padding_mode)
    z = (z - z.mean(axis=(2, 3), keepdims=True)) / np.sqrt(z.var(axis=(2, 3), keepdims=True) + module.norm.eps)
    scale, shift = (tensor(p)[:, None, None] for p in (module.norm.weight, module.norm.bias))
    logits, size = 12 * sigmoid(z * scale + shift), window.output_size(*x.shape[2:])
    if case.padding_mode != "zeros":
        x, logits = (continued(t, window, case.padding_mode) for t in (x, logits))
        window = window.unpadded()
    return reference.weighted_mean_pool2d(x, logits, window)[:, :, : size[0], : size[1]]


def dpp(module, case, x, window, uniforms):
    alpha, power = np.exp(tensor(module.log_alpha)), np.exp(tensor(module.log_lambda))
    if case.option("smooth") == "full":
        smooth = products(x, window, tensor(module.filter)[:, None])[:, :, 0]
    else:
        smooth = reference.avg_pool2d(x, window, count_include_pad=False)
    y = np.empty_like(smooth)
    for at, positions in reference.windows(x, window):
        n, c = at[:2]
        values = np.array([x[n, c, h, w] for h, w in positions])
        distance = values - smooth[at]
        rho = np.sqrt((distance if case.option("symmetric") else np.maximum(distance, 0)) ** 2 + 1e-6)
        weights = alpha[c] + rho ** power[c]
        y[at] = (weights * values).sum() / weights.sum()
    return y


# Those that draw one number for each window.
EACH_WINDOW_DRAWS = (stochastic, rsp, max_dropout)


def subsample_scaled(module, case, x, window, uniforms):
    return reference.subsample_scaled2d(x, window, scale=tensor(module.scale), bias=tensor(module.bias))


def conv(module, case, x, window, uniforms):
    weight, bias = tensor(module.conv.weight), tensor(module.conv.bias)
    y = np.empty((*x.shape[:2], *window.output_size(*x.shape[2:])))
    (sh, sw), (ph, pw) = window.stride, window.padding
    for n, c, i, j in np.ndindex(*y.shape):
        y[n, c, i, j] = bias[c]
        inputs = [c] if case.option("depthwise") else range(x.shape[1])
        for k, (di, dj) in enumerate(window.taps()):
            h, w = i * sh - ph + di, j * sw - pw + dj
            if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
                y[n, c, i, j] += sum(weight[c, m].ravel()[k] * x[n, source, h, w] for m, source in enumerate(inputs))
    return y


def dense(case: Case, x: Array, window: Window) -> Array:
    """What stood at the site, at every position that the strided operator can ask for."""
    (H, W), (ph, pw), (eh, ew) = x.shape[2:], window.padding, window.extent
    if case.native == "conv":
        return x
    pool = reference.max_pool2d if case.native == "max" else reference.avg_pool2d
    if case.padding_mode == "circular":
        rows = np.arange(-ph, H + eh - 1 - ph) % H
        columns = np.arange(-pw, W + ew - 1 - pw) % W
        return pool(x[:, :, rows][:, :, :, columns], window.dense().unpadded())
    out = window.output_size(H, W)
    if case.padding_mode == "reflect":
        x, window = continued(x, window, "reflect"), window.unpadded()
    (H, W), (ph, pw), (sh, sw) = x.shape[2:], window.padding, window.stride
    rows = max(H + 2 * ph - eh + 1, (out[0] - 1) * sh + 1)
    columns = max(W + 2 * pw - ew + 1, (out[1] - 1) * sw + 1)
    y = np.empty((*x.shape[:2], rows, columns))
    for n, c, i, j in np.ndindex(*y.shape):
        reached = [(i - ph + di, j - pw + dj) for di, dj in window.taps()]
        members = [x[n, c, h, w] for h, w in reached if 0 <= h < H and 0 <= w < W]
        padded = sum(1 for h, w in reached if h < H + ph and w < W + pw)
        y[n, c, i, j] = max(members) if case.native == "max" else sum(members) / padded
    return y


def subsample(module, case, x, window, uniforms):
    (sh, sw), y = window.stride, dense(case, x, window)
    return y[:, :, ::sh, ::sw]


def blur(module, case, x, window, uniforms):
    length, mode = case.option("filter"), case.option("pad_mode")
    if mode == "auto":
        mode = "circular" if case.padding_mode == "circular" else "reflect"
    if case.native != "avg":
        return reference.blur_pool2d(dense(case, x, window), window.stride, filter=length, pad_mode=mode)
    # The blur stands in for the average: its filter is centred where the average's window was.
    row, (N, C, H, W), (sh, sw) = reference.binomial_row(length), x.shape, window.stride
    size = (-(-H // sh), -(-W // sw)) if case.padding_mode == "circular" else window.output_size(H, W)
    shift = [(e - 1) // 2 - p - (length - 1) // 2 for e, p in zip(window.extent, window.padding, strict=True)]
    y = np.zeros((N, C, *size))
    for n, c, i, j in np.ndindex(*y.shape):
        for u, v in np.ndindex(length, length):
            h = reference.continued(i * sh + shift[0] + u, H, mode)
            w = reference.continued(j * sw + shift[1] + v, W, mode)
            if h is not None and w is not None:
                y[n, c, i, j] += row[u] * row[v] * x[n, c, h, w]
    return y


def aps(module, case, x, window, uniforms):
    circular = case.padding_mode == "circular"
    x = dense(case, x, window)
    if case.option("filter") is not None:
        mode = "circular" if circular else "reflect"
        x = reference.blur_pool2d(x, (1, 1), filter=case.option("filter"), pad_mode=mode)
    far_mode = "circular" if circular else "edge"
    return reference.polyphase_pool2d(x, window.stride, norm=float(case.option("norm")), far_mode=far_mode)[0]


def wavelet(module, case, x, window, uniforms):
    mode = case.option("pad_mode")
    if mode == "auto":
        mode = "circular" if case.padding_mode == "circular" else "reflect"
    options = {name: case.option(name) for name in ("wavelet", "normalize")}
    return reference.wavelet_pool2d(dense(case, x, window), window.stride, pad_mode=mode, **options)


def strided_size(x: Array, window: Window) -> tuple[int, int]:
    return -(-x.shape[2] // window.stride[0]), -(-x.shape[3] // window.stride[1])


def ideal(module, case, x, window, uniforms):
    return reference.ideal_pool2d(dense(case, x, window), window.stride)


def flc(module, case, x, window, uniforms):
    x = dense(case, x, window)
    return reference.flc_pool2d(x, strided_size(x, window))


def asap(module, case, x, window, uniforms):
    x = dense(case, x, window)
    return reference.asap_pool2d(x, strided_size(x, window))


def spectral(module, case, x, window, uniforms):
    x, size = dense(case, x, window), case.option("size")
    return reference.spectral_pool2d(x, strided_size(x, window) if size is None else (size, size))


def ddac(module, case, x, window, uniforms):
    x, mode = dense(case, x, window), "circular" if case.padding_mode == "circular" else "reflect"
    weight, bias, (sh, sw) = tensor(module.predict.weight), tensor(module.predict.bias), window.stride
    length, near, (N, C, H, W) = weight.shape[-1], (weight.shape[-1] - 1) // 2, x.shape
    y = np.empty((N, C, *strided_size(x, window)))
    for n, i, j in np.ndindex(N, *y.shape[2:]):
        rows = [reference.continued(i * sh + u - near, H, mode) for u in range(length)]
        columns = [reference.continued(j * sw + v - near, W, mode) for v in range(length)]
        patch = x[n][:, rows][:, :, columns]
        weights = np.exp(np.einsum("cuv,ocuv->o", patch, weight) + bias).reshape(module.groups, length, length)
        weights = np.repeat(weights / weights.sum(axis=(1, 2), keepdims=True), C // module.groups, axis=0)
        y[n, :, i, j] = (weights * patch).sum(axis=(1, 2))
    return y


def components(case: Case, x: Array, window: Window) -> Array:
    """(N, S, C, h, w): the polyphase components of the dense map, row-major."""
    x, (sh, sw) = dense(case, x, window), window.stride
    mode, size = "circular" if case.padding_mode == "circular" else "edge", strided_size(x, window)
    rows = [reference.continued(h, x.shape[2], mode) for h in range(size[0] * sh)]
    columns = [reference.continued(w, x.shape[3], mode) for w in range(size[1] * sw)]
    x = x[:, :, rows][:, :, :, columns]
    return np.stack([x[:, :, a::sh, b::sw] for a in range(sh) for b in range(sw)], axis=1)


def lps(module, case, x, window, uniforms):
    parts, score = components(case, x, window), module.score
    scores = np.empty(parts.shape[:2])
    for s in range(parts.shape[1]):
        z = parts[:, s]
        for layer in (score.first, score.second):
            z = np.maximum(conv3x3(z, tensor(layer.weight), tensor(layer.bias), case.padding_mode), 0)
        scores[:, s] = z.mean(axis=(2, 3)) @ tensor(score.last.weight)[0]
    if uniforms is None:
        weights = np.eye(parts.shape[1])[scores.argmax(axis=1)]
    else:
        noise = -np.log(-np.log1p(-np.maximum(uniforms(scores.size), 2.0**-25))).reshape(scores.shape)
        weights = np.exp((scores + noise) / case.option("tau"))
        weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("ns,nschw->nchw", weights, parts)


def space_to_depth(module, case, x, window, uniforms):
    parts = components(case, x, window)
    weight = tensor(module.conv.weight).reshape(x.shape[1], *parts.shape[1:3])
    return np.einsum("osc,nschw->nohw", weight, parts) + tensor(module.conv.bias)[:, None, None]


def over_the_map(name: str) -> Callable[..., Array]:
    """The definition of a head that is a reducer, its window being the whole map."""

    def define(module: nn.Module, case: Case, x: Array, window: Window, uniforms: Uniforms) -> Array:
        size = (x.shape[2], x.shape[3])
        reducer = Case("reducer", name, case.arguments)
        return DEFINITIONS["reducer", name](module.pool, reducer, x, Window(size, size), uniforms)[:, :, 0, 0]

    return define


def over_boxes(name: str) -> Callable[..., Array]:
    def definition(module, case: Case, x: Array, window: Window, uniforms) -> Array:
        boxes, options = boxes_in(torch.from_numpy(x)).numpy(), module.operator.options
        return regions.DEFINITIONS[name](x, boxes, module.operator.output_size, **options)

    return definition


# By kind and name. An operator that is missing here fails the suite.
DEFINITIONS: dict[tuple[str, str], Callable[..., Array]] = {
    ("reducer", "max"): over_windows(maximum),
    ("reducer", "min"): over_windows(minimum),
    ("reducer", "avg"): over_windows(average),
    ("reducer", "lp"): over_windows(lp),
    ("reducer", "soft"): over_windows(soft),
    ("reducer", "mixed"): over_windows(mixed),
    ("reducer", "stochastic"): over_windows(stochastic),
    ("reducer", "median"): over_windows(median),
    ("reducer", "gem"): over_windows(gem),
    ("reducer", "lse"): over_windows(lse),
    ("reducer", "edscw"): over_windows(edscw),
    ("reducer", "idw"): over_windows(idw),
    ("reducer", "ada"): over_windows(ada),
    ("reducer", "rap"): over_windows(rap),
    ("reducer", "rwp"): over_windows(rwp),
    ("reducer", "rsp"): over_windows(rsp),
    ("reducer", "max_dropout"): over_windows(max_dropout),
    ("reducer", "ordinal"): over_windows(ordinal),
    ("reducer", "subsample_scaled"): over_windows(subsample_scaled),
    ("reducer", "conv"): over_windows(conv),
    ("reducer", "s3"): s3,
    ("reducer", "fractional"): fractional,
    ("reducer", "gated"): over_windows(gated),
    ("reducer", "tree"): over_windows(tree),
    ("reducer", "lip"): lip,
    ("reducer", "dpp"): over_windows(dpp),
    ("downsampler", "subsample"): subsample,
    ("downsampler", "blur"): blur,
    ("downsampler", "aps"): aps,
    ("downsampler", "wavelet"): wavelet,
    ("downsampler", "ideal"): ideal,
    ("downsampler", "flc"): flc,
    ("downsampler", "asap"): asap,
    ("downsampler", "spectral"): spectral,
    ("downsampler", "ddac"): ddac,
    ("downsampler", "lps"): lps,
    ("downsampler", "space_to_depth"): space_to_depth,
    ("global", "gap"): lambda module, case, x, window, uniforms: x.mean(axis=(2, 3)),
    ("global", "gmp"): lambda module, case, x, window, uniforms: x.max(axis=(2, 3)),
    ("global", "avgmax"): lambda module, case, x, window, uniforms: (x.mean(axis=(2, 3)) + x.max(axis=(2, 3))) / 2,
    ("global", "flatten"): lambda module, case, x, window, uniforms: reference.adaptive_pool2d(
        x, (case.option("grid"),) * 2, np.mean
    ).reshape(len(x), -1),
    ("global", "spp"): lambda module, case, x, window, uniforms: reference.spatial_pyramid(x, case.option("levels")),
    ("global", "cat_avgmax"): lambda module, case, x, window, uniforms: np.hstack(
        [x.mean(axis=(2, 3)), x.max(axis=(2, 3))]
    ),
    ("global", "map"): attention_pool,
    ("global", "simpool"): simpool,
    ("global", "covariance"): covariance,
    **{("global", name): over_the_map(name) for name in WHOLE_MAPS},
    ("upsample", "nearest"): put_back(lambda x, size, choice, window: reference.nearest2d(x, size)),
    ("upsample", "bilinear"): put_back(lambda x, size, choice, window: reference.bilinear2d(x, size)),
    ("upsample", "transposed_conv"): transposed_conv,
    ("upsample", "max_unpool"): put_back(lambda x, size, choice, window: reference.max_unpool2d(x, choice, size)),
    ("upsample", "aps_up"): put_back(shared_out),
    ("upsample", "lps_up"): put_back(shared_out),
    ("context", "ppm"): ppm,
    ("context", "aspp"): aspp,
    ("adaptive", "adaptive_max"): adaptive(lambda x, size: reference.adaptive_pool2d(x, size, np.max)),
    ("adaptive", "adaptive_avg"): adaptive(reference.adaptive_avg_pool2d),
    **{("region", name): over_boxes(name) for name in regions.DEFINITIONS},
}


def of_members(module, case, x, window, uniforms):
    return reference.pool2d(x, window, module.definition)


def of_dense(module, case, x, window, uniforms):
    return module.definition(dense(case, x, window))


def of_map(module, case, x, window, uniforms):
    return module.definition(x)


# A plugin's class may carry its own: of a window's members, of a downsampler's dense map, of a head's map.
OWN = {"reducer": over_windows(of_members), "downsampler": of_dense, "global": of_map}
for kind, define in OWN.items():
    for name in pooling.names(kind):
        if hasattr(pooling.info(name, kind).cls, "definition"):
            DEFINITIONS[kind, name] = define
