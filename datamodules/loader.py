"""Batches cut from tensors in memory, in an order that is a function of (seed, epoch)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from datamodules.augment import SHUFFLE, generator
from datamodules.dataset import Split

Batch = tuple[Tensor, Tensor]


class Batches:
    """An iterable over (images, targets) of some of a split's images; the loader that a Lightning trainer is given.

    No state of a random generator is kept: the order is a function of (seed, epoch), and the position is a number,
    which Lightning saves with its checkpoints. So a run that is resumed, even within an epoch, sees what it would have
    seen.

    With several processes, each takes every `processes`-th image. In training, images from the order's start fill up
    the last round, so that all processes make as many steps; otherwise every image comes exactly once.

    Args:
        split, indices: where the images are, and which of them take part (n,).
        batch_size: images per batch of this process. In training a last batch of a single image is left out, as batch
            normalisation cannot work with it.
        training: shuffle.
        epoch: tells the epoch when an iteration begins; without it, `set_epoch` does.
        process, processes: this process's number, and how many there are.
    """

    def __init__(
        self,
        split: Split,
        indices: Tensor,
        batch_size: int,
        *,
        training: bool = False,
        seed: int = 0,
        epoch: Callable[[], int] | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.split, self.indices, self.batch_size = split, indices, batch_size
        self.training, self.seed, self.process, self.processes = training, seed, process, processes
        self.epoch = 0
        self.position = 0  # batches of this epoch that have been handed out
        self._ask_epoch = epoch
        self._resume: tuple[int, int] | None = None  # the (epoch, position) to go on from

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def order(self, epoch: int) -> Tensor:
        """The indices, into the split, of this process's images in an epoch, in turn."""
        order = self.indices
        if self.training:
            order = order[torch.randperm(len(order), generator=generator(SHUFFLE, self.seed, epoch))]
            rounds = -(-len(order) // self.processes)
            order = order[torch.arange(rounds * self.processes) % len(order)]
        return order[self.process :: self.processes]

    def __len__(self) -> int:
        shared = len(self.indices) - (0 if self.training else self.process)
        images = -(-shared // self.processes)
        drop = self.training and images > 1 and images % self.batch_size == 1 and self.batch_size > 1
        return -(-images // self.batch_size) - drop

    def __iter__(self) -> Iterator[Batch]:
        # A generator: the epoch is asked for when the first batch is, as Lightning makes its iterators ahead of time.
        if self._ask_epoch is not None:
            self.epoch = self._ask_epoch()
        first = self._resume[1] if self._resume and self._resume[0] == self.epoch else 0
        self._resume = None
        batches = self.order(self.epoch).split(self.batch_size)[first : len(self)]
        self.position = first
        for batch in self._read(batches):
            self.position += 1
            yield batch

    def _read(self, batches: tuple[Tensor, ...]) -> Iterator[Batch]:
        if isinstance(self.split.images, Tensor):
            yield from map(self._cut, batches)
        elif batches:
            with ThreadPoolExecutor(1) as ahead:  # decodes the next batch while this one is in use
                pending = ahead.submit(self._cut, batches[0])
                for following in batches[1:]:
                    batch, pending = pending.result(), ahead.submit(self._cut, following)
                    yield batch
                yield pending.result()

    def _cut(self, indices: Tensor) -> Batch:
        return self.split.images[indices], self.split.targets[indices]

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._resume = state["epoch"], state["position"]
