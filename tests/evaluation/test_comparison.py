import shutil

import numpy as np
import pytest
from scipy import stats

from evaluation import comparison, scatter
from tests.evaluation.runs import MODELS, add_run, summary_of


def test_a_row_is_the_mean_over_seeds_with_students_interval(tmp_path):
    values = [0.91, 0.93, 0.98]
    for seed, value in enumerate(values):
        add_run(tmp_path, seed=seed, accuracy=value)
    add_run(tmp_path, pooling="blur", accuracy=0.95)
    rows = {row.pooling: row for row in summary_of(tmp_path).rows}
    assert len(rows) == 2
    mean, half, seeds = rows["max"].figures["accuracy"]
    assert (mean, seeds) == (pytest.approx(np.mean(values)), 3)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert rows["blur"].figures["accuracy"] == (0.95, None, 1)


def test_of_two_runs_with_one_seed_the_newest_counts_and_a_note_says_so(tmp_path):
    add_run(tmp_path, stamp="20250102-000001", accuracy=0.2)
    newest = add_run(tmp_path, stamp="20250103-000000", accuracy=0.9)
    add_run(tmp_path, stamp="20250102-235959", accuracy=0.1)
    summary = summary_of(tmp_path)
    assert summary.rows[0].figures["accuracy"] == (0.9, None, 1)
    assert summary.notes == [f"3 runs of digits lenet5 max with seed 0: the newest counts ({newest})"]


def test_runs_that_differ_in_a_setting_are_different_rows(tmp_path):
    add_run(tmp_path, seed=0, config={"pooling.sites": "auto"})
    add_run(tmp_path, seed=1, config={"pooling.sites": "auto"})
    add_run(tmp_path, seed=0, stamp="20250102-030406", config={"pooling.sites": "all", "trainer.max_epochs": 7})
    rows = {row.label: row for row in summary_of(tmp_path).rows}
    assert {label: row.seeds for label, row in rows.items()} == {
        "max sites=auto trainer.max_epochs=5": 2,
        "max sites=all trainer.max_epochs=7": 1,
    }


def test_where_a_run_was_made_makes_no_difference(tmp_path):
    add_run(tmp_path / "here", seed=0, config={"trainer.devices": 1, "trainer.threads": None})
    add_run(tmp_path / "there", seed=1, config={"trainer.devices": 2, "trainer.threads": 2})
    (row,) = summary_of(tmp_path).rows
    assert (row.seeds, row.settings) == (2, "")


def test_a_run_named_twice_counts_once(tmp_path):
    run = add_run(tmp_path)
    summary = summary_of(tmp_path, run, tmp_path / "digits")
    assert summary.rows[0].seeds == 1
    assert not summary.notes


def test_a_sweeps_folders_can_be_given_one_by_one(tmp_path, capsys):
    runs = [add_run(tmp_path, pooling=name) for name in ("max", "avg")]
    add_run(tmp_path, pooling="soft")
    comparison.render(comparison.summarise(comparison.load(runs)))
    printed = capsys.readouterr().out
    assert "max" in printed
    assert "soft" not in printed


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda file: file.write_text('{"accuracy": 0.9, '), "Expecting"),
        (lambda file: file.write_text("[1, 2]"), "not an object"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "utf-8"),
        (lambda file: file.write_text('{"accuracy": 0.9, "model": "lenet5"}'), "no data, no head, no pooling, no seed"),
        (lambda file: file.write_text(file.read_text().replace("0.9,", "NaN,", 1)), "accuracy or mean_iou"),
    ],
)
def test_a_damaged_result_is_named_and_skipped(tmp_path, damage, words):
    add_run(tmp_path)
    damaged = add_run(tmp_path, pooling="blur") / "results.json"
    damage(damaged)
    summary = summary_of(tmp_path)
    assert [row.pooling for row in summary.rows] == ["max"]
    (note,) = summary.notes
    assert note.startswith(f"skipped {damaged}: ")
    assert words in note


def test_missing_figures_are_left_open(tmp_path, capsys):
    add_run(tmp_path, seed=0, consistency=None, loss=float("inf"))
    add_run(tmp_path, pooling="blur", consistency=0.5)
    summary = summary_of(tmp_path)
    comparison.render(summary, "consistency")
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if "lenet5" in line]
    assert "blur" in rows[0]
    assert " - " in rows[1]


@pytest.mark.parametrize(
    "column, first",
    [
        ("accuracy", "blur"),
        ("loss", "max"),
        ("mean_probability_change", "max"),
        ("pooling", "blur"),
        ("seeds", "max"),
        ("train_images_per_second", "max"),
        ("parameters", "max"),
    ],
)
def test_the_best_comes_first(tmp_path, column, first):
    add_run(tmp_path, seed=0, accuracy=0.8, loss=0.1, mean_probability_change=0.01, train_images_per_second=9e3)
    add_run(tmp_path, seed=1, accuracy=0.8, loss=0.1, mean_probability_change=0.01, train_images_per_second=9e3)
    add_run(tmp_path, pooling="blur", parameters=70_000)
    assert comparison.arrange(summary_of(tmp_path), column)[0].pooling == first


def test_the_table_fits_its_width_and_says_what_is_in_it(tmp_path, capsys):
    for model in MODELS:
        for pooling in ("stochastic", "blur-filter_5-sites_all"):
            for seed in range(3):
                add_run(
                    tmp_path, data="fashion_mnist", model=model, pooling=pooling, seed=seed, accuracy=0.9 + seed / 50
                )
    comparison.render(summary_of(tmp_path), "loss")
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 120
    assert "…" not in printed
    for text in ("fashion_mnist, head native", "0.920 ±.050", "61.7k", "4.32k", "loss", "0.300 ±.000", "95% interval"):
        assert text in printed


def test_segmentation_and_several_data_sets_have_tables_of_their_own(tmp_path, capsys):
    add_run(tmp_path)
    add_run(tmp_path, data="fashion_mnist")
    add_run(tmp_path, data="digit_scenes", mean_iou=0.6, pixel_accuracy=0.9, shift_equivariance=0.95)
    summary = summary_of(tmp_path)
    comparison.render(summary)
    printed = capsys.readouterr().out
    assert [line.split(",")[0] for line in printed.splitlines() if "head" in line] == [
        "digits", "fashion_mnist", "digit_scenes",
    ]  # fmt: skip
    assert "mean IoU" in printed
    scatter.write(summary, tmp_path / "all.png")


def test_heads_that_differ_are_rows_and_a_column(tmp_path, capsys):
    add_run(tmp_path, head="gap")
    add_run(tmp_path, head="spp", stamp="20250102-030406")
    comparison.render(summary_of(tmp_path))
    printed = capsys.readouterr().out
    assert "gap" in printed
    assert "spp" in printed


def test_results_outlive_a_missing_config(tmp_path):
    run = add_run(tmp_path)
    (run / "config.yaml").unlink()
    (row,) = summary_of(tmp_path).rows
    assert row.settings == ""
    add_run(tmp_path, stamp="20250102-030406", seed=1)
    assert {row.label for row in summary_of(tmp_path).rows} == {"max", "max (settings unknown)"}
    shutil.rmtree(run)
    assert {row.label for row in summary_of(tmp_path).rows} == {"max"}
