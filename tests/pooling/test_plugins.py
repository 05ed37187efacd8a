"""Operators from a file or an installed package: the same registry, and a mistake in them is said in one line."""

import logging
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import pooling
from pooling import plugins, registry

MINE = '''
import pooling


@pooling.register("{name}", kind="reducer", paper="nobody 2030")
class Mine(pooling.WindowPool2d):
    """Twice the largest value."""

    def reduce(self, x, window):
        return 2 * pooling.functional.max_pool2d(x, window)
'''


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    monkeypatch.setattr(plugins, "_loaded", set())
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE.format(name="mine"))
    return file


def test_a_file_s_operator_is_one_of_the_registry_s(mine: Path) -> None:
    assert plugins.load([mine]) == [str(mine)]
    assert "mine" in pooling.names("reducer")
    assert not pooling.info("mine").ours
    assert pooling.info("max").ours
    operator = pooling.create("mine", kernel_size=2)
    x = torch.rand(1, 1, 4, 4)
    assert torch.equal(operator(x), 2 * torch.nn.functional.max_pool2d(x, 2))
    assert torch.equal(pickle.loads(pickle.dumps(operator))(x), operator(x))


def test_loading_a_file_twice_is_harmless(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins.load([mine, mine])
    monkeypatch.chdir(mine.parent)
    assert plugins.load("mine.py") == [str(mine)]
    assert pooling.names().count("mine") == 1


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "there is no plugin file '{file}'"),
        ("import pooling\n", "plugin '{file}' registers no operator; decorate its class with @pooling.register"),
        ("x = 1\n\ny = z\n", "plugin '{file}', line 3: NameError: name 'z' is not defined"),
        ("def f():\n    return 1 / 0\n\n\nf()\n", "plugin '{file}', line 2: ZeroDivisionError: division by zero"),
        ("import pathlib\npathlib.Path(3)\n", "plugin '{file}', line 2: TypeError: "),
        ("a = 1\nclass:\n", "plugin '{file}', line 2: SyntaxError: invalid syntax"),
        ("raise SystemExit(3)\n", "plugin '{file}', line 1: SystemExit: 3"),
        (MINE.format(name="max"), "line 5: ValueError: pooling 'max' is registered already, by MaxPool2d"),
        (MINE.format(name="mine") + "\n1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_file_s_mistake_is_said_in_one_line_and_leaves_nothing(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "bad.py"
    if text is not None:
        file.write_text(text)
    before, modules = dict(registry._operators), set(sys.modules)
    for _ in range(2):  # the second time it is no better
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            plugins.load([file])
        assert words.format(file=file) in str(caught.value)
        assert "\n" not in str(caught.value).split("SyntaxError")[0]
    assert registry._operators == before
    assert not {name for name in set(sys.modules) - modules if "plugin" in name}


def test_two_files_of_one_name_are_two_plugins(tmp_path: Path) -> None:
    files = [tmp_path / folder / "mine.py" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(MINE.format(name=file.parent.name + "_mine"))
    plugins.load(files)
    assert {"a_mine", "b_mine"} <= set(pooling.names())


def install(folder: Path, name: str, code: str) -> None:
    """A package with an entry point, as pip leaves it."""
    (folder / f"{name}.py").write_text(code)
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[poolzoo.operators]\n{name} = {name}\n")


def test_installed_packages_are_found_and_one_that_fails_is_left_out(tmp_path, monkeypatch, caplog) -> None:
    install(tmp_path, "good_package", MINE.format(name="packaged"))
    install(tmp_path, "poor_package", "import no_such_module_of_its_own\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_discovered", set())
    with caplog.at_level(logging.WARNING):
        assert "packaged" in pooling.names()
        assert pooling.info("packaged").paper == "nobody 2030"
    (record,) = caplog.records
    assert "entry point poor_package = poor_package is left out: ModuleNotFoundError" in record.getMessage()
    assert "\n" not in record.getMessage()
