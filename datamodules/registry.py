"""The registry of data sets: `register` adds a function that returns tensors, `load` calls it.

`names` and `info` tell what there is, without loading anything.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from datamodules.dataset import Dataset, Task, channel_statistics, replace_missing
from pooling.options import Option, Range, check_names, check_option, did_you_mean, signature_options

STATISTICS_SAMPLE = 4096  # images that mean and std are measured on, where a set states none and is larger


@dataclass(frozen=True, kw_only=True)
class Loading:
    """The options that every data set has: how it is cut, shuffled, augmented and batched.

    Args:
        batch_size: images per step, in each process.
        seed: of shuffling and augmentation; never of the splits.
        val_fraction: share of the training images that is held out for validation, where the set brings no validation
            split of its own; always the same images.
        random_crop: pad training images by this many pixels with their border, then cut the old size out anywhere.
        random_flip: mirror half of the training images left to right.
        limit: train on this many images only, with the classes in their proportions (for quick tries); null: all.
    """

    batch_size: Annotated[int, Range(least=1)] = 64
    seed: Annotated[int, Range(least=0)] = 0
    val_fraction: Annotated[float, Range(above=0, most=0.5)] = 0.1
    random_crop: Annotated[int, Range(least=0)] = 0
    random_flip: bool = False
    limit: Annotated[int, Range(least=1)] | None = None


LOADING_OPTIONS = signature_options(Loading)

_sets: dict[str, "DataInfo"] = {}

Function = TypeVar("Function", bound=Callable[..., Dataset])


@dataclass(frozen=True)
class DataInfo:
    """A registered data set. `options`: its own first, then `Loading`'s, with the defaults that this set gives them."""

    name: str
    task: Task
    summary: str
    options: dict[str, Option]
    function: Callable[..., Dataset]

    @property
    def own_options(self) -> dict[str, Option]:
        return {name: option for name, option in self.options.items() if name not in LOADING_OPTIONS}


def register(
    name: str, *, task: Task = "classification", summary: str = "", **defaults: Any
) -> Callable[[Function], Function]:
    """Decorator: make a function that returns a `Dataset` available under a name, in every place that lists data sets.

    The function's keyword-only parameters are the set's options; they are checked against their annotations by `load`.

    Args:
        task: what the set is for, unless the `Dataset` that comes says otherwise.
        summary: one line; the first one of the docstring, if left out.
        defaults: this set's defaults for the options that every set has (`Loading`), e.g. `random_crop=2`.
    Raises:
        ValueError: a name that is taken, or a default out of range.
    """
    if name in _sets:
        raise ValueError(f"data set {name!r} is registered already, by {_sets[name].function.__qualname__}")
    check_names(f"data set {name!r}", defaults, LOADING_OPTIONS)
    for option, value in defaults.items():
        check_option(f"data set {name!r}", LOADING_OPTIONS[option], value)

    def decorate(function: Function) -> Function:
        changed = {key: replace(LOADING_OPTIONS[key], default=value) for key, value in defaults.items()}
        common = LOADING_OPTIONS | changed
        own = signature_options(function)
        if both := own.keys() & common.keys():
            raise ValueError(f"data set {name!r}: every data set has the option {', '.join(sorted(both))} already")
        line = summary or (inspect.getdoc(function) or "").split("\n")[0]
        _sets[name] = DataInfo(name, task, line, own | common, function)
        return function

    return decorate


def names() -> list[str]:
    """The names of all registered data sets, sorted."""
    return sorted(_sets)


def info(name: str) -> DataInfo:
    """What is known of a data set without loading it.

    Raises:
        ValueError: unknown name.
    """
    if name not in _sets:
        hint = did_you_mean(name, _sets)
        raise ValueError(f"data set {name!r} is not known{hint} (python train.py --help lists all)")
    return _sets[name]


def check_options(name: str, options: dict[str, Any], allowed: dict[str, Option]) -> None:
    """Raise ValueError or TypeError unless these options are allowed, fit their annotations, and none is missing."""
    owner = f"data set {name!r}"
    check_names(owner, options, allowed)
    for option, value in options.items():
        check_option(owner, allowed[option], value)
    for option in allowed.values():
        if option.default is Option.REQUIRED and option.name not in options:
            raise TypeError(f"{owner}: {option.name} must be given ({option.allowed})")


def load(name: str, **options: Any) -> Dataset:
    """The data set of this name, in memory: read where its files are, downloaded where they are not.

    Args:
        options: the set's own (`info(name).own_options`).
    Raises:
        ValueError, TypeError: unknown name or option, or a value that is not allowed.
        DataUnavailable: files are missing and could not be downloaded.
    """
    entry = info(name)
    check_options(name, options, entry.own_options)
    dataset = replace_missing(entry.function(**options), name=name, task=entry.task)
    if not dataset.mean:
        mean, std = channel_statistics(dataset.train.images, most=STATISTICS_SAMPLE)
        dataset = replace(dataset, mean=mean, std=tuple(max(s, 1 / 255) for s in std))
    return dataset
