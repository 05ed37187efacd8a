import csv
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
from scipy import stats

from evaluation import exports, paired
from tests.evaluation.runs import add_run, summary_of
from tests.evaluation.test_compare import compare

NATIVE, BLUR = [0.90, 0.93, 0.96], [0.92, 0.945, 0.985]  # the seeds differ by more than the poolings do


@pytest.fixture
def runs(tmp_path):
    for seed, (first, second) in enumerate(zip(NATIVE, BLUR, strict=True)):
        add_run(tmp_path, pooling="native", seed=seed, accuracy=first)
        add_run(tmp_path, pooling="blur", seed=seed, accuracy=second, loss=0.3 - 0.1 * seed)
    return tmp_path


def test_the_paired_interval_is_scipys_and_finds_what_the_unpaired_does_not(runs):
    summary = summary_of(runs)
    (difference,), notes = paired.differences(summary, "native")
    assert (difference.row.pooling, difference.over) == ("blur", "3 seeds")
    assert not any("no native" in note for note in notes)
    mean, half, seeds = difference.figures["accuracy"]
    interval = stats.ttest_rel(BLUR, NATIVE).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx(tuple(interval))
    assert seeds == 3
    assert paired.is_clear(difference.figures["accuracy"])
    rows = {row.pooling: row.figures["accuracy"] for row in summary.rows}
    assert rows["blur"].mean - rows["blur"].half_width < rows["native"].mean + rows["native"].half_width
    assert not paired.is_clear(difference.figures["loss"])
    assert exports.signed("accuracy", difference.figures["accuracy"]).startswith("+0.020 ±.")


def test_only_common_seeds_count_and_one_has_no_interval(runs):
    add_run(runs, pooling="max", seed=2, accuracy=0.99)
    add_run(runs, pooling="max", seed=7, accuracy=0.10)
    found = {d.row.pooling: d.figures["accuracy"] for d in paired.differences(summary_of(runs), "native")[0]}
    assert found["max"] == (pytest.approx(0.03), None, 1)
    assert not paired.is_clear(found["max"])


def test_less_loss_is_better():
    assert paired.is_better("loss", paired.Stat(-0.1, 0.01, 3))
    assert paired.is_better("accuracy", paired.Stat(0.1, 0.01, 3))
    assert not paired.is_better("accuracy", paired.Stat(-0.1, 0.01, 3))


def test_each_model_has_its_own_baseline_and_one_without_is_named(runs):
    add_run(runs, model="resnet20", pooling="blur")
    found, notes = paired.differences(summary_of(runs), "native")
    assert [d.row.model for d in found] == ["lenet5"]
    assert notes[:1] == ["no native to compare with: digits resnet20 native"]


def test_baselines_that_are_not_there_or_not_one(runs):
    with pytest.raises(ValueError, match="did you mean 'native'"):
        paired.differences(summary_of(runs), "natve")
    add_run(runs, pooling="native", seed=0, stamp="20250102-030406", config={"trainer.max_epochs": 9})
    add_run(runs, pooling="soft", seed=0, config={"trainer.max_epochs": 7})
    with pytest.raises(ValueError, match="several runs could be the baseline of lenet5"):
        paired.differences(summary_of(runs), "native")
    found, _ = paired.differences(summary_of(runs), "native trainer.max_epochs=9")
    assert {d.row.label for d in found} == {"blur", "soft", "native trainer.max_epochs=5"}


def test_the_command_prints_and_writes_differences(runs, tmp_path):
    page, latex = tmp_path / "page.html", tmp_path / "table.tex"
    code, printed, errors = compare(runs, "--baseline", "native", "--html", page, "--latex", latex)
    assert (code, errors) == (0, "")
    assert "difference from native" in printed
    assert "+0.020 ±.012*" in printed
    text = page.read_text()
    assert "+0.020 ±.012*" in text
    assert "class='n better'" in text
    assert "data:image/png;base64," in text
    assert "src='data:" in text and "http" not in text  # noqa: PT018
    assert "$+0.020 \\pm .012$*" in latex.read_text()
    code, _, errors = compare(runs, "--baseline", "nativ")
    assert (code, errors.count("\n")) == (1, 1)


def test_the_csv_has_the_differences_that_the_table_shows(runs, tmp_path):
    add_run(runs, model="resnet20", pooling="blur")  # has no baseline
    add_run(runs, pooling="max", seed=2, accuracy=0.99)
    table = tmp_path / "table.csv"
    code, _, errors = compare(runs, "--baseline", "native", "--csv", table)
    assert (code, errors) == (0, "")
    with table.open(newline="") as stream:
        rows = {(row["model"], row["pooling"]): row for row in csv.DictReader(stream)}
    blur = rows["lenet5", "blur"]
    interval = stats.ttest_rel(BLUR, NATIVE).confidence_interval(0.95)
    mean, half = (float(blur[f"accuracy_difference{part}"]) for part in ("", "_half_width"))
    assert (mean - half, mean + half) == pytest.approx(tuple(interval))
    assert (blur["baseline"], blur["accuracy_difference_n"]) == ("native", "3")
    one = rows["lenet5", "max"]
    assert float(one["accuracy_difference"]) == pytest.approx(0.03)
    assert (one["accuracy_difference_half_width"], one["accuracy_difference_n"]) == ("", "1")
    for row in (rows["lenet5", "native"], rows["resnet20", "blur"]):
        assert {row["baseline"], row["accuracy_difference"], row["accuracy_difference_half_width"]} == {""}
        assert row["accuracy_difference_n"] == "0"
    assert "loss_difference" in blur
    assert "parameters_difference" not in blur
    assert compare(runs, "--csv", table)[0] == 0
    assert "difference" not in table.read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_takes_the_table(runs, tmp_path):
    summary = summary_of(runs)
    exports.write_latex(summary, tmp_path / "table.tex", None, paired.differences(summary, "native"))
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\input{table}\\end{document}"
    (tmp_path / "document.tex").write_text(document)
    subprocess.run(["pdflatex", "-halt-on-error", "document.tex"], cwd=tmp_path, check=True, capture_output=True)


