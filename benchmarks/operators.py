"""python -m benchmarks.operators: what a native operator costs beside a copy of its input and beside plain PyTorch.

Every native operator in both memory formats, with 2x2 windows and with overlapping 3x3 ones at stride 2, forward and
forward + backward. The operator, the fastest way to write it in PyTorch and a copy take turns in one run. Also what it
saves for its backward pass, and what a call on a small input costs. Keeps
benchmarks/results/operators-ENVIRONMENT.csv: the last rows of each operator, written whenever one is measured;
benchmarks/README.md says what the columns mean.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from itertools import cycle
from statistics import geometric_mean, median
from typing import Any

import torch
from torch import Tensor

import pooling
from benchmarks import tables
from benchmarks.alternatives import PROGRAMS
from benchmarks.subjects import BACKWARD, FORWARD, SUBJECTS, WINDOWS, add_plugins, bound
from benchmarks.timing import (
    Call,
    ColdCaches,
    device_time,
    environment_name,
    interleaved,
    keep_freed_memory,
    median_interval,
    repeated,
    wall_time,
)
from pooling.dispatch import NATIVE_OPERATORS
from pooling.kernels import native

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}
SHAPES = {"cpu": (32, 64, 56, 56), "cuda": (64, 64, 112, 112)}
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.float32, torch.bfloat16)}
SMALL, SMALL_INPUTS = (1, 16, 14, 14), 64
TORCHS_OWN = ("max", "max_indices", "avg")  # compared with the operator that torch has, as it is
COMPILED = " compiled"
RATIOS = {"alternative": "ratio", "eager": "eager_ratio"}  # the columns of time over theirs

Program = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Row:
    """One line of the table; what was not measured is None. benchmarks/README.md explains each."""

    benchmark: str
    device: str
    dtype: str
    shape: str
    layout: str
    window: str
    mode: str
    milliseconds: float
    copies: float | None = None
    copies_low: float | None = None
    copies_high: float | None = None
    bound: float | None = None
    of_bandwidth: float | None = None
    alternative: str | None = None
    alternative_milliseconds: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    eager: str | None = None
    eager_milliseconds: float | None = None
    eager_ratio: float | None = None
    eager_ratio_low: float | None = None
    eager_ratio_high: float | None = None
    cold_milliseconds: float | None = None
    alternative_cold_milliseconds: float | None = None
    saved_bytes_per_output: float | None = None
    keeps_input: bool | None = None
    alternative_saved_bytes_per_output: float | None = None
    alternative_keeps_input: bool | None = None
    rounds: int | None = None
    threads: int | None = None

    def exceeds(self) -> bool:
        return self.bound is not None and self.copies is not None and self.copies > self.bound

    def where(self) -> str:
        return f"{self.benchmark:16} {self.layout} {self.window} {self.dtype:8} {self.mode:16}"


COLUMNS = tuple(field.name for field in fields(Row))


@dataclass
class Case:
    """One benchmark on one input: the native operator, the programs it is compared with and what they share."""

    name: str
    window: str
    layout: str
    mode: str
    x: Tensor

    def __post_init__(self) -> None:
        subject, window = SUBJECTS[self.name], WINDOWS[self.window]
        self.x = self.formatted(self.x)
        self.extra = subject.extra(self.x, window)
        self.native: Program = subject.bind(window, *self.extra)
        # A network in half precision has its parameters in half precision; the native operators take either.
        self.theirs = tuple(t.detach().to(self.x.dtype).requires_grad_(t.requires_grad) for t in self.extra)

    def programs(self, compiled: bool) -> Iterator[tuple[str, Program]]:
        """The ways to write it in PyTorch, by name."""
        for name, program in PROGRAMS.get(self.name, {}).items():  # none for an operator of the user's own
            whole = partial(run_program, program, WINDOWS[self.window], self.theirs)
            yield name, whole
            if compiled and self.name not in TORCHS_OWN:
                yield name + COMPILED, torch.compile(whole, dynamic=False)

    def call(self, program: Program, y: Tensor | None = None) -> Call:
        """What is timed, with gradients switched on or off as the mode has it (`gradients`); y is what it gives."""
        if self.mode == FORWARD:
            return partial(program, self.x)
        extra = self.extra if program is self.native else self.theirs
        wanted = [t for t in (self.x, *extra) if t.requires_grad]
        upstream = torch.randn_like(values(program(self.x)) if y is None else y)

        def forward_backward() -> object:
            return torch.autograd.grad(values(program(self.x)), wanted, upstream)

        return forward_backward

    def in_turn(self, program: Program, others: Iterable[Tensor]) -> Call:
        """Calls on x and on other inputs of its shape, one after the other."""
        cases = [self, *(copy(self) for _ in others)]
        for case, x in zip(cases[1:], others, strict=True):
            case.x = self.formatted(x)
        calls = cycle([case.call(program) for case in cases])
        return lambda: next(calls)()

    def formatted(self, x: Tensor) -> Tensor:
        return x.detach().contiguous(memory_format=LAYOUTS[self.layout]).requires_grad_(self.mode == BACKWARD)

    def gradients(self) -> torch.set_grad_enabled:
        return torch.set_grad_enabled(self.mode == BACKWARD)

    def agrees(self, y: Tensor) -> bool:
        """Whether y is what the native operator gives; not asked of draws and of half precision."""
        if SUBJECTS[self.name].random or self.x.dtype != torch.float32:
            return True
        return torch.allclose(y, values(self.native(self.x)), rtol=1e-3, atol=1e-4)


def run_program(program: Callable[..., Any], window: object, extra: tuple[Tensor, ...], x: Tensor) -> Any:
    return program(x, window, *extra)


def eager(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.endswith(COMPILED)]


def values(y: Any) -> Tensor:
    return y[0] if isinstance(y, tuple) else y


def saved(case: Case, program: Program) -> tuple[int, bool]:
    """Bytes that forward saves for backward beyond the operator's inputs, and whether it keeps the input x.

    Counted once each are the storages handed to autograd, the output's too where it is saved; not counted are x, logits
    and parameters, which exist anyway.
    """
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = program(case.x)  # held until all is counted, or a freed storage's address is used again
    keeps_input = case.x.untyped_storage().data_ptr() in kept
    for t in (case.x, *case.extra, *case.theirs):
        kept.pop(t.untyped_storage().data_ptr(), None)
    del y
    return sum(kept.values()), keeps_input


def bytes_moved(case: Case, saved_bytes: int, keeps_input: bool) -> int:
    """The least that memory traffic can be: inputs read and outputs written, once in each pass, and what is saved."""
    with torch.no_grad():
        y = values(case.native(case.x)).nbytes
    inputs = case.x.nbytes + sum(t.nbytes for t in case.extra)
    if case.mode == FORWARD:
        return inputs + y
    gradients = sum(t.nbytes for t in (case.x, *case.extra) if t.requires_grad)
    return inputs + y + saved_bytes + (y + saved_bytes + keeps_input * inputs + gradients)


class Benchmark:
    """Measures cases; `notes` says what went otherwise than expected or was not measured.

    Args:
        rounds: rounds of each case, of which medians count.
        alternatives: compare with plain PyTorch.
        compiled: under torch.compile too.
    """

    def __init__(self, device: str, rounds: int, alternatives: bool, compiled: bool) -> None:
        self.device, self.rounds, self.alternatives, self.compiled = device, rounds, alternatives, compiled
        self.clock = device_time if device == "cuda" else wall_time
        self.empty_caches = ColdCaches(device)
        self.notes: list[str] = []
        # Compiling takes most of the time: what was more than twice as slow in one memory format is not compiled for
        # the other. Eager programs, whose times differ more between the two, are all tried.
        self.hopeless: dict[tuple[str, str, str, torch.dtype], set[str]] = {}

    def measure(self, case: Case) -> Row:
        """Interleaves the native operator, the fastest program and a copy."""
        torch._dynamo.reset()
        row = Row(case.name, self.device, *self.described(case), 0.0)
        with case.gradients():
            found = self.fastest(case, row) if self.alternatives else {}
            buffer = torch.empty_like(case.x, requires_grad=False)
            source = case.x.detach()
            calls = {"native": case.call(case.native), "copy": lambda: buffer.copy_(source)}
            calls |= {name: case.call(program) for name, program in found.items()}
            seconds = interleaved(calls, self.rounds, self.clock, self.empty_caches)
        its_bytes, keeps = saved(case, case.native) if case.mode == BACKWARD else (0, False)
        copies = ratios(seconds, "native", "copy")
        bounded = case.x.device.type == "cpu" and case.x.shape == SHAPES["cpu"]
        measured: dict[str, Any] = {
            "milliseconds": 1000 * median(seconds["native"]),
            **with_interval("copies", copies),
            "bound": bound(case.name, case.window, case.mode) if bounded else None,
            "of_bandwidth": median(copies) * 2 * case.x.nbytes / bytes_moved(case, its_bytes, keeps),
            "rounds": self.rounds,
            "threads": torch.get_num_threads(),
        }
        outputs = values(case.native(case.x)).numel()
        if case.mode == BACKWARD:
            measured |= {"saved_bytes_per_output": its_bytes / outputs, "keeps_input": keeps}
        by_time = sorted(found, key=lambda name: median(seconds[name]))
        for column, names in (("alternative", by_time), ("eager", eager(by_time))):
            for name in names[:1]:
                measured |= {column: name, f"{column}_milliseconds": 1000 * median(seconds[name])}
                measured |= with_interval(RATIOS[column], ratios(seconds, "native", name))
        if by_time and case.mode == BACKWARD:
            theirs, keep = saved(case, found[by_time[0]])
            measured |= {"alternative_saved_bytes_per_output": theirs / outputs, "alternative_keeps_input": keep}
        return rounded(row, measured)

    def fastest(self, case: Case, row: Row) -> dict[str, Program]:
        """The fastest program and the fastest eager one, by name: all run, then those that are not far behind race."""
        programs: dict[str, Program] = {}
        calls: dict[str, Call] = {}
        once: dict[str, float] = {}
        hopeless = self.hopeless.setdefault((case.name, case.window, case.mode, case.x.dtype), set())
        for name, program in case.programs(self.compiled):
            if name in hopeless:
                continue
            try:
                y = values(program(case.x))
                if not case.agrees(y):
                    self.notes.append(f"{row.where()} {name}: gives something else, left out")
                    continue
                call = case.call(program, y)
                passed = self.clock(call)
                if name.endswith(COMPILED) or passed < 3 * min(once.values(), default=passed):
                    passed = min(passed, self.clock(call))  # the first call may have compiled the backward pass
            except Exception as error:  # whatever torch.compile raises, the search goes on without this program
                self.notes.append(f"{row.where()} {name}: failed, left out ({str(error).strip().splitlines()[0]})")
                continue
            programs[name], calls[name], once[name] = program, call, passed
        if not calls:
            self.notes.append(f"{row.where()} not compared: no program in plain PyTorch works")
        hopeless |= {name for name in calls if name.endswith(COMPILED) and once[name] > 2 * min(once.values())}
        best = {self.winner({name: calls[name] for name in names}, once) for names in (calls, eager(calls)) if names}
        return {name: programs[name] for name in best}

    def winner(self, calls: dict[str, Call], once: dict[str, float]) -> str:
        """The name of the fastest call, `once` being each one's time."""
        near = {name: call for name, call in calls.items() if once[name] < 1.5 * min(once[name] for name in calls)}
        if len(near) > 1:
            once = {n: median(times) for n, times in interleaved(near, 5, self.clock, self.empty_caches).items()}
        return min(near, key=lambda name: once[name])

    def measure_small(self, name: str, mode: str) -> Row:
        """A call on a small input beside torch's max_pool2d: what a call costs before it computes anything.

        On one input after the other: of one alone, processors learn which way each comparison of torch's goes.
        """
        first, *others = torch.randn(SMALL_INPUTS, *SMALL, device=self.device)
        case, torchs = Case(name, "2x2", "NCHW", mode, first), Case("max", "2x2", "NCHW", mode, first)
        own = dict(torchs.programs(compiled=False))["max_pool2d"]
        with case.gradients():
            calls = {"native": case.in_turn(case.native, others), "alternative": torchs.in_turn(own, others)}
            seconds = repeated(calls, self.rounds)
            cold = interleaved(calls, self.rounds, wall_time, self.empty_caches)
        measured = {
            "milliseconds": 1000 * median(seconds["native"]),
            "alternative": "max_pool2d",
            "alternative_milliseconds": 1000 * median(seconds["alternative"]),
            **with_interval("ratio", ratios(seconds, "native", "alternative")),
            "cold_milliseconds": 1000 * median(cold["native"]),
            "alternative_cold_milliseconds": 1000 * median(cold["alternative"]),
            "rounds": self.rounds,
            "threads": torch.get_num_threads(),
        }
        return rounded(Row(name, self.device, *self.described(case), 0.0), measured)

    @staticmethod
    def described(case: Case) -> tuple[str, str, str, str, str]:
        """The fields of a row that say what the input is."""
        shape = "x".join(map(str, case.x.shape))
        return str(case.x.dtype).removeprefix("torch."), shape, case.layout, case.window, case.mode


