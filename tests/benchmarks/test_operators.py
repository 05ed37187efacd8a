"""The operators' benchmark: its alternatives compute what they are compared with, its table is whole."""

import csv
import itertools

import pytest
import torch

from benchmarks import operators
from benchmarks.alternatives import PROGRAMS, exchanges
from benchmarks.operators import BACKWARD, COLUMNS, FORWARD, LAYOUTS, Benchmark, Case, values
from benchmarks.subjects import BOUNDS, SUBJECTS, WINDOWS, bound
from pooling import philox, ranks
from pooling.dispatch import NATIVE_OPERATORS
from pooling.kernels import native

pytestmark = pytest.mark.skipif("cpu" not in native.LOADED.variants, reason="no native operators are built")

# They draw other numbers than the native operator does, and are compared by their frequencies.
OTHER_DRAWS = {("max_dropout", "max_pool2d"), ("max_dropout", "slices")}
ALL = {(name, program) for name, programs in PROGRAMS.items() for program in programs}


def case(name, window="3x3", layout="NCHW", mode=BACKWARD, shape=(2, 3, 8, 10), dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return Case(name, window, layout, mode, torch.randn(shape, dtype=dtype, generator=generator))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name, program", sorted(ALL - OTHER_DRAWS))
def test_each_alternative_gives_the_native_values_and_gradients(name, program, window, layout, monkeypatch):
    ours = case(name, window, layout)
    theirs = dict(ours.programs(compiled=False))[program]
    torch.manual_seed(2)
    seed = philox.draw_seed(ours.x.device)
    monkeypatch.setattr(torch, "rand_like", lambda t: philox.uniform(seed, t.numel()).view(t.shape).to(t.dtype))
    torch.manual_seed(2)
    y, z = values(ours.native(ours.x)), values(theirs(ours.x))
    torch.testing.assert_close(z, y, rtol=1e-6, atol=1e-9)
    upstream = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(3))
    wanted = [[ours.x, *(t for t in extra if t.requires_grad)] for extra in (ours.extra, ours.theirs)]
    ours_by, theirs_by = (torch.autograd.grad(v, w, upstream) for v, w in zip((y, z), wanted, strict=True))
    for a, b in zip(theirs_by, ours_by, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_indices_are_torchs():
    ours = case("max_indices", mode=FORWARD)
    theirs = dict(ours.programs(compiled=False))["max_pool2d"]
    assert torch.equal(ours.native(ours.x)[1], theirs(ours.x)[1])


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name, program", sorted(OTHER_DRAWS))
def test_alternatives_with_other_draws_have_the_operators_frequencies(name, program, window):
    count = 40_000
    x = torch.tensor([[2.0, 4.0], [3.0, 1.0]]).expand(1, count, 2, 2)  # one window of four members in each channel
    drawn = dict(Case(name, window, "NCHW", FORWARD, x).programs(compiled=False))[program](x)
    for value, probability in zip((4, 3, 2, 1), ranks.first_kept(4, 0.5)[4].tolist(), strict=True):
        spread = (count * probability * (1 - probability)) ** 0.5
        assert abs((drawn == value).sum().item() - count * probability) < 5 * spread


@pytest.mark.parametrize("count", [1, 2, 4, 6, 9])
def test_the_exchanges_sort(count):
    # Knuth's 0-1 principle: a network that sorts all sequences of zeros and ones sorts everything.
    for bits in itertools.product((0, 1), repeat=count):
        sequence = list(bits)
        for i, j in exchanges(count):
            sequence[i], sequence[j] = max(sequence[i], sequence[j]), min(sequence[i], sequence[j])
        assert sequence == sorted(bits, reverse=True)


# What has no kernel of its own: the one whose time it is.
COMPOSED = {"lip": "weighted_mean", "s3": "max", "fractional": "max", "wavelet": "blur", "lps": "aps"}


def test_every_native_operator_has_its_benchmark():
    measured = {subject.operator for subject in SUBJECTS.values()}
    assert measured >= NATIVE_OPERATORS - COMPOSED.keys() | set(COMPOSED.values())
    assert PROGRAMS.keys() == SUBJECTS.keys()
    assert BOUNDS.keys() <= SUBJECTS.keys()


def test_bounds_are_read_in_their_order():
    assert [bound("max", w, m) for m in (FORWARD, BACKWARD) for w in WINDOWS] == [1.5, 2, 3, 4]
    assert bound("gem", "2x2", FORWARD) is None


def test_what_is_saved_for_backward():
    # 16 bytes: float32 input at four inputs an output; torch's max keeps it beside int64 indices, ours one byte.
    one = case("max", "2x2", dtype=torch.float32)
    outputs = values(one.native(one.x)).numel()
    torchs = dict(one.programs(compiled=False))["max_pool2d"]
    assert operators.saved(one, one.native) == (outputs, False)
    assert operators.saved(one, torchs) == (8 * outputs, True)
    soft, weighted = case("soft"), case("weighted_mean")
    assert operators.saved(soft, soft.native) == (0, True)
    assert operators.saved(weighted, weighted.native) == (0, True)


def test_bytes_moved():
    one = case("max", "2x2", mode=FORWARD, dtype=torch.float32)
    x, y = one.x.nbytes, one.x.nbytes // 4
    assert operators.bytes_moved(one, 0, False) == x + y
    one = case("max", "2x2", dtype=torch.float32)
    assert operators.bytes_moved(one, y // 4, False) == (x + y + y // 4) + (y + y // 4 + x)
    one = case("weighted_mean", "2x2", dtype=torch.float32)
    assert operators.bytes_moved(one, 0, True) == (2 * x + y) + (y + 2 * x + 2 * x)


def test_a_program_that_computes_something_else_or_fails_is_left_out(monkeypatch):
    def failing(x, window):
        raise RuntimeError("no such thing\nand a long explanation")

    wrong = {"wrong": lambda x, window: 2 * PROGRAMS["min"]["slices"](x, window), "failing": failing}
    monkeypatch.setitem(PROGRAMS, "min", PROGRAMS["min"] | wrong)
    benchmark = Benchmark("cpu", rounds=1, alternatives=True, compiled=False)
    row = benchmark.measure(case("min", dtype=torch.float32))
    assert row.alternative in {"max_pool2d", "slices", "stack", "unfold"}
    assert len(benchmark.notes) == 2
    assert benchmark.notes[0].endswith("wrong: gives something else, left out")
    assert benchmark.notes[1].endswith("failing: failed, left out (no such thing)")


def test_the_table_has_every_cell(tmp_path, capsys):
    options = "--operators max,gem,rsp --shape 1x2x8x8 --rounds 1 --threads 1 --quick --device cpu --output"
    operators.main([*options.split(), str(tmp_path)])
    (file,) = tmp_path.glob("operators-*-torch*.csv")
    with file.open(newline="") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    cells = {(r["benchmark"], r["layout"], r["window"], r["mode"]) for r in rows if r["copies"]}
    assert cells == set(itertools.product(("max", "gem", "rsp"), LAYOUTS, WINDOWS, (FORWARD, BACKWARD)))
    small = {(r["benchmark"], r["mode"], r["alternative"]) for r in rows if not r["copies"]}
    assert small == set(itertools.product(("max", "gem", "rsp"), (FORWARD, BACKWARD), ("max_pool2d",)))
    assert len(rows) == len(cells) + len(small)
    assert all(0 < float(r["ratio_low"]) <= float(r["ratio"]) <= float(r["ratio_high"]) for r in rows)
    assert all(float(r["copies_low"]) <= float(r["copies"]) <= float(r["copies_high"]) for r in rows if r["copies"])
    assert all(r["eager"] == r["alternative"] and r["eager_ratio"] == r["ratio"] for r in rows if r["copies"])
    printed = capsys.readouterr().out
    assert "geometric mean of 24 cells" in printed
    assert "alternatives under torch.compile: not measured" in printed


def test_a_run_of_some_operators_keeps_the_figures_of_the_others(tmp_path):
    options = "--shape 1x2x8x8 --rounds 1 --threads 1 --no-alternatives --device cpu --output"
    for names in ("max,gem", "max"):
        operators.main(["--operators", names, *options.split(), str(tmp_path)])
    (file,) = tmp_path.iterdir()
    with file.open(newline="") as stream:
        names = [row["benchmark"] for row in csv.DictReader(stream)]
    assert names == ["max"] * 10 + ["gem"] * 10


def test_nothing_is_said_of_programs_that_were_not_run(tmp_path, capsys):
    options = "--operators max --shape 1x2x8x8 --rounds 1 --threads 1 --no-alternatives --device cpu --output"
    operators.main([*options.split(), str(tmp_path)])
    printed = capsys.readouterr().out
    assert "alternatives: not measured" in printed
    assert "slower than" not in printed


def test_the_best_program_and_the_best_eager_one_are_both_found():
    benchmark = Benchmark("cpu", rounds=1, alternatives=True, compiled=True)
    once = {"slices": 3.0, "stack": 2.0, "slices compiled": 0.5}
    calls = dict.fromkeys(once, lambda: None)
    assert benchmark.winner(calls, once) == "slices compiled"
    assert (
        benchmark.winner({name: calls[name] for name in operators.eager(calls)}, {"slices": 9.0, "stack": 2.0})
        == "stack"
    )


def test_an_operator_stands_for_its_forms():
    assert operators.parsed(["--operators", "lp,max", "--device", "cpu"]).operators == ["lp2", "lp3", "max"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("--operators max,softer", "there is no softer"),
        ("--shape 4x16x28", "NxCxHxW"),
        ("--shape 4x16x27x28", "even H and W"),
        ("--rounds 0", "at least 1"),
    ],
)
def test_wrong_options_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit):
        operators.main([*arguments.split(), "--device", "cpu"])
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_one_line(capsys):
    with pytest.raises(SystemExit):
        operators.parsed(["--device", "cuda"])
    assert "there is no CUDA device here; use --device cpu" in capsys.readouterr().err.splitlines()[-1]