def images(run, name, rows, **protocol):
    """An evaluation with its values of each image: (target, predicted, consistency)."""
    right = sum(target == predicted for target, predicted, _ in rows) / len(rows)
    figures = {"accuracy": right, "consistency": sum(row[2] for row in rows) / len(rows), "accuracy_top5": 1.0}
    content = {key: {"value": value, "protocol": {"name": "crop", **protocol}} for key, value in figures.items()}
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / f"{name}.json").write_text(json.dumps({"figures": content, "limit": len(rows)}))
    with (run / "eval" / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "target", "predicted", "consistency"])
        writer.writerows((index, *row) for index, row in enumerate(rows))


def test_one_run_each_is_compared_image_by_image(tmp_path):
    draw = np.random.default_rng(0)
    native = [("cat", draw.choice(["cat", "dog"]), draw.integers(6) / 5) for _ in range(300)]
    blur = [("cat", draw.choice(["cat", "cat", "dog"]), draw.integers(2, 6) / 5) for _ in range(200)]
    runs = [add_run(tmp_path, pooling=name, accuracy=0.9) for name in ("native", "blur")]
    (difference,), notes = paired.differences(summary_of(tmp_path), "native")
    assert (difference.over, difference.figures["accuracy"]) == ("1 seed", (0.0, None, 1))
    assert any("eval.py" in note for note in notes)

    for run, rows in zip(runs, (native, blur), strict=True):
        images(run, "test", rows, m=8)
    (difference,), notes = paired.differences(summary_of(tmp_path), "native")
    assert difference.over == "images"
    assert any("other seeds" in note for note in notes)
    for figure, values in (
        ("accuracy", [[target == predicted for target, predicted, _ in rows[:200]] for rows in (native, blur)]),
        ("consistency", [[row[2] for row in rows[:200]] for rows in (native, blur)]),
    ):
        first, second = np.array(values, dtype=float)
        interval = stats.ttest_rel(second, first).confidence_interval(0.95)
        mean, half, n = difference.figures[figure]
        assert (mean - half, mean + half) == pytest.approx(tuple(interval))
        assert n == 200
    assert difference.figures["accuracy_top5"].half_width is None  # of which nothing is known by image
    code, printed, errors = compare(tmp_path, "--baseline", "native", "--csv", tmp_path / "table.csv")
    assert (code, errors) == (0, "")
    assert "images" in printed
    with (tmp_path / "table.csv").open(newline="") as stream:
        (row,) = (row for row in csv.DictReader(stream) if row["baseline"])
    assert (row["over"], row["accuracy_difference_n"]) == ("images", "200")

    images(runs[1], "test-2", blur, m=4)  # the newest, of another protocol: nothing to compare image by image
    os.utime(runs[1] / "eval" / "test-2.json", (2e9, 2e9))
    (difference,), _ = paired.differences(summary_of(tmp_path), "native")
    assert difference.over == "1 seed"
    assert difference.figures["consistency"].half_width is None


def test_with_several_seeds_the_interval_is_over_them_whatever_is_known_of_images(runs):
    for file in list(runs.rglob("results.json")):
        images(file.parent, "test", [("cat", "cat", 1.0), ("cat", "dog", 0.4)])
    (difference,), _ = paired.differences(summary_of(runs), "native")
    assert (difference.over, difference.figures["accuracy"].n) == ("3 seeds", 3)


def evaluation(run, name, figures, **facts):
    file = run / "eval" / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    content = {"figures": {key: {"value": value} for key, value in figures.items()}, **facts}
    file.write_text(json.dumps(content))


def test_what_eval_measured_joins_the_comparison(tmp_path):
    run = add_run(tmp_path, accuracy=0.9)
    evaluation(run, "test", {"accuracy": 0.9, "cam_equivariance": 0.7, "distance/pool1/in": 0.1, "consistency": 0.1},
               limit=None, efficiency={"inference_images_per_second": 5e3, "parameters": 7})  # fmt: skip
    evaluation(run, "test-2", {"accuracy": 0.4, "flip_rate": 0.2}, limit=None)  # of another checkpoint
    evaluation(run, "test-3", {"accuracy": 0.5, "flip_rate": 0.3}, limit=100)
    evaluation(run, "val", {"accuracy": 0.9, "insertion": 0.3}, limit=None)
    (run / "eval" / "test-4.json").write_text("{}")
    summary = summary_of(tmp_path)
    figures = summary.rows[0].figures
    assert figures["cam_equivariance"].mean == 0.7
    assert figures["inference_images_per_second"].mean == 5e3
    assert figures["flip_rate"].mean == 0.3
    assert figures["consistency"].mean == 0.93  # what training ended with stays
    assert not {"distance/pool1/in", "insertion"} & set(figures)
    assert figures["parameters"].mean == 61_706
    assert len(summary.notes) == 2
    assert any("test-2.json: it is of another checkpoint" in note for note in summary.notes)
    assert any("test-4.json: not an evaluation" in note for note in summary.notes)