def ratios(seconds: dict[str, list[float]], name: str, against: str) -> list[float]:
    """Of each round: what slows a round down slows both calls."""
    return [a / b for a, b in zip(seconds[name], seconds[against], strict=True)]


def with_interval(column: str, figures: Sequence[float]) -> dict[str, float]:
    """The median and its 95% interval, as columns."""
    low, high = median_interval(figures)
    return {column: median(figures), f"{column}_low": low, f"{column}_high": high}


def rounded(row: Row, measured: dict[str, Any]) -> Row:
    figures = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in measured.items()}
    return replace(row, **figures)


def described_row(row: Row) -> str:
    """A row as it is printed while the others are still to come."""
    text = f"{row.where()} {row.milliseconds:9.3f} ms  {row.copies:6.2f} copies"
    if row.bound is not None:
        text += f" (bound {row.bound:g}{', EXCEEDED' if row.exceeds() else ''})"
    if row.device == "cuda":
        text += f"  {row.of_bandwidth:5.2f} of moving its bytes"
    if row.ratio is not None:
        text += f"  {row.ratio:6.3f} of {row.alternative}"
    return text


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """What the table says as a whole."""
    yield "\nsaved for backward, bytes per output beyond the inputs (+ x: the input is kept too), 2x2 NCHW:"
    for row in rows:
        if row.mode == BACKWARD and (row.layout, row.window, row.dtype) == ("NCHW", "2x2", "float32"):
            its = described_saving(row.saved_bytes_per_output, row.keeps_input)
            other = described_saving(row.alternative_saved_bytes_per_output, row.alternative_keeps_input)
            if its:
                yield f"  {row.benchmark:16} {its:12}" + (f" {row.alternative}: {other}" if other else "")
    beyond = [row for row in rows if row.exceeds()]
    bounded = sum(row.bound is not None for row in rows)
    yield f"\n{bounded - len(beyond)} of {bounded} cells with a bound are within it"
    for row in beyond:
        interval = f"{row.copies_low:.2f} .. {row.copies_high:.2f}"
        yield f"  {row.where()} {row.copies:.2f} copies ({interval}), bound {row.bound:g}"
    compared = [row for row in rows if row.copies is not None and row.ratio]
    if not compared:
        return
    for column, ratio in RATIOS.items():
        ratios: list[float] = [value for row in compared if (value := getattr(row, ratio))]
        mean = geometric_mean(ratios)
        yield f"\ntime over the best {column} program's, geometric mean of {len(ratios)} cells: {mean:.3f}"
    slower = [row for row in compared if row.ratio and row.ratio > 1]
    surely = sum(row.ratio_low is not None and row.ratio_low > 1 for row in slower)
    yield f"slower than the best alternative in {len(slower)} cells, in {surely} of them by more than rounds differ"
    for row in slower:
        yield f"  {row.where()} {row.ratio:.2f} ({row.ratio_low:.2f} .. {row.ratio_high:.2f}) of {row.alternative}"


