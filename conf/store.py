"""Config groups from the registries: one node for each registered name, one typed field for each of its options."""

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from pooling.options import Option

# What every model and every pooling choice has beside its own options.
MODEL_FIELDS = {
    "padding_mode": Option("padding_mode", str, "zeros"),
    "stem": Option("stem", str, "auto"),
    "weights": Option("weights", str | None, None),
}
# A network of a library is chosen by model.name.
LIBRARY_FIELDS = {
    "padding_mode": Option("padding_mode", str | None, None),
    "weights": Option("weights", str | None, None),
}
POOLING_FIELDS = {"sites": Option("sites", Any, "auto")}


def register_groups() -> None:
    """Fill Hydra's store with the groups model, pooling, head, data, optimizer and scheduler."""
    import datamodules
    import models
    import pooling
    from models import external
    from training import optimizers, schedulers

    for name in models.names():
        _store("model", name, MODEL_FIELDS | models.info(name).options)
    for library in external.LIBRARIES:
        _store("model", library, LIBRARY_FIELDS | {"library": Option("library", str, library)}, named=MISSING)
    for kind in ("reducer", "downsampler"):
        for name in pooling.names(kind):
            _store("pooling", name, POOLING_FIELDS | pooling.info(name, kind).options)
    _store("pooling", "native", POOLING_FIELDS)
    for name in pooling.names("global"):
        _store("head", name, pooling.info(name, "global").options)
    for name in ("native", "cls"):  # cls: the class token of timm's vision transformers
        _store("head", name, {})
    for name in datamodules.names():
        # The run's own seed shuffles and augments.
        _store("data", name, {key: o for key, o in datamodules.info(name).options.items() if key != "seed"})
    for group, registry in (("optimizer", optimizers.OPTIMIZERS), ("scheduler", schedulers.SCHEDULERS)):
        for name, options in registry.items():
            _store(group, name, options)


def choices() -> dict[str, list[str]]:
    """The names that each group offers: those of the store and of the YAML files beside this one."""
    from pathlib import Path

    store = ConfigStore.instance()
    groups = ("model", "pooling", "head", "data", "optimizer", "scheduler", "trainer", "experiment")
    found: dict[str, set[str]] = {}
    for group in groups:
        generated = store.list(group) if group in store.repo else []
        written = (Path(__file__).parent / group).glob("*.yaml")
        found[group] = {name.removesuffix(".yaml") for name in generated} | {path.stem for path in written}
    return {group: sorted(names) for group, names in found.items()}


def _store(group: str, name: str, options: Mapping[str, Option], named: str | None = None) -> None:
    fields: list[Any] = [("name", str, dataclasses.field(default=named or name))]
    fields += [(option.name, field_type(option.annotation), _default(option.default)) for option in options.values()]
    node = dataclasses.make_dataclass(f"{group}_{name}", fields)
    ConfigStore.instance().store(group=group, name=name, node=node)


def _default(value: Any) -> Any:
    if value is Option.REQUIRED:
        return dataclasses.field(default=MISSING)
    if isinstance(value, (tuple, list)):
        return dataclasses.field(default_factory=lambda: list(value))
    return dataclasses.field(default=value)


def field_type(annotation: Any) -> Any:
    """The nearest type that OmegaConf checks: ranges and choices are dropped, the registries check those."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return field_type(get_args(annotation)[0])
    if origin is Literal:
        return _union({type(choice) for choice in get_args(annotation)})
    if origin in (Union, types.UnionType):
        return _union(field_type(part) for part in get_args(annotation))
    if origin in (tuple, list):
        return list[field_type(get_args(annotation)[0])]
    return annotation if annotation in (int, float, bool, str, types.NoneType) else Any


def _union(parts: Iterable[Any]) -> Any:
    parts = set(parts)
    if float in parts:
        parts.add(int)  # in a union OmegaConf does not take 2 for 2.0
    return Any if Any in parts or any(get_origin(part) is list for part in parts) else Union[tuple(parts)]
