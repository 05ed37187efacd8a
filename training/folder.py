"""A run's folder: its name, its config, its log.

runs/DATA/MODEL/POOLING/sSEED-YYYYmmdd-HHMMSS/ holds config.yaml, checkpoints/, TensorBoard events, metrics.csv,
train.log and results.json.
"""

import contextlib
import logging
import logging.handlers
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import models
import pooling as operators
from evaluation.run import unused
from pooling import plugins
from pooling.options import Option

log = logging.getLogger(__name__)


def model_label(model: dict[str, Any]) -> str:
    """What a comparison calls a backbone: its name and the settings that are not the default.

    >>> model_label({"name": "lenet5", "activation": "relu", "padding_mode": "zeros", "stem": "auto"})
    'lenet5-activation_relu'
    """
    weights = model.get("weights")
    model = model | {"weights": weights and Path(weights).stem}
    if "library" in model:
        own = model | {"name": f"{model['library']}-{model['name']}"}
        return _label(own, {"padding_mode": None, "weights": None})
    usual = _defaults(models.info(model["name"]).options) | {"padding_mode": "zeros", "stem": "auto", "weights": None}
    return _label(model, usual)


def pooling_label(pooling: dict[str, Any]) -> str:
    """What a comparison calls a pooling choice: its name and the options that are not the default.

    >>> pooling_label({"name": "blur", "sites": "all", "filter": 5, "pad_mode": "auto"})
    'blur-filter_5-sites_all'
    """
    options = {} if pooling["name"] == "native" else operators.info(pooling["name"]).options
    return _label(pooling, _defaults(options) | {"sites": "auto"})


def head_label(head: dict[str, Any]) -> str:
    """The same for a head: `spp-levels_1+2`."""
    options = {} if head["name"] in ("native", "cls") else operators.info(head["name"], "global").options
    return _label(head, _defaults(options))


def data_label(data: dict[str, Any]) -> str:
    """The data set's name; for a folder of images with the folder's: `image_folder-pets`."""
    return (
        f"{data['name']}-{_word(Path(data['root']).resolve().name)}" if data["name"] == "image_folder" else data["name"]
    )


def labels(config: dict[str, Any]) -> dict[str, str]:
    """What a comparison calls a run's choices."""
    return {
        "model": model_label(config["model"]),
        "pooling": pooling_label(config["pooling"]),
        "head": head_label(config["head"]),
        "data": data_label(config["data"]),
    }


def _defaults(options: dict[str, Option]) -> dict[str, Any]:
    return {name: list(o.default) if isinstance(o.default, tuple) else o.default for name, o in options.items()}


def _label(choice: dict[str, Any], usual: dict[str, Any]) -> str:
    given = {key: choice[key] for key in usual if key in choice and choice[key] != usual[key]}
    return "-".join([choice["name"], *(f"{key}_{_word(value)}" for key, value in given.items())])


def _word(value: Any) -> str:
    text = "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return "".join(letter if letter.isalnum() or letter in "._+" else "." for letter in text)


def new_folder(config: dict[str, Any]) -> Path:
    """A run folder of its own: runs/DATA/MODEL/POOLING/sSEED-YYYYmmdd-HHMMSS, numbered where that is taken.

    Raises:
        OSError: it cannot be made; the message says where and why.
    """
    names = labels(config)
    parent = Path(config["runs"], names["data"], names["model"], names["pooling"])
    stamp = f"s{config['seed']}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 1000):
            folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise type(error)(
            f"cannot make a run folder in {str(parent)!r}: {error.strerror}; choose another with runs=DIR"
        ) from error
    raise FileExistsError(f"{str(parent)!r} holds 999 runs of this second; choose another folder with runs=DIR")


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.yaml; where a resumed run's settings have changed, the earlier file is kept beside it."""
    text = yaml.safe_dump(config | {"resume": None}, sort_keys=False)
    file = folder / "config.yaml"
    if not file.exists() or file.read_text() != text:
        keep_earlier(file)
        file.write_text(text)


