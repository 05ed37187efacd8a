"""Operators from outside: files that a user names, and installed packages.

pooling.plugins.load(["mine.py"])     # what it registers is in the registry from here on

[project.entry-points."poolzoo.operators"]
mine = "my_package.operators"         # in a package's pyproject.toml: loaded when an operator is first asked for
"""

import hashlib
import importlib.machinery
import importlib.util
import logging
import sys
import traceback
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from pooling import registry

GROUP = "poolzoo.operators"

_loaded: set[Path] = set()
_discovered: set[str] = set()


def load(files: str | Path | Iterable[str | Path]) -> list[str]:
    """Import each file, once, so that its operators are registered; gives the absolute paths.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it fails, or registers nothing; what it registered until then is taken back.
    """
    several = [files] if isinstance(files, str | Path) else files
    paths = [Path(file).expanduser().resolve() for file in several]
    for path in paths:
        if path not in _loaded:
            _load(path)
            _loaded.add(path)
    return [str(path) for path in paths]


def _load(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"there is no plugin file {str(path)!r}")
    # It stays importable under its module's name, so that its operators can be pickled.
    name = f"poolzoo_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    before = dict(registry._operators)
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        registry._operators.clear()
        registry._operators.update(before)
        del sys.modules[name]
        raise ValueError(f"plugin {str(path)!r}{_line(error, path)}: {type(error).__name__}: {error}") from error
    if registry._operators == before:
        del sys.modules[name]
        raise ValueError(
            f"plugin {str(path)!r} registers no operator; decorate its class with @pooling.register(NAME, kind=KIND)"
        )


def _line(error: BaseException, path: Path) -> str:
    """`, line 7`: the last of the file's lines that the error went through."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    numbers = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f", line {numbers[-1]}" if numbers else ""


def discover() -> None:
    """Load the installed packages' operators, once; one that fails is left out with a warning of one line."""
    if _discovered:
        return
    _discovered.add(GROUP)  # first, since what is loaded may ask for operators itself
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            logging.getLogger("pooling").warning("entry point %s = %s is left out: %s", entry.name, entry.value, reason)
