"""Short real runs by the users' own commands, in this process: the fixtures `run` and `train`."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

QUICK = (
    "trainer.max_epochs=2",
    "data.limit=200",
    "trainer.threads=1",
    "evaluation.protocols=[crop,circular]",
    "evaluation.crop.repeats=1",
    "evaluation.circular.repeats=1",
)


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """`run("train", "pooling=blur")`: what the command printed, and its exit code."""

    def call(script: str, *arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            importlib.import_module(script).main()
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 1
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def train(run: Callable[..., Outcome], tmp_path: Path) -> Callable[..., Path]:
    """`train("pooling=blur")`: the folder of a quick run that went well."""

    def call(*arguments: str) -> Path:
        before = set(tmp_path.rglob("results.json"))
        outcome = run("train", f"runs={tmp_path}", *QUICK, *arguments)
        assert outcome.code == 0, outcome.err
        (made,) = set(tmp_path.rglob("results.json")) - before
        return made.parent

    return call
