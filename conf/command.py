"""What the Hydra commands share: one-line errors, exit codes, sweeps that go on past a failed job."""

import contextlib
import functools
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pooling.options import did_you_mean

# Arguments that hold a path: Hydra's grammar would trip over spaces, commas and equal signs in them.
PATHS = re.compile(
    r"^(run|checkpoint|resume|runs|output|data\.root|model\.weights|(?:images|plugins)(?==[^\[]))=(?!['\"])(.*)$",
    re.DOTALL,
)
INTERRUPTED = 130

Function = Callable[[dict[str, Any], list[str]], tuple[Path | None, Any]]
Summary = Callable[[list[Path]], None]


def command(config_name: str, summarise: Summary | None = None) -> Callable[[Function], Callable[[], None]]:
    """Decorator: a function of a plain config and the user's overrides becomes a command.

    The function returns the folder it wrote to and, for sweepers that search, what it reached. An error ends the
    command with one line on stderr and exit code 1, Ctrl-C with 130; `--traceback` shows the stack. After a sweep
    `summarise` gets the folders of the jobs that went well, and the failed ones are named.
    """

    def decorate(function: Function) -> Callable[[], None]:
        @functools.wraps(function)
        def main() -> None:
            show_stack = "--traceback" in sys.argv
            sweep_over_runs = {"-m", "--multirun"} & set(sys.argv)  # then a comma separates runs
            arguments = [argument for argument in sys.argv[1:] if argument != "--traceback"]
            sys.argv[1:] = arguments if sweep_over_runs else [quoted_path(argument) for argument in arguments]
            with one_line_errors(show_stack):
                sweep = sweep_folder(sys.argv[1:])
                _run_hydra(config_name, function, sweep, show_stack)
                if sweep.is_dir():
                    _summarise_sweep(sweep, summarise)

        return main

    return decorate


@contextlib.contextmanager
def one_line_errors(show_stack: bool):
    """End the process with one line and an exit code in place of a stack trace."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        print(f"\ninterrupted{': ' if str(interruption) else ''}{interruption}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read our output has gone: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if show_stack:
            traceback.print_exc()
        else:
            print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(1)


def describe(error: BaseException) -> str:
    """An error in one line, with the nearest right name where Hydra knows only that a name is wrong."""
    from hydra.errors import HydraException
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    if isinstance(error, HydraException):
        return _describe_hydra(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} must be given: {error.full_key}=VALUE"
    if isinstance(error, OmegaConfBaseException):
        return " ".join(str(error).split("\n")[0].split())
    if isinstance(error, (ValueError, TypeError, OSError, ArithmeticError)):
        return " ".join(str(error).split())
    return f"{type(error).__name__}: {' '.join(str(error).split())} (--traceback shows where)"


def _describe_hydra(error: BaseException) -> str:
    from conf.store import choices

    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    if found := re.search(r"Could not find '(\w+)/([^']+)'", text):
        group, name = found.groups()
        there_are = choices().get(group, [])
        return f"{group}={name}: there is none{did_you_mean(name, there_are)} ({group}: {', '.join(there_are)})"
    if found := re.search(
        r"Error merging override (\S+?)=.* Value ('.*') of type '\w+' could not be converted to (\w+)", text
    ):
        key, value, wanted = found.groups()
        return f"{key}: {value} is not of type {wanted}"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found.group(1)
        known = _known_keys(config_name_of(sys.argv[0]), [a for a in sys.argv[1:] if not a.startswith(f"{key}=")])
        siblings = [k for k in known if k.rpartition(".")[0] == key.rpartition(".")[0]]
        listed = f" (there are: {', '.join(siblings)})" if siblings else ""
        return f"there is no setting {key!r}{did_you_mean(key, known)}{listed}"
    return text


def config_name_of(script: str) -> str:
    return Path(script).stem


def _known_keys(config_name: str, arguments: list[str]) -> list[str]:
    """The dotted keys of the config that the other arguments give."""
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import DictConfig, OmegaConf

    GlobalHydra.instance().clear()
    from hydra import initialize_config_dir

    overrides = [a for a in arguments if "=" in a and not a.startswith("-") and "," not in a]
    keys: list[str] = []

    def walk(node: DictConfig, prefix: str) -> None:
        for key in node:
            keys.append(f"{prefix}{key}")
            if OmegaConf.is_dict(node._get_node(key)):
                walk(node._get_node(key), f"{prefix}{key}.")  # pyright: ignore[reportArgumentType]

    with initialize_config_dir(str(Path(__file__).parent), version_base="1.3"):
        try:
            walk(compose(config_name, overrides), "")
        except Exception:  # another argument is wrong too; the message does without the nearest names
            return []
    return keys


def quoted_path(argument: str) -> str:
    """`run=a b,c` -> `run='a b,c'`."""
    found = PATHS.match(argument)
    if not found or found.group(2) in ("", "null"):
        return argument
    key, value = found.groups()
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def sweep_folder(arguments: list[str]) -> Path:
    """Where a sweep started now keeps its records: runs/sweeps/TIME, below the `runs` that the arguments name."""
    given = [argument.removeprefix("runs=").strip("'\"") for argument in arguments if argument.startswith("runs=")]
    return Path(given[-1] if given else "runs") / "sweeps" / time.strftime(f"%Y%m%d-%H%M%S-{os.getpid()}")


def load_plugins(arguments: list[str]) -> None:
    """The files of `plugins=[mine.py]`: before the config is composed, so that their operators are choices in it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from pooling import plugins

    given = [argument for argument in arguments if re.match(r"\+{0,2}plugins=", argument)]
    for override in OverridesParser.create().parse_overrides(given):
        if override.is_sweep_override():
            raise ValueError(f"{override.input_line}: a sweep is not over plugins; plugins=[A.py,B.py] loads several")
        value: Any = override.value()
        plugins.load(value if isinstance(value, list) else [] if value is None else str(value))