def described_call(row: Row) -> str:
    cold, theirs = (1000 * (t or 0) for t in (row.cold_milliseconds, row.alternative_cold_milliseconds))
    return f"{1000 * row.milliseconds:.1f} us, {cold:.0f} beside {theirs:.0f} with empty caches"


def described_saving(per_output: float | None, keeps_input: bool | None) -> str:
    return "" if per_output is None else f"{per_output:.2f}{' + x' if keeps_input else ''}"


def forms_of(operator: str) -> list[str]:
    """The benchmarks of a registered operator: lp has lp2 and lp3."""
    return [name for name, subject in SUBJECTS.items() if subject.operator == operator]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser("python -m benchmarks.operators", usage="%(prog)s [options]", description=about)
    parser.add_argument("--operators", metavar="NAME,...", help="all by default")
    parser.add_argument("--rounds", type=int, default=11, help="rounds of each cell, of which the median counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=list(SHAPES), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", help="NxCxHxW, H and W even; 32x64x56x56, on a GPU 64x64x112x112, by default")
    parser.add_argument("--quick", action="store_true", help="no alternatives under torch.compile")
    parser.add_argument("--no-alternatives", action="store_true", help="native operators and copies only")
    parser.add_argument("--plugins", nargs="+", metavar="FILE", default=[], help="operators of your own, timed too")
    tables.add_output(parser)
    options = parser.parse_args(arguments)
    pooling.plugins.load(options.plugins)
    add_plugins()
    names = options.operators.split(",") if options.operators else list(SUBJECTS)
    forms = {name: [name] if name in SUBJECTS else forms_of(name) for name in names}
    unknown = [name for name in names if not forms[name]]
    if unknown:
        parser.error(f"--operators: there is no {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    options.operators = [form for name in names for form in forms[name]]
    options.shape = options.shape or "x".join(map(str, SHAPES[options.device]))
    sides = options.shape.split("x")
    if len(sides) != 4 or not all(side.isdigit() and int(side) for side in sides) or any(int(s) % 2 for s in sides[2:]):
        parser.error(f"--shape must be NxCxHxW with even H and W, as in 32x64x56x56, got {options.shape}")
    options.shape = tuple(map(int, sides))
    if options.rounds < 1 or options.threads < 1:
        parser.error(f"--rounds and --threads must be at least 1, got {options.rounds} and {options.threads}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no CUDA device here; use --device cpu")
    if options.device not in native.LOADED.variants:
        reason = native.LOADED.missing.get(options.device, "python -m pooling.kernels.build builds them")
        parser.error(f"no native operators for {options.device}: {reason}")
    tables.make_output(parser, options.output)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    benchmark = Benchmark(options.device, options.rounds, not options.no_alternatives, not options.quick)
    file = options.output / f"operators-{environment_name(options.device)}.csv"
    rows: list[Row] = []
    small_rows: dict[str, list[Row]] = {}
    start = time.monotonic()
    for name in options.operators:
        if name in PROGRAMS and SUBJECTS[name].operator not in NATIVE_OPERATORS | {"weighted_mean"}:
            benchmark.notes.append(f"{name}: has no native operator, plain PyTorch was measured")
        cells: list[Row] = []
        for dtype in DTYPES[options.device]:
            for layout in LAYOUTS:
                for window in WINDOWS:
                    for mode in (FORWARD, BACKWARD):
                        x = torch.randn(options.shape, dtype=dtype, device=options.device)
                        cells.append(benchmark.measure(Case(name, window, layout, mode, x)))
                        print(f"{time.monotonic() - start:5.0f} s  {described_row(cells[-1])}", flush=True)
        small_rows[name] = [benchmark.measure_small(name, mode) for mode in (FORWARD, BACKWARD)]
        tables.keep([astuple(row) for row in (*cells, *small_rows[name])], COLUMNS, file)
        rows += cells
    print(f"\na call on {'x'.join(map(str, SMALL))}, 2x2, as a multiple of torch.nn.functional.max_pool2d:")
    for name, small in small_rows.items():
        calls = [f"{row.mode} {row.ratio:5.2f} ({described_call(row)})" for row in small]
        print(f"  {name:16} {'   '.join(calls)}")
        rows += small
    print("\n".join(summary(rows)))
    other = "cpu" if options.device == "cuda" else "cuda"
    benchmark.notes.append(f"{other}: not measured" + ("" if torch.cuda.is_available() else " (no CUDA device here)"))
    if not benchmark.alternatives:
        benchmark.notes.append("alternatives: not measured (--no-alternatives)")
    elif not benchmark.compiled:
        benchmark.notes.append("alternatives under torch.compile: not measured (--quick)")
    print("\n" + "\n".join(benchmark.notes))
    print(f"written to {file}")


if __name__ == "__main__":
    main()
