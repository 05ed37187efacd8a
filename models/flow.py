"""What follows what in a network that is not ours, seen in one run of it.

A run is a list of steps in their order: a module without children or a function called outside of one (a unit), and the
end of each larger module. Tensors are known by their number; one that is changed in place keeps it, and a unit that
gives a number again begins a new version of that tensor.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ACTIVATIONS = {
    "celu", "elu", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "prelu", "relu",
    "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A unit, or the end of a larger module.

    module: the name of the innermost module that was running. what: the function's or the module's class's name.
    leaf: the unit is a module. shape: of its first input. shrinks: the map that it gives is smaller.
    """

    module: str
    what: str
    unit: bool
    leaf: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shape: tuple[int, ...]
    shrinks: bool
    is_activation: bool

    @property
    def passes_on(self) -> bool:
        """A normalisation, or dropout, which does nothing in evaluation mode: an activation may still follow."""
        return "norm" in self.what.lower() or self.what.startswith(("Drop", "dropout"))


@dataclass(frozen=True)
class Spot:
    """A place for an operator: behind a module, on its output, or in front of it, on its input; `step` is when."""

    module: str
    in_front: bool
    step: int


class Flow(TorchFunctionMode):
    """The steps of a network's run on an example, in evaluation mode. A copy runs: the network keeps its state.

    outputs: the shapes of what the network gave.

    Raises:
        ValueError: the network does not take the example.
    """

    def __init__(self, net: nn.Module, example: Any) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._running: list[str] = []
        self._leaf: str | None = None
        self._kept: list[Any] = []  # a tensor's number is its address: none may be freed
        net = copy.deepcopy(net).eval()
        for name, module in net.named_modules():
            self._watch(name, module)
        try:
            with torch.no_grad(), self:
                self.outputs = [tuple(t.shape) for t in _tensors(net(example))]
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            shape = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
            raise ValueError(
                f"{type(net).__name__} does not take example_input {shape} ({str(error).splitlines()[0]}); pass one "
                "that it takes: convert(net, example_input=torch.zeros(1, 3, 224, 224))"
            ) from error
        self._kept.clear()
        self._calls = Counter(step.module for step in self.steps if step.leaf or not step.unit)

    def _watch(self, name: str, module: nn.Module) -> None:
        leaf = next(module.children(), None) is None
        activation = "activation" in type(module).__module__ or type(module).__name__.endswith("Act")

        def enter(_: nn.Module, args: Any) -> None:
            self._running.append(name)
            self._leaf = self._leaf or (name if leaf else None)

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._running.pop()
            if leaf:
                self._leaf = None
            self._note(name, type(module).__name__, leaf, leaf, (args, kwargs), output, leaf and activation)

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave, with_kwargs=True)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        if self._leaf is None and self._running:
            name = getattr(function, "__name__", "")
            acts = name.rstrip("_") in ACTIVATIONS
            self._note(self._running[-1], name, True, False, (args, kwargs or {}), output, acts)
        return output

    def _note(self, module: str, what: str, unit: bool, leaf: bool, inputs: Any, output: Any, acts: bool) -> None:
        given, made = list(_tensors(inputs)), list(_tensors(output))
        if not made:  # a tensor's shape was asked for
            return
        if what.startswith(("Identity", "Drop")) and made[0] is given[0]:
            return
        self._kept += given + made
        shape = tuple(given[0].shape) if given else ()
        numbers = tuple(map(id, given)), tuple(map(id, made))
        shrinks = shape[-2:] != tuple(made[0].shape[-2:])
        self.steps.append(Step(module, what, unit, leaf, *numbers, shape, shrinks, acts))

    def calls(self, module: str) -> list[int]:
        """The steps at which a module ran."""
        return [at for at, step in enumerate(self.steps) if step.module == module and (step.leaf or not step.unit)]

    def users(self, tensor: int, at: int) -> list[int]:
        """The units that read the tensor that step `at` made."""
        found = []
        for index in range(at + 1, len(self.steps)):
            step = self.steps[index]
            if step.unit and tensor in step.inputs:
                found.append(index)
            if step.unit and tensor in step.outputs:
                break
        return found

    def end_of_layer(self, at: int) -> int:
        """The last step of the normalisation and the activation that alone read, one after the other, step `at`."""
        while len(self.steps[at].outputs) == 1:
            users = self.users(self.steps[at].outputs[0], at)
            if len(users) != 1 or not (self.steps[users[0]].passes_on or self.steps[users[0]].is_activation):
                return at
            at = users[0]
            if self.steps[at].is_activation:
                return at
        return at

    def spot_behind(self, at: int, taken: set[str], containers: set[str]) -> Spot | None:
        """Where an operator sees what step `at` made before anybody else does; None where no module offers a place.

        Args:
            taken: modules that have something in front already. containers: those that run whatever is put into them.
        """
        (tensor,) = self.steps[at].outputs
        for module in self._given_by(tensor, at):
            if self._calls[module] == 1 and module not in containers:
                return Spot(module, False, at)
        users = self.users(tensor, at)
        if len(users) == 1:
            user = self.steps[users[0]]
            if user.leaf and self._calls[user.module] == 1 and user.inputs[0] == tensor and user.module not in taken:
                return Spot(user.module, True, users[0])
        return None

    def _given_by(self, tensor: int, at: int) -> Iterator[str]:
        """The modules whose output the tensor is, from the innermost, as long as nobody has read it."""
        if self.steps[at].leaf:
            yield self.steps[at].module
        for step in self.steps[at + 1 :]:
            if step.unit and tensor in (*step.inputs, *step.outputs):
                return
            if not step.unit and step.outputs == (tensor,):
                yield step.module


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
