"""What is hung on the modules of a network that is not ours: hooks that can be copied and pickled with it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pooling
from pooling.composite import pad2d
from pooling.geometry import Pair, Window, pair
from pooling.operators.base import PaddingMode, Pool2d

Sides = tuple[int, int, int, int]  # top, left, bottom, right


def hang(operator: nn.Module, module: nn.Module, in_front: bool) -> None:
    """Let the operator run on a module's input or output; it becomes its child `before` or `after`."""
    module.add_module("before" if in_front else "after", operator)
    if in_front:
        module.register_forward_pre_hook(_run_before, prepend=True)  # the module's own padding comes after it
    else:
        module.register_forward_hook(_run_after)


def _run_before(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return module.before(inputs[0]), *inputs[1:]


def _run_after(module: Any, inputs: Any, output: Tensor) -> Tensor:
    return module.after(output)


class Transition:
    """The phase that the polyphase operators of a transition use: the first to run chooses it in each pass."""

    def __init__(self) -> None:
        self.phase: Any = None
        self.chosen = False

    def join(self, operator: nn.Module) -> None:
        """Operators join in the order in which they run."""
        if not self.chosen:
            self.chosen = True
            operator.register_forward_pre_hook(_ask_for_the_phase, with_kwargs=True)
            operator.register_forward_hook(self._keep)
        else:
            operator.register_forward_pre_hook(self._give, with_kwargs=True)

    def _keep(self, operator: nn.Module, inputs: Any, output: tuple[Tensor, Any]) -> Tensor:
        y, self.phase = output
        return y

    def _give(self, operator: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"phase": self.phase}

    def __getstate__(self) -> dict[str, Any]:
        return {"phase": None, "chosen": self.chosen}  # a pass's phase is no part of the network


def _ask_for_the_phase(operator: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return args, kwargs | {"return_phase": True}


def pads_same(layer: nn.Module) -> bool:
    """Whether a layer of timm's pads like TensorFlow: by its class, or by a flag where it standardises its weight."""
    return "Same" in type(layer).__name__ and getattr(layer, "same_pad", True)


def same_padding(layer: Any, H: int, W: int) -> Sides:
    """What TensorFlow's padding adds to an input of H x W for a layer with a kernel_size, a stride and a dilation.

    The output has ceil(H / stride) rows; where the padding is odd, the far side gets the larger part.
    """
    near, far = [], []
    for axis, length in enumerate((H, W)):
        kernel, stride, dilation = (pair(getattr(layer, name))[axis] for name in ("kernel_size", "stride", "dilation"))
        total = max(0, (-(-length // stride) - 1) * stride + dilation * (kernel - 1) + 1 - length)
        near.append(total // 2)
        far.append(total - total // 2)
    return near[0], near[1], far[0], far[1]


def numeric_padding(conv: nn.Conv2d) -> tuple[int, int]:
    """Rows and columns that a convolution adds on each side."""
    if conv.padding == "same":
        return tuple(d * (k - 1) // 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))  # pyright: ignore
    return (0, 0) if isinstance(conv.padding, str) else pair(conv.padding)  # pyright: ignore


class Padded:
    """A convolution's padding under a padding mode, and, `dense`, at stride 1 where its own stride asks for it.

    Around a circle there is no border: a dense convolution keeps the size, whatever its kernel.
    """

    def __init__(self, conv: nn.Conv2d, mode: PaddingMode, dense: bool) -> None:
        self.mode, self.dense = mode, dense
        self.kernel_size, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        self.numeric = numeric_padding(conv)
        self.same = pads_same(conv)

    def __call__(self, conv: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        x = inputs[0]
        top, left, bottom, right = same_padding(self, *x.shape[-2:]) if self.same else self.numeric * 2
        if self.dense and self.mode == "circular":
            reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            bottom, right = reach[0] - top, reach[1] - left
        return pad2d(x, left, right, top, bottom, self.mode)

    def hang_on(self, conv: nn.Conv2d) -> None:
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        odd = all(2 * p == r for p, r in zip(self.numeric, reach, strict=True))
        if self.dense:
            conv.stride = (1, 1)
        wraps = self.dense and self.mode == "circular" and not odd
        if not (self.same or wraps or self.mode != conv.padding_mode):
            return
        conv.register_forward_pre_hook(self)
        conv.padding, conv.padding_mode = (0, 0), "zeros"
        if hasattr(conv, "same_pad"):
            conv.same_pad = False  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
        elif self.same:
            conv.__class__ = nn.Conv2d  # timm's Conv2dSame is one that pads first


class FittedWindow:
    """The window of a max or average pool; of one that pads like TensorFlow, for the size of each input."""

    def __init__(self, pool: Any) -> None:
        self.kernel_size, self.stride, self.ceil_mode = pair(pool.kernel_size), pair(pool.stride), pool.ceil_mode
        self.padding: Pair = pair(pool.padding)
        self.same, self.dilation = pads_same(pool), (1, 1)
        self.name = "max" if isinstance(pool, nn.MaxPool2d) else "avg"
        names = ("count_include_pad", "divisor_override")
        self.options = {} if self.name == "max" else {name: getattr(pool, name) for name in names}

    def __call__(self, H: int, W: int) -> Window:
        if not self.same:
            return Window(self.kernel_size, self.stride, pair(self.padding), (1, 1), self.ceil_mode)
        # The far side's padding is at most one longer, which is what windows past the end are for.
        return Window(self.kernel_size, self.stride, same_padding(self, H, W)[:2], (1, 1), True)

    def native(self, mode: PaddingMode) -> nn.Module:
        """The same pool as an operator of ours, which knows padding modes."""
        window = self(1, 1)
        geometry = {name: getattr(window, name) for name in ("kernel_size", "stride", "padding", "ceil_mode")}
        operator = pooling.create(self.name, **geometry, padding_mode=mode, **self.options)
        self.hang_on(operator)
        return operator

    def hang_on(self, operator: nn.Module) -> None:
        if self.same:
            operator.register_forward_pre_hook(self._fit)

    def _fit(self, operator: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(operator, Pool2d):
            operator.window = self(*inputs[0].shape[-2:])


class DenseMerge:
    """Swin's patch merging (Liu et al. 2021, section 3.1) at every position: four passes, one for each of its phases.

    Shape: (N, H, W, C) -> (N, C', H, W), then the operator, which gives (N, H', W', C').
    Args:
        wraps: the last position's neighbour is the first.
    """

    def __init__(self, wraps: bool) -> None:
        self.wraps = wraps

    def hang_on(self, merge: nn.Module, operator: nn.Module) -> None:
        merge.add_module("after", operator)
        merge.register_forward_pre_hook(self._spread)
        merge.register_forward_hook(self._gather)

    def _spread(self, merge: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        x = inputs[0]

        def moved(x: Tensor, axis: int) -> Tensor:
            if self.wraps:
                return x.roll(-1, axis)
            return F.pad(x.narrow(axis, 1, x.shape[axis] - 1), (0, 0, 0, axis == 2, 0, axis == 1))

        return torch.cat([x, moved(x, 2), moved(x, 1), moved(moved(x, 1), 2)])

    def _gather(self, merge: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        H, W = inputs[0].shape[1:3]
        N4, h, w, C = output.shape
        phases = output.view(2, 2, N4 // 4, h, w, C)  # row phase, column phase
        dense = phases.permute(2, 5, 3, 0, 4, 1).reshape(N4 // 4, C, 2 * h, 2 * w)[:, :, :H, :W]
        return merge.after(dense).permute(0, 2, 3, 1)
