import csv
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

from tests.evaluation.runs import add_run

ROOT = Path(__file__).parents[2]


def compare(*arguments: object) -> tuple[int, str, str]:
    """Run the command: exit code, standard output, standard error."""
    command = [sys.executable, "-W", "error", ROOT / "compare.py", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


def test_the_command_writes_all_figures_as_csv(tmp_path):
    for seed in range(2):
        add_run(tmp_path / "runs", seed=seed, accuracy=0.9 + seed / 10, consistency=1 / 3)
    add_run(tmp_path / "runs", pooling="blur", accuracy=0.9)
    code, printed, errors = compare(tmp_path / "runs", "--csv", tmp_path / "table.csv")
    assert (code, errors) == (0, "")
    assert str(tmp_path / "table.csv") in printed
    with open(tmp_path / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["pooling"] for row in rows] == ["max", "blur"]
    assert float(rows[0]["accuracy"]) == pytest.approx(0.95)
    assert float(rows[0]["accuracy_half_width"]) == pytest.approx(stats.t.ppf(0.975, 1) * 0.05)
    assert rows[0]["accuracy_seeds"] == rows[0]["seeds"] == "2"
    assert float(rows[0]["consistency"]) == 1 / 3
    assert rows[1]["accuracy_half_width"] == ""
    for figure in ("accuracy_top5", "flops", "seconds", "epochs", "mean_probability_change"):
        assert figure in rows[0]


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_command_draws(tmp_path, ending):
    add_run(tmp_path / "runs")
    code, _, errors = compare(tmp_path / "runs", "--plot", tmp_path / f"plot.{ending}")
    assert (code, errors) == (0, "")
    assert (tmp_path / f"plot.{ending}").stat().st_size > 1000


def test_mistakes_are_one_line_with_the_fix(tmp_path):
    runs = tmp_path / "runs"
    (tmp_path / "empty").mkdir()
    add_run(runs, consistency=None)
    for arguments, words in (
        ((tmp_path / "empty",), "no finished runs in"),
        ((tmp_path / "nowhere",), "there is no folder"),
        ((runs, "--sort", "consistancy_circular"), "did you mean 'consistency_circular'"),
        ((runs, "--plot", tmp_path / "plot.png"), "nothing to plot"),
        ((runs, "--csv", tmp_path / "nowhere" / "table.csv"), "No such file"),
    ):
        code, _, errors = compare(*arguments)
        assert code == 1
        assert words in errors
        assert errors.count("\n") == 1
    code, _, errors = compare(tmp_path / "empty", "--traceback")
    assert code == 1
    assert "Traceback" in errors


def test_help_and_the_comparison_itself_do_without_torch(tmp_path):
    add_run(tmp_path)
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r}); import compare
assert compare.main([{str(tmp_path)!r}]) == 0
assert "torch" not in sys.modules and "scipy" not in sys.modules and "matplotlib" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    code, printed, _ = compare("--help")
    assert code == 0
    assert "--sort" in printed
