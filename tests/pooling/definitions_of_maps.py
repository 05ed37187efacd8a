"""Definitions of what has no window: heads, upsampling partners, context, adaptive pools."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import erf
from torch import nn

from pooling import reference
from pooling.geometry import Window
from tests.pooling.cases import Case

Array = np.ndarray
Uniforms = Callable[[int], Array] | None


def tensor(value: Any) -> Array:
    return value.detach().numpy()


def linear(module: nn.Module, x: Array) -> Array:
    y = x @ tensor(module.weight).T
    return y if module.bias is None else y + tensor(module.bias)


def layer_norm(module: nn.Module, x: Array) -> Array:
    spread = np.sqrt(x.var(axis=-1, keepdims=True) + module.eps)
    return (x - x.mean(axis=-1, keepdims=True)) / spread * tensor(module.weight) + tensor(module.bias)


def attention(logits: Array) -> Array:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def attention_pool(module, case, x, window, uniforms):
    y = np.empty(x.shape[:2])
    size = x.shape[1] // module.heads
    for n, image in enumerate(x):
        keys, values = np.split(linear(module.key_value, image.reshape(x.shape[1], -1).T), 2, axis=1)
        for part in (slice(h * size, (h + 1) * size) for h in range(module.heads)):
            weights = attention(keys[:, part] @ tensor(module.query)[part] / np.sqrt(size))
            y[n, part] = weights @ values[:, part]
    y = linear(module.project, y)
    if module.mlp is None:
        return y
    norm, first, _, second = module.mlp
    hidden = linear(first, layer_norm(norm, y))
    return y + linear(second, hidden * (1 + erf(hidden / np.sqrt(2))) / 2)


def simpool(module, case, x, window, uniforms):
    y, gamma = np.empty(x.shape[:2]), case.option("gamma")
    for n, image in enumerate(x):
        positions = image.reshape(x.shape[1], -1).T
        z = layer_norm(module.norm, positions)
        query = linear(module.query, positions.mean(axis=0))
        weights = attention(linear(module.key, z) @ query / np.sqrt(x.shape[1]))
        y[n] = (weights @ (z - z.min()) ** gamma) ** (1 / gamma)
    return y


def covariance(module, case, x, window, uniforms):
    if isinstance(module.fewer, nn.Conv2d):
        x = np.einsum("dc,nchw->ndhw", tensor(module.fewer.weight)[:, :, 0, 0], x)
    return reference.covariance_pool2d(x, case.option("iterations"))


def adaptive(define: Callable[..., Array]) -> Callable[..., Array]:
    def bins(module: nn.Module, case: Case, x: Array, window: Window, uniforms: Uniforms) -> Array:
        size = case.option("output_size")
        return define(x, size if isinstance(size, tuple) else (size, size))

    return bins


def put_back(define: Callable[..., Array]) -> Callable[..., Array]:
    """The definition of an upsampling partner: of x, the size, the choice of the pool, the window."""

    def upsample(module: nn.Module, case: Case, x: Array, window: Window, uniforms: Uniforms) -> Array:
        choice = module.choice(torch.from_numpy(x))
        return define(x, module.size(torch.from_numpy(x)), None if choice is None else choice.numpy(), window)

    return upsample


def shared_out(x: Array, size: tuple[int, int], phase: Array, window: Window) -> Array:
    if phase.ndim == 1:
        return reference.polyphase_unpool2d(x, phase, window.stride, size)
    return sum(
        phase[:, k, None, None, None] * reference.polyphase_unpool2d(x, np.full(len(x), k), window.stride, size)
        for k in range(phase.shape[1])
    )


def transposed_conv(module, case, x, window, uniforms):
    """Every input adds its weighted taps; past the last row and column the result goes on as it ends."""
    conv, size = module.operator.conv, module.size(torch.from_numpy(x))
    (sh, sw), (eh, ew), (H, W) = window.stride, window.extent, x.shape[2:]
    weight = tensor(conv.weight).reshape(x.shape[1], conv.out_channels, -1)
    y = np.zeros((len(x), conv.out_channels, (H - 1) * sh + eh, (W - 1) * sw + ew))
    y += tensor(conv.bias)[:, None, None]
    for h, w in np.ndindex(H, W):
        for k, (di, dj) in enumerate(window.taps()):
            y[:, :, h * sh + di, w * sw + dj] += x[:, :, h, w] @ weight[:, :, k]
    rows, columns = (
        [min(i + p, n - 1) for i in range(m)] for m, p, n in zip(size, window.padding, y.shape[2:], strict=True)
    )
    return y[:, :, rows][:, :, :, columns]


def batch_norm(module: nn.Module, x: Array) -> Array:
    """By the batch in training, where it has more than one value per channel; otherwise by the running statistics."""
    mean, variance = tensor(module.running_mean), tensor(module.running_var)
    if module.training and x[:, 0].size > 1:
        mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    scale = tensor(module.weight) / np.sqrt(variance + module.eps)
    return (x - mean[:, None, None]) * scale[:, None, None] + tensor(module.bias)[:, None, None]


def conv_unit(layers: list[nn.Module], case: Case, x: Array) -> Array:
    """A convolution that keeps the size, batch normalisation, ReLU."""
    conv, norm, *_ = layers
    weight, (d, _), (N, _, H, W) = tensor(conv.weight), conv.dilation, x.shape
    reach = weight.shape[2] // 2
    y = np.zeros((N, len(weight), H, W))
    for (h, w), u, v in itertools.product(np.ndindex(H, W), *2 * [range(-reach, reach + 1)]):
        at = [reference.continued(i, n, case.padding_mode) for i, n in ((h + u * d, H), (w + v * d, W))]
        if None not in at:
            y[:, :, h, w] += x[:, :, at[0], at[1]] @ weight[:, :, u + reach, v + reach].T
    return np.maximum(batch_norm(norm, y), 0)


def pooled_branch(branch: nn.Module, case: Case, x: Array) -> Array:
    pool, *layers = branch
    grid = pool.output_size
    return reference.bilinear2d(conv_unit(layers, case, reference.adaptive_avg_pool2d(x, (grid, grid))), x.shape[2:])


def ppm(module, case, x, window, uniforms):
    return conv_unit(module.project, case, np.hstack([x, *(pooled_branch(b, case, x) for b in module.branches)]))


def aspp(module, case, x, window, uniforms):
    *convs, mean = module.convs
    parts = [*(conv_unit(branch, case, x) for branch in convs), pooled_branch(mean, case, x)]
    return conv_unit(module.project, case, np.hstack(parts))