def keep_earlier(file: Path) -> None:
    """Rename a file that is about to be written again: results.json -> results-earlier.json."""
    if file.exists():
        file.rename(unused(file.with_name(f"{file.stem}-earlier{file.suffix}")))


def read_config(run: Path) -> dict[str, Any]:
    """The resolved config of a run's folder; only data are read from it.

    Raises:
        FileNotFoundError, ValueError: no such folder, or no readable config in it.
    """
    if not run.is_dir():
        raise FileNotFoundError(
            f"there is no run folder {str(run)!r}; a run's folder is runs/DATA/MODEL/POOLING/sSEED-TIME"
        )
    file = run / "config.yaml"
    try:
        config = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"{str(run)!r} is not a run's folder: it holds no config.yaml") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {str(file)!r}: {error}") from error
    return checked_config(config, file)


def checked_config(config: Any, source: Path) -> dict[str, Any]:
    """The config of a run, or a ValueError that says what it lacks."""
    missing = {"data", "model", "pooling", "head", "seed"} - set(config if isinstance(config, dict) else ())
    if missing:
        raise ValueError(f"{str(source)!r} is not the config of a run: it lacks {', '.join(sorted(missing))}")
    return config


def load_plugins(config: dict[str, Any], folder: Path | None, given: Sequence[str]) -> None:
    """The plugins that a trained network needs: those given or, in a run's folder, those that its config names.

    A file that somebody sent can thus not have code run: neither a checkpoint alone nor a file inside the folder.

    Raises:
        FileNotFoundError, ValueError: one that has gone, or that must be given.
    """
    recorded = [Path(file) for file in config.get("plugins") or ()]
    if given:
        plugins.load(given)
        return
    for file in recorded:
        instead = f"plugins=[{file.name}]"
        if folder is None or not file.is_absolute() or file.is_relative_to(folder.resolve()):
            raise ValueError(f"this was made with the plugin {str(file)!r}; if you trust it, say so: {instead}")
        if not file.is_file():
            raise FileNotFoundError(
                f"the plugin {str(file)!r} that this run was made with is gone; say where it is now: {instead}"
            )
    plugins.load(recorded)


def resumed_config(folder: Path, overrides: list[str], config: dict[str, Any]) -> dict[str, Any]:
    """The config of the run to go on with; of the user's overrides only those of `trainer`, `runs` and `plugins`
    apply.

    Raises:
        ValueError: an override that would make it another run.
    """
    saved = read_config(folder)
    load_plugins(saved, folder, config["plugins"])
    if config["plugins"]:
        saved["plugins"] = config["plugins"]
    for override in overrides:
        key = override.split("=")[0].lstrip("+~")
        if key.startswith("trainer."):
            name = key.removeprefix("trainer.")
            saved["trainer"][name] = config["trainer"][name]
        elif key not in ("resume", "runs", "plugins"):
            raise ValueError(
                f"{override}: a resumed run keeps its settings; only settings like trainer.max_epochs=30 can change"
            )
    return saved | {"resume": str(folder)}


def versions() -> dict[str, str]:
    """What a run's figures are made with."""
    packages = ("poolzoo", "torch", "torchvision", "pytorch-lightning")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}


class RunLog:
    """While the context lasts, log records go to the console and, from `open` on, to a file: earlier ones too."""

    def __init__(self) -> None:
        self.console = logging.StreamHandler()
        self.console.setFormatter(logging.Formatter("%(message)s"))
        self.early = logging.handlers.MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)
        self.level = logging.getLogger().level

    def __enter__(self) -> "RunLog":
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        root.addHandler(self.console)
        root.addHandler(self.early)
        return self

    def open(self, file: Path) -> None:
        """Write the records so far, and all that follow, to the end of a file."""
        handler = logging.FileHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self.early.setTarget(handler)
        self.early.capacity = 0  # from now on each record is passed on at once
        self.early.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        root = logging.getLogger()
        root.removeHandler(self.console)
        if error is not None:
            log.error("%s: %s", type(error).__name__, error)  # for the file; the command says it on the console
        root.setLevel(self.level)
        root.removeHandler(self.early)
        file = self.early.target
        self.early.close()
        if file is not None:
            file.close()
