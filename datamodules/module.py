"""One Lightning data module for all data sets: cuts validation off, batches, augments and normalises whole batches."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.augment import augment
from datamodules.dataset import Dataset, Split, Task, stratified
from datamodules.loader import Batch, Batches
from datamodules.registry import LOADING_OPTIONS, Loading, check_options, info, load
from datamodules.transforms import normalise


class ImageData(pl.LightningDataModule):
    """A registered data set for Lightning.

    The loaders give uint8 images and their targets, as they are in memory. `on_after_batch_transfer` does the rest on
    the device, to the whole batch: in training random crops and flips, always normalisation, masks to int64.

    The options are checked at once; the data are loaded by `setup`, or when one of their facts is first asked for:
    `num_classes, in_channels, image_size, class_names, task, mean, std, sizes`.

    Args:
        name: a data set of `datamodules.names()`.
        options: `Loading`'s and the set's own (`datamodules.info(name).options`).
    Raises:
        ValueError, TypeError: unknown name or option, or a value that is not allowed.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        self.entry = info(name)
        known = self.entry.options
        check_options(name, options, known)
        self.name = name
        self.loading = Loading(**{option: options.get(option, known[option].default) for option in LOADING_OPTIONS})
        self.own_options = {option: value for option, value in options.items() if option not in LOADING_OPTIONS}
        self._train_batches: Batches | None = None
        self._statistics: Tensor | None = None  # mean and std, (2, C), on the device of the last batch

    # What the data are

    @cached_property
    def dataset(self) -> Dataset:
        return load(self.entry.name, **self.own_options)

    @cached_property
    def parts(self) -> dict[str, tuple[Split, Tensor]]:
        """For train, val and test: a split, and the sorted indices of those of its images that take part."""
        dataset, loading = self.dataset, self.loading
        N = len(dataset.train)
        if dataset.validation is None:
            held_out = min(max(1, round(N * loading.val_fraction)), N - 1)
            val, train = stratified(dataset.train.targets, (held_out, N - held_out))
            validation = dataset.train
        else:
            validation, val, train = dataset.validation, torch.arange(len(dataset.validation)), torch.arange(N)
        if self.task == "detection" and (loading.random_crop or loading.random_flip):
            raise ValueError(f"data set {self.name!r}: random_crop and random_flip do not move boxes; switch them off")
        if loading.random_crop > self.image_size // 2:
            half = f"half of the image's {self.image_size} pixels"
            raise ValueError(f"data set {self.name!r}: random_crop must be at most {half}, got {loading.random_crop}")
        if loading.limit is not None and loading.limit < len(train):
            train = train[stratified(dataset.train.targets[train], (loading.limit,))[0]]
        return {
            "train": (dataset.train, train),
            "val": (validation, val),
            "test": (dataset.test, torch.arange(len(dataset.test))),
        }

    def split(self, name: str) -> Split:
        """The images of `train`, `val` or `test` with their targets, masks and boxes; a copy, for images in memory."""
        split, indices = self.parts[name]
        return split.take(indices)

    @property
    def sizes(self) -> dict[str, int]:
        return {name: len(indices) for name, (_, indices) in self.parts.items()}

    @property
    def num_classes(self) -> int:
        return len(self.dataset.class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.dataset.class_names

    @property
    def in_channels(self) -> int:
        return self.dataset.train.images.shape[1]

    @property
    def image_size(self) -> int:
        return self.dataset.train.images.shape[-1]

    @property
    def task(self) -> Task:
        assert self.dataset.task
        return self.dataset.task

    @property
    def mean(self) -> tuple[float, ...]:
        return self.dataset.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.dataset.std

    # What Lightning calls

    def prepare_data(self) -> None:
        _ = self.dataset  # downloads, in one process

    def setup(self, stage: str | None = None) -> None:
        _ = self.parts

    def train_dataloader(self) -> Batches:
        self._train_batches = self._batches("train", training=True)
        return self._train_batches

    def val_dataloader(self) -> Batches:
        return self._batches("val")

    def test_dataloader(self) -> Batches:
        return self._batches("test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, targets = batch
        if self.trainer is not None and self.trainer.training:
            assert self._train_batches is not None
            images, targets = self.augmented(images, targets, self._train_batches)
        if self._statistics is None or self._statistics.device != images.device:
            # Kept on the device: to send them there with every batch would wait for it.
            self._statistics = torch.tensor((self.mean, self.std)).to(images.device)
        mean, std = self._statistics
        return normalise(images, mean, std), targets.long()

    # What these are made of

    def augmented(self, images: Tensor, targets: Tensor, batches: Batches) -> Batch:
        """The batch that `batches` gave last, moved and mirrored at random: a function of (seed, epoch, position)."""
        key = (self.loading.seed, batches.epoch, batches.position, batches.process)
        chances = {"random_crop": self.loading.random_crop, "random_flip": self.loading.random_flip}
        images, masks = augment(images, targets if self.task == "segmentation" else None, key=key, **chances)
        return images, targets if masks is None else masks

    def evaluation_batches(self, split: str, batch_size: int | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All images of `train`, `val` or `test`, in order, neither augmented nor normalised.

        Yields:
            images uint8 (n, C, H, W), targets, and the images' numbers in the split, int64 (n,).
        """
        source, indices = self.parts[split]
        size = batch_size or self.loading.batch_size
        numbers = torch.arange(len(indices)).split(size)
        yield from ((*batch, n) for batch, n in zip(Batches(source, indices, size), numbers, strict=True))

    def options(self) -> dict[str, Any]:
        """All options with their values: what another process needs to build this module again."""
        own = {name: option.default for name, option in self.entry.own_options.items()}
        return own | self.own_options | asdict(self.loading)

    def _batches(self, part: str, training: bool = False) -> Batches:
        trainer, loading = self.trainer, self.loading
        if trainer is None:
            process, processes, epoch = 0, 1, None
        else:
            process, processes, epoch = trainer.global_rank, trainer.world_size, lambda: trainer.current_epoch
        return Batches(
            *self.parts[part],
            loading.batch_size,
            training=training,
            seed=loading.seed,
            epoch=epoch,
            process=process,
            processes=processes,
        )