def _run_hydra(config_name: str, function: Function, sweep: Path, show_stack: bool) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    from conf.store import register_groups

    # Hydra's own report of an error is several lines; full errors reach `one_line_errors` instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ["POOLZOO_SWEEP"] = str(sweep)
    load_plugins(sys.argv[1:])
    register_groups()
    failure: list[Exception] = []

    def job(config: DictConfig) -> Any:
        multirun = HydraConfig.get().mode == RunMode.MULTIRUN
        overrides = list(HydraConfig.get().overrides.task)
        record: dict[str, Any] = {"overrides": overrides, "run": None, "error": None}
        try:
            arguments = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            if multirun and config.get("trainer", {}).get("devices", 1) != 1:
                raise ValueError("a job of a sweep runs on one device; start runs on several one by one, without -m")
            folder, objective = function(arguments, overrides)  # pyright: ignore[reportArgumentType]
            record["run"] = None if folder is None else str(folder)
            return objective
        except Exception as error:
            if not multirun:
                failure.append(error)
                return None
            # The other jobs go on; the summary names this one.
            record["error"] = describe(error)
            print(f"failed: {' '.join(overrides)}: {record['error']}", file=sys.stderr)
            if show_stack:
                traceback.print_exc()
        finally:
            if multirun:
                file = Path(HydraConfig.get().runtime.output_dir) / "job.json"
                file.write_text(json.dumps(record, indent=2) + "\n")

    hydra.main(version_base="1.3", config_path=str(Path(__file__).parent), config_name=config_name)(job)()
    if failure:
        raise failure[0]


def _summarise_sweep(sweep: Path, summarise: Summary | None) -> None:
    files = sorted(sweep.glob("*/job.json"), key=lambda file: int(file.parent.name))
    records = [json.loads(file.read_text()) for file in files]
    if summarise is not None:
        summarise([Path(record["run"]) for record in records if record["run"]])
    failed = [record for record in records if record["error"]]
    for record in failed:
        # What all jobs share does not tell them apart.
        own = [word for word in record["overrides"] if not all(word in other["overrides"] for other in records)]
        print(f"failed: {' '.join(own or record['overrides'])}: {record['error']}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(records)} jobs failed; the others are kept", file=sys.stderr)
        sys.exit(1)
