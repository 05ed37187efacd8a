"""What no registry checks when it is used: the settings of a run outside of model, pooling, head and data."""

from typing import Any

from pooling.options import Option, check_option, did_you_mean
from training.optimizers import OPTIMIZERS
from training.schedulers import SCHEDULERS
from training.testing import device

GROUPS = ("data", "model", "pooling", "head", "optimizer", "scheduler", "trainer", "evaluation")
VALUES = ("seed", "label_smoothing", "resume", "runs", "plugins")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
LEAST = {"max_epochs": 1, "devices": 1, "patience": 0, "limit_batches": 1, "threads": 1}


def check_settings(config: dict[str, Any]) -> None:
    """Raise ValueError or TypeError, with the setting's name, its value and what is allowed."""
    for name in config:
        if name not in (*GROUPS, *VALUES):
            raise ValueError(f"there is no setting {name!r}{did_you_mean(name, (*GROUPS, *VALUES))}")
    for group, registry in (("optimizer", OPTIMIZERS), ("scheduler", SCHEDULERS)):
        _check_choice(group, registry, config[group])
    if not 0 <= config["label_smoothing"] < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), got {config['label_smoothing']}")
    if not isinstance(config["seed"], int) or config["seed"] < 0:
        raise ValueError(f"seed must be an integer >= 0, got {config['seed']!r}")
    trainer = config["trainer"]
    for name, least in LEAST.items():
        value, needed = trainer[name], name in ("max_epochs", "devices")
        if (value is None and needed) or (value is not None and (not isinstance(value, int) or value < least)):
            raise ValueError(f"trainer.{name} must be an integer >= {least}, got {value!r}")
    if trainer["gradient_clip"] is not None and not trainer["gradient_clip"] > 0:
        raise ValueError(f"trainer.gradient_clip must be a number > 0 or null, got {trainer['gradient_clip']}")
    if trainer["precision"] not in PRECISIONS:
        near = did_you_mean(trainer["precision"], PRECISIONS)
        raise ValueError(f"there is no trainer.precision={trainer['precision']}{near} ({', '.join(PRECISIONS)})")
    device(trainer["accelerator"])


def _check_choice(group: str, registry: dict[str, dict[str, Option]], choice: dict[str, Any]) -> None:
    if choice["name"] not in registry:
        near = did_you_mean(choice["name"], registry)
        raise ValueError(f"{group} {choice['name']!r} is not known{near} (known: {', '.join(registry)})")
    for name, value in choice.items():
        if name != "name":
            check_option(group, registry[choice["name"]][name], value)
