"""The commands as a user meets them: wrong input in one line with the fix, sweeps that go on, nothing overwritten."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conf.command import quoted_path
from conf.store import field_type
from tests.commands import QUICK

ROOT = Path(__file__).parents[2]

WRONG = [
    (("pooling=stochastc",), "did you mean 'stochastic'?"),
    (("model=resnet2O",), "did you mean"),
    (("data=mnits",), "did you mean 'mnist'?"),
    (("head=gpp",), "did you mean"),
    (("optimizer=adam",), "did you mean 'adamw'?"),
    (("scheduler=cosin",), "did you mean 'cosine'?"),
    (("experiment=fashion_quik",), "did you mean 'fashion_quick'?"),
    (("pooling=blur", "pooling.fliter=3"), "did you mean 'pooling.filter'"),
    (("trainer.max_epoch=3",), "did you mean 'trainer.max_epochs'"),
    (("pooling=blur", "pooling.filter=9"), "filter must be an integer >= 2 and <= 7, got 9"),
    (("pooling=blur", "pooling.filter=abc"), "pooling.filter: 'abc' is not of type Integer"),
    (("pooling=soft", "pooling.beta=-1"), "beta must be a number > 0, got -1"),
    (("pooling=mixed", "pooling.a=2"), "a must be a number >= 0 and <= 1 or 'learned' or 'random', got 2"),
    (("pooling=blur", "pooling.sites=conv"), "its sites: pool1 (avg), pool2 (avg)"),
    (("pooling=blur", "pooling.sites=[pool7]"), "did you mean 'pool"),
    (("model=unet",), "take model= one of alexnet"),
    (("model=lenet5", "data=digit_scenes"), "take model= one of deeplabv3, unet"),
    (("model=unet", "data=digit_scenes", "head=gap"), "takes no head"),
    (("head=gem", "head.p=-1"), "p must be a number > 0, got -1"),
    (("head=map", "head.heads=5"), "heads must be a divisor of the"),
    (("model=unet", "data=digit_scenes", "model.up=aps_up"), "take pooling=aps at every site"),
    (("model=unet", "data=digit_scenes", "model.context=asp"), "did you mean 'aspp'?"),
    (("pooling=adaptive_max",), "there is none"),
    (("model.activation=gelu",), "activation must be 'tanh' or 'relu', got 'gelu'"),
    (("optimizer.lr=0",), "lr must be a number > 0"),
    (("trainer.max_epochs=0",), "trainer.max_epochs must be an integer >= 1, got 0"),
    (("label_smoothing=1.5",), "label_smoothing must be in [0, 1), got 1.5"),
    (("seed=-1",), "seed must be an integer >= 0, got -1"),
    (("data=image_folder",), "data.root must be given: data.root=VALUE"),
    (("data=image_folder", "data.root=/no/such/folder"), "there is no folder /no/such/folder"),
    (("resume=/no/such/run",), "there is no run folder '/no/such/run'"),
    (("evaluation.protocols=[crpo]",), "did you mean 'crop'?"),
    (("evaluation.batch_size=0",), "evaluation.batch_size must be an integer >= 1, got 0"),
    (("evaluation.crop.repeats=0",), "repeats must be an integer >= 1, got 0"),
    (("pooling.sites=all",), "sites=all fills no site without an operator"),
    (("optimizer.name=adam",), "optimizer 'adam' is not known; did you mean 'adamw'?"),
    (("trainer.gradient_clip=-1",), "trainer.gradient_clip must be a number > 0"),
    (("trainer.precision=bf16",), "there is no trainer.precision=bf16; did you mean"),
    (("trainer.accelerator=tpu",), "accelerator=tpu is not to be had here"),
    (("+foo=1",), "there is no setting 'foo'"),
    (("model=lenet5", "data=digit_scenes", "evaluation.protocols=[crop]"), "take model= one of deeplabv3, unet"),
]


@pytest.mark.parametrize("arguments, words", WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_input_is_one_line_with_the_fix_and_makes_no_run(run, tmp_path, arguments, words):
    outcome = run("train", f"runs={tmp_path}/runs", "trainer.threads=1", *arguments)
    assert outcome.code == 1
    (line,) = outcome.err.strip().splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_flag_shows_the_stack_trace(run):
    assert "Traceback" in run("train", "pooling=stochastc", "--traceback").err


@pytest.mark.parametrize(
    "arguments, words",
    [
        ((), "give run=RUN_DIR or checkpoint=FILE"),
        (("run=a", "checkpoint=b"), "give run=RUN_DIR or checkpoint=FILE"),
        (("run=/no/such/run",), "there is no run folder '/no/such/run'"),
        (("checkpoint=/no/such/file.ckpt",), "there is no checkpoint '/no/such/file.ckpt'"),
        (("rnu=x",), "did you mean 'run'"),
    ],
)
def test_wrong_input_to_eval(run, arguments, words):
    outcome = run("eval", *arguments)
    assert outcome.code == 1
    (line,) = outcome.err.strip().splitlines()
    assert words in line


def test_a_folder_that_is_no_run_an_unreadable_config_and_a_config_of_something_else(run, tmp_path):
    assert "holds no config.yaml" in run("eval", f"run={tmp_path}").err
    (tmp_path / "config.yaml").write_text("a: [1,")
    assert "cannot read" in run("eval", f"run={tmp_path}").err
    (tmp_path / "config.yaml").write_text("a: 1")
    assert "it lacks data, head, model, pooling, seed" in run("eval", f"run={tmp_path}").err


def test_evaluation_of_a_run_is_written_beside_it_and_never_overwrites(run, train):
    folder = train()
    results = json.loads((folder / "results.json").read_text())
    assert (
        run(
            "eval",
            f"run={folder}",
            "evaluation.protocols=[crop,circular]",
            "evaluation.crop.repeats=1",
            "evaluation.circular.repeats=1",
        ).code
        == 0
    )
    written = json.loads((folder / "eval" / "test.json").read_text())
    for name in ("accuracy", "consistency", "consistency_circular"):
        assert written["figures"][name]["value"] == results[name]
        low, high = written["figures"][name]["interval"]
        assert low <= results[name] <= high
    assert written["figures"]["consistency"]["protocol"]["name"] == "crop"
    first = (folder / "eval" / "test.json").read_text()
    checkpoint = folder / "checkpoints" / "best.ckpt"
    outcome = run("eval", f"checkpoint={checkpoint}", "evaluation.protocols=[grid]", "evaluation.grid.m=1", "limit=50")
    assert outcome.code == 0
    assert "accuracy_worst_shift" in outcome.out
    assert (folder / "eval" / "test.json").read_text() == first
    assert json.loads((folder / "eval" / "test-2.json").read_text())["figures"]["accuracy_worst_shift"]["n"] == 50


def test_a_checkpoint_of_another_architecture_is_named(run, train):
    folder = train()
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("name: native\n  sites: auto", "name: conv\n  sites: auto"))
    outcome = run("eval", f"run={folder}")
    assert outcome.code == 1
    assert "is of another architecture: missing pool1.conv.weight" in outcome.err


def test_a_sweep_keeps_the_good_jobs_names_the_failed_one_and_prints_the_table(run, tmp_path):
    outcome = run(
        "train",
        "-m",
        f"runs={tmp_path}",
        *QUICK,
        "trainer.max_epochs=1",
        "pooling=max,blur",
        "seed=0,1",
        "label_smoothing=0",
    )
    assert outcome.code == 0, outcome.err
    assert len(list(tmp_path.rglob("results.json"))) == 4
    assert "blur" in outcome.out
    outcome = run(
        "train", "-m", f"runs={tmp_path}/second", *QUICK, "trainer.max_epochs=1", "pooling=soft", "pooling.beta=1,-1,2"
    )
    assert outcome.code == 1
    assert outcome.err.splitlines()[-2].startswith("failed: pooling.beta=-1: site pool1: soft: beta must be")
    assert "1 of 3 jobs failed; the others are kept" in outcome.err.splitlines()[-1]
    assert len(list((tmp_path / "second").rglob("results.json"))) == 2
    records = [json.loads(file.read_text()) for file in (tmp_path / "second" / "sweeps").rglob("job.json")]
    assert sorted(bool(record["error"]) for record in records) == [False, False, True]


def test_jobs_of_a_sweep_do_not_leak_into_one_another(run, train, tmp_path):
    """The second job of a sweep has the weights of the same job run alone."""
    alone = train("pooling=stochastic", "seed=1")
    assert run("train", "-m", f"runs={tmp_path}/sweep", *QUICK, "pooling=stochastic", "seed=0,1").code == 0
    (second,) = (tmp_path / "sweep").glob("digits/*/stochastic/s1-*")
    states = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (alone, second)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_two_runs_of_one_second_get_folders_of_their_own(train, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form, *rest: "20260101-000000")
    first, second = train("trainer.max_epochs=1"), train("trainer.max_epochs=1")
    assert (first.name, second.name) == ("s0-20260101-000000", "s0-20260101-000000-2")


@pytest.mark.parametrize("error", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_no_permission_and_no_space_for_the_run_folder(run, tmp_path, monkeypatch, error):
    mkdir = Path.mkdir

    def refuse(self, *arguments, **options):
        if "digits" in self.parts:
            raise OSError(error, os.strerror(error))
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    outcome = run("train", f"runs={tmp_path}/runs")
    assert outcome.code == 1
    assert f"cannot make a run folder in '{tmp_path}/runs/digits/lenet5/native': {os.strerror(error)}" in outcome.err
    assert "choose another with runs=DIR" in outcome.err


def test_a_full_disk_while_training_is_one_line(run, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.ckpt")

    monkeypatch.setattr("pytorch_lightning.trainer.trainer.Trainer.save_checkpoint", refuse)
    outcome = run("train", f"runs={tmp_path}/runs", *QUICK)
    assert outcome.code == 1
    assert "No space left on device" in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err


def folder_of_images(root: Path, classes: int = 2, each: int = 12) -> Path:
    generator = np.random.default_rng(0)
    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
        for number in range(each):
            size = tuple(generator.integers(20, 40, 2))
            pixels = generator.integers(100 * label, 100 + 100 * label, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"class{label}" / f"{number}.png")
    return root


def test_training_on_a_folder_of_images_of_mixed_sizes_with_a_broken_one(run, tmp_path):
    root = folder_of_images(tmp_path / "my images, 2")
    (root / "class0" / "broken.png").write_bytes(b"not a picture")
    outcome = run(
        "train",
        f"runs={tmp_path}/runs",
        *QUICK,
        "data.limit=null",
        "data=image_folder",
        f"data.root={root}",
        "data.size=32",
        "data.batch_size=4",
        "model=resnet20",
    )
    assert outcome.code == 0, outcome.err
    assert "broken.png" in outcome.err
    (log,) = (tmp_path / "runs").rglob("train.log")
    assert "broken.png" in log.read_text()
    (results,) = (tmp_path / "runs").rglob("results.json")
    assert json.loads(results.read_text())["data"] == "image_folder-my.images..2"


def test_an_empty_folder_of_images_says_what_is_expected(run, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = run("train", "data=image_folder", f"data.root={tmp_path / 'empty'}")
    assert outcome.code == 1
    assert "ROOT/train/CLASS" in outcome.err


def test_help_lists_every_registered_name(run):
    import datamodules
    import models
    import pooling

    outcome = run("train", "--help")
    assert outcome.code == 0
    for name in (*pooling.names("reducer"), *pooling.names("downsampler"), *models.names(), *datamodules.names()):
        assert name in outcome.out


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("run=a b,c=d", "run='a b,c=d'"),
        ("run='a b'", "run='a b'"),
        ("resume=null", "resume=null"),
        ("data.root=/x/it's", "data.root='/x/it\\'s'"),
        ("pooling=max,avg", "pooling=max,avg"),
    ],
)
def test_paths_need_no_quotes_of_their_own(argument, expected):
    assert quoted_path(argument) == expected


def test_types_of_options_in_the_config():
    from typing import Annotated, Literal

    assert field_type(Annotated[float, "any range"]) is float
    assert field_type(Literal["a", "b"]) is str
    assert field_type(float | Literal["learned"]) == int | float | str
    assert field_type(tuple[int, ...]) == list[int]


def test_masks_pair_by_their_path_and_binary_masks_of_0_and_255_are_explained(run, tmp_path):
    for folder in ("a", "b"):
        for kind in ("images", "masks"):
            (tmp_path / "scans" / kind / folder).mkdir(parents=True)
        for number in range(6):
            for kind, value in (("images", 10), ("masks", 255)):
                pixels = np.zeros((32, 32), dtype=np.uint8)
                pixels[: 8 if folder == "a" else 24] = value
                Image.fromarray(pixels).save(tmp_path / "scans" / kind / folder / f"{number}.png")
    arguments = [
        "data=image_folder",
        f"data.root={tmp_path / 'scans'}",
        "data.size=32",
        "model=unet",
        "model.width=4",
        "model.depth=2",
        "data.batch_size=4",
        "data.limit=null",
        "evaluation.protocols=[circular]",
    ]
    outcome = run("train", f"runs={tmp_path}/runs", *QUICK, *arguments)
    assert outcome.code == 1
    assert "a mask's pixels are class indices: write the object as 1" in outcome.err
    for file in (tmp_path / "scans" / "masks").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(file)) // 255).save(file)
    import datamodules

    split = datamodules.load("image_folder", root=str(tmp_path / "scans"), size=32).train
    assert torch.equal(split.images[:, 0] > 0, split.targets > 0)  # each image with the mask of its own folder
    assert run("train", f"runs={tmp_path}/runs", *QUICK, *arguments).code == 0


@pytest.mark.slow
def test_ctrl_c_keeps_the_last_checkpoint_and_exits_with_130(tmp_path):
    """A real process and a real signal."""
    import signal
    import time

    command = [sys.executable, str(ROOT / "train.py"), f"runs={tmp_path}", *QUICK, "trainer.max_epochs=5000"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        # A shell starts background jobs with SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 240
        while not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "go on with: python train.py resume=" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    (last,) = tmp_path.rglob("last.ckpt")
    assert torch.load(last, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_in_a_terminal_training_and_evaluation_have_a_progress_bar(tmp_path):
    import pty

    controller, terminal = pty.openpty()
    command = [sys.executable, str(ROOT / "train.py"), f"runs={tmp_path}", *QUICK]
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, stdin=terminal, cwd=tmp_path)
    os.close(terminal)
    seen = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # the terminal has closed
            break
        if not part:
            break
        seen += part
    os.close(controller)
    text = seen.decode(errors="replace")
    assert process.wait() == 0, text[-2000:]
    assert "train/loss" in text
    assert "val/accuracy" in text
    assert "evaluating" in text
    assert "TensorBoard:" in text


@pytest.mark.slow
def test_two_processes_share_one_run_folder(tmp_path):
    command = [sys.executable, str(ROOT / "train.py"), f"runs={tmp_path}", *QUICK]
    command += ["trainer.devices=2", "trainer.accelerator=cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (results,) = tmp_path.rglob("results.json")
    assert len(list(tmp_path.rglob("config.yaml"))) == 1
    assert json.loads(results.read_text())["epochs"] == 2
    assert len((results.parent / "metrics.csv").read_text().splitlines()) == 3
    assert done.stdout.count("TensorBoard:") == 1


@pytest.mark.slow
def test_the_commands_run_as_scripts_from_any_folder(tmp_path):
    """As the README writes them; results are below the folder that the user stands in."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def call(script: str, *arguments: str) -> str:
        command = [sys.executable, str(ROOT / script), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    out = call("train.py", *QUICK, "trainer.max_epochs=1")
    assert "tensorboard --logdir runs" in out
    (folder,) = (tmp_path / "runs").glob("digits/lenet5/native/s0-*")
    assert "consistency" in call("eval.py", f"run={folder}", "evaluation.protocols=[crop]", "evaluation.crop.repeats=1")
    assert "lenet5" in call("compare.py", "runs", "--csv", "table.csv", "--plot", "plot.png")
    assert (tmp_path / "table.csv").exists()
    assert (tmp_path / "plot.png").stat().st_size > 1000
    shutil.rmtree(tmp_path / "runs")


@pytest.mark.parametrize("file", sorted((ROOT / "conf" / "experiment").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_experiment_composes_and_says_how_to_run_it_and_what_to_expect(run, file):
    outcome = run("train", f"experiment={file.stem}", "--cfg", "job")
    assert outcome.code == 0, outcome.err
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert any(f"experiment={file.stem}" in line for line in header)
    assert any("Expected:" in line for line in header)
