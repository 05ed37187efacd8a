"""Interleaved timing and the names of results, without timing anything."""

import csv
import re

import pytest
import scipy.stats
import torch

from benchmarks import evaluation, operators, tables
from benchmarks import models as backbones
from benchmarks.timing import environment_name, interleaved, median_interval, repeated


def test_calls_take_turns_and_the_first_round_is_not_counted():
    order = []
    seconds = interleaved({name: lambda name=name: order.append(name) for name in "abc"}, rounds=2)
    assert order == ["c", "b", "a", "a", "b", "c", "c", "b", "a"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_what_comes_before_each_call_is_not_timed():
    events = []
    clock = lambda call: events.append("start") or call() or events.append("stop") or 0.0  # noqa: E731
    interleaved({"a": lambda: events.append("call")}, 1, clock, before=lambda: events.append("before"))
    assert events == ["before", "start", "call", "stop"] * 2


def test_short_calls_are_repeated_until_their_turn_is_long_enough():
    count = 0

    def call():
        nonlocal count
        count += 1

    def clock(turn):
        before = count
        turn()
        return 0.002 * (count - before)

    assert repeated({"a": call}, rounds=2, clock=clock, least=0.005) == {"a": [pytest.approx(0.002)] * 2}
    assert count == 2 + 3 * 3  # once to warm up, once to see how long it takes; three turns of three


@pytest.mark.parametrize("count, rank", [(1, 1), (5, 1), (6, 1), (9, 2), (11, 2), (25, 8), (100, 40)])
def test_the_medians_interval_is_that_of_the_sign_test(count, rank):
    figures = list(range(1, count + 1))
    assert median_interval(figures[::-1]) == (rank, count + 1 - rank)
    if count > 5:  # narrower, and the test would be beyond its level
        level = scipy.stats.binomtest(rank - 1, count).pvalue
        assert level <= 0.05 < scipy.stats.binomtest(rank, count).pvalue


def test_results_are_named_by_hardware_and_torch():
    for device in (None, "cpu"):
        assert re.fullmatch(r"[a-z0-9.-]+-torch\d+\.\d+\.\d+\w*", environment_name(device))


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    seconds = {"a": [2.0, 20.0, 3.0], "b": [1.0, 10.0, 1.0]}
    assert backbones.compared(seconds, "a", "b") == (3000.0, 2.0, "b")


@pytest.mark.parametrize("name, compared_to", [("lenet5", "native"), ("mobilenet_v2", "torchvision")])
def test_the_networks_beside_each_other_have_the_same_weights_and_output(name, compared_to):
    nets = backbones.networks(name, 64)
    assert compared_to in nets
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        outputs = {key: net.eval()(x) for key, net in nets.items()}
    assert {y.shape for y in outputs.values()} == {(2, 1000)}
    torch.testing.assert_close(outputs[compared_to], outputs["native"])
    own = nets["native"].state_dict()
    for net in nets.values():
        assert all(value.data_ptr() == own[key].data_ptr() for key, value in net.state_dict().items())


def test_a_row_for_native_against_torchvision_and_for_each_operator_against_native():
    measured = backbones.measure("resnet18", 32, 2, 0, operators=("max", "blur"))
    rows = [dict(zip(backbones.COLUMNS, row, strict=True)) for row in measured]
    for mode in ("forward", "forward+backward"):
        found = {row["network"]: (row["against"], row["rounds"]) for row in rows if row["mode"] == mode}
        assert found == {"native": ("torchvision", 7), **dict.fromkeys(("max", "blur"), ("native", 3))}
    assert all(row["milliseconds"] > 0 and row["ratio"] > 0 for row in rows)


def test_large_networks_are_timed_on_one_smaller_image():
    assert backbones.usual("resnet18") == (224, 2)
    assert backbones.usual("vgg16") == (128, 1)
    assert backbones.usual("deeplabv3") == (128, 2)


def row(name, ratio):
    return (name, 32, 2, 2, 3, "forward", "max", 1.0, ratio, "native")


@pytest.mark.parametrize("option", ["--threads", "--batch", "--size"])
def test_numbers_below_one_are_refused_in_one_line(option, capsys):
    with pytest.raises(SystemExit):
        backbones.main([option, "0"])
    assert f"{option} must be at least 1, got 0" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("benchmark", [backbones, evaluation, operators], ids=lambda module: module.__name__)
def test_a_folder_that_cannot_be_made_is_said_in_one_line_before_anything_is_measured(benchmark, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        benchmark.main(["--output", str(tmp_path / "file" / "folder")])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1].endswith("Not a directory")


def test_results_are_kept_from_network_to_network(tmp_path, monkeypatch):
    """A network's new rows replace its old ones; what goes wrong while writing leaves the file as it was."""
    file = tmp_path / "models.csv"
    tables.keep([row("b", 1.5), row("b", 2.5)], backbones.COLUMNS, file)
    tables.keep([row("a", 3.5)], backbones.COLUMNS, file)
    tables.keep([row("b", 4.5)], backbones.COLUMNS, file)
    with file.open() as stream:
        header, *rows = csv.reader(stream)
    assert tuple(header) == backbones.COLUMNS
    assert [(cells[0], cells[-2]) for cells in rows] == [("b", "4.5"), ("a", "3.5")]
    file.write_text("model,ratio\nc,1.5\n")  # of an earlier version, with fewer columns
    tables.keep([row("a", 3.5)], backbones.COLUMNS, file)
    assert "c,,,,,,,,1.5,\n" in (before := file.read_text())
    monkeypatch.setattr(tables.itertools, "chain", None)
    with pytest.raises(AttributeError):
        tables.keep([row("a", 5.5)], backbones.COLUMNS, file)
    assert file.read_text() == before
