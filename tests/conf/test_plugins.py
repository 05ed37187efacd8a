"""A user's operator on the command line: a choice like any other, and found again by whatever reads its run."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from hydra.core.config_store import ConfigStore

from pooling import plugins, registry

MINE = '''
from typing import Annotated

import pooling
from pooling.options import Range


@pooling.register("mine", kind="reducer", paper="nobody 2030")
class Mine(pooling.WindowPool2d):
    """The largest value, scaled."""

    def __init__(self, *, scale: Annotated[float, Range(above=0)] = 1.0, **geometry):
        super().__init__(**geometry)
        self.scale = scale

    def reduce(self, x, window):
        return self.scale * pooling.functional.max_pool2d(x, window)
'''


@pytest.fixture
def forget(monkeypatch):
    """`forget()`: as in a new process, no plugin has been loaded."""

    def call() -> None:
        monkeypatch.setattr(registry, "_operators", {k: o for k, o in registry._operators.items() if o.ours})
        monkeypatch.setattr(plugins, "_loaded", set())

    call()
    yield call
    ConfigStore.instance().repo.get("pooling", {}).pop("mine.yaml", None)


@pytest.fixture
def mine(tmp_path: Path, forget) -> Path:
    file = tmp_path / "my plugins" / "mine.py"
    file.parent.mkdir()
    file.write_text(MINE)
    return file


def test_help_lists_it_and_its_options_are_settings(run, mine):
    outcome = run("train", "--help", f"plugins={mine}", "pooling=mine")
    assert outcome.code == 0
    listed, _, config = outcome.out.partition("The config that these arguments give")
    assert re.search(r"^pooling: .*\bmine\b", listed, re.MULTILINE)
    assert "scale: 1.0" in config
    assert (
        "scale must be a number > 0, got -1"
        in run("train", f"plugins=['{mine}']", "pooling=mine", "pooling.scale=-1").err
    )


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "there is no plugin file"),
        ("x = 1\ny = z\n", "line 2: NameError: name 'z' is not defined"),
        ("x = 1\n", "registers no operator"),
        (MINE.replace('"mine"', '"max"'), "'max' is registered already"),
    ],
)
def test_its_mistakes_end_the_command_with_one_line(run, tmp_path, forget, text, words):
    file = tmp_path / "bad.py"
    if text is not None:
        file.write_text(text)
    outcome = run("train", f"plugins=[{file}]", f"runs={tmp_path / 'runs'}")
    assert outcome.code == 1
    (line,) = outcome.err.strip().splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not (tmp_path / "runs").exists()


def test_a_sweep_is_not_over_plugins(run, tmp_path):
    outcome = run("train", "-m", "plugins=a.py,b.py", f"runs={tmp_path}")
    assert "plugins=a.py,b.py: a sweep is not over plugins; plugins=[A.py,B.py] loads several" in outcome.err


@pytest.fixture
def folder(train, mine) -> Path:
    return train(f"plugins={mine}", "pooling=mine", "pooling.scale=2", "trainer.max_epochs=1", "data.limit=64")


def test_a_run_records_it_and_evaluation_and_resumption_find_it(run, mine, folder, forget):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["plugins"] == [str(mine)]
    assert json.loads((folder / "results.json").read_text())["pooling"] == "mine-scale_2.0"
    brief = ("protocols=[crop]", "evaluation.crop.repeats=1", "limit=20")
    forget()
    outcome = run("eval", f"run={folder}", *brief)
    assert outcome.code == 0, outcome.err
    forget()
    assert run("train", f"resume={folder}", "trainer.max_epochs=2").code == 0

    # Moved: said in one line, and found where the user says it is.
    moved = shutil.move(mine, mine.with_name("moved.py"))
    forget()
    outcome = run("eval", f"run={folder}", *brief)
    assert outcome.code == 1
    (line,) = outcome.err.strip().splitlines()
    assert f"the plugin '{mine}' that this run was made with is gone; say where it is now: plugins=[mine.py]" in line
    assert run("eval", f"run={folder}", f"plugins={moved}", *brief).code == 0


def test_a_checkpoint_alone_or_a_file_inside_the_run_has_no_code_run(run, mine, folder, forget):
    checkpoint = folder / "checkpoints" / "best.ckpt"
    forget()
    outcome = run("eval", f"checkpoint={checkpoint}", "protocols=[crop]")
    assert outcome.code == 1
    assert f"this was made with the plugin '{mine}'; if you trust it, say so: plugins=[mine.py]" in outcome.err
    assert ("reducer", "mine") not in registry._operators

    inside = folder / "mine.py"
    shutil.copy(mine, inside)
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"plugins": [str(inside)]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "if you trust it, say so" in run("eval", f"run={folder}", "protocols=[crop]").err
    assert ("reducer", "mine") not in registry._operators


def test_a_sweep_takes_it_beside_the_others(run, mine, tmp_path):
    quick = ("trainer.max_epochs=1", "data.limit=64", "evaluation.protocols=[crop]", "evaluation.crop.repeats=1")
    runs = tmp_path / "runs"
    outcome = run("train", "-m", f"plugins=['{mine}']", "pooling=mine,max", f"runs={runs}", "trainer.threads=1", *quick)
    assert outcome.code == 0, outcome.err
    assert {path.parent.parent.name for path in runs.rglob("results.json")} == {"mine", "max"}
