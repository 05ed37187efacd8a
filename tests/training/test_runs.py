"""What a run leaves in its folder, and that it can be had again from there, bit for bit."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.commands import QUICK

CONTRACT = set(
    "accuracy accuracy_top5 loss consistency consistency_circular mean_probability_change parameters flops "
    "train_images_per_second seconds epochs seed model pooling head data versions".split()
)


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return {key: value for key, value in state["state_dict"].items() if key.startswith("net.")}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_the_folder_of_a_run_holds_what_the_contract_says(train, tmp_path):
    folder = train("pooling=blur", "pooling.filter=4", "seed=3")
    assert folder.relative_to(tmp_path).parts[:3] == ("digits", "lenet5", "blur-filter_4")
    assert folder.name.startswith("s3-")
    results = json.loads((folder / "results.json").read_text())
    assert results.keys() >= CONTRACT
    assert (results["seed"], results["epochs"], results["pooling"]) == (3, 2, "blur-filter_4")
    assert 0 <= results["consistency"] <= 1
    assert yaml.safe_load((folder / "config.yaml").read_text())["pooling"]["filter"] == 4
    assert "run folder" in (folder / "train.log").read_text()
    rows = table(folder)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr"} <= rows[0].keys()
    assert {file.name for file in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_tensorboard_has_scalars_hparams_predictions_and_the_maps_around_each_site(train):
    folder = train("pooling=stochastic")
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    tags = events.Tags()
    assert {"train/loss", "train/accuracy", "val/accuracy", "lr", "final/accuracy"} <= set(tags["scalars"])
    assert {"sites/pool1", "sites/pool2", "predictions", "shifts/cams", "shifts/sites"} <= set(tags["images"])
    consistency = events.Scalars("val/consistency")
    assert [event.step for event in consistency] == [0, 3, 7]  # before training, and after each epoch of 4 steps
    assert len(events.Images("sites/pool1")) == 2  # before training and after it
    plugin = events.PluginTagToContent("hparams")
    assert any("session_start_info" in tag for tag in plugin)
    accuracy = json.loads((folder / "results.json").read_text())["accuracy"]
    assert events.Scalars("final/accuracy")[-1].value == pytest.approx(accuracy)


def test_a_seed_repeats_a_run_bit_for_bit_and_another_does_not(train):
    first, again, other = (train("pooling=stochastic", f"seed={seed}") for seed in (5, 5, 6))
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))
    figures = [json.loads((folder / "results.json").read_text()) for folder in (first, again)]
    for name in ("accuracy", "loss", "consistency", "consistency_circular"):
        assert figures[0][name] == figures[1][name]


def test_watching_consistency_changes_nothing_and_its_first_value_is_the_untrained_networks(
    train, run, tmp_path, monkeypatch
):
    import training.loop
    from training.stability import StabilityLog

    class Unwatched(StabilityLog):
        def on_train_start(self, trainer, pl_module):
            pass

        def on_validation_epoch_end(self, trainer, pl_module):
            pass

    folder = train("pooling=stochastic", "data.random_crop=2")
    rows = table(folder)
    assert all(0 <= float(row["val/consistency"]) <= 1 for row in rows)
    with monkeypatch.context() as patch:
        patch.setattr(training.loop, "StabilityLog", Unwatched)
        unwatched = train("pooling=stochastic", "data.random_crop=2")
    assert same(weights(unwatched), weights(folder))
    assert "val/consistency" not in table(unwatched)[0]

    from evaluation.run import evaluate
    from training.build import build_data, build_net
    from training.seeding import seed_all

    config = yaml.safe_load((folder / "config.yaml").read_text())
    data = build_data(config["data"], config["seed"])
    seed_all(config["seed"])
    net = build_net(config["model"], config["pooling"], config["head"], data)
    few = evaluate(net, data, protocols=["crop"], crop={"repeats": 1}, split="val", limit=128)
    events = EventAccumulator(str(folder)).Reload()
    assert events.Scalars("val/consistency")[0].value == pytest.approx(few.figures["consistency"]["value"])


@pytest.mark.parametrize("stop", ["after an epoch", "within an epoch"])
def test_a_resumed_run_has_the_weights_of_one_that_never_stopped(train, run, tmp_path, monkeypatch, stop):
    """Random operators, dropout of order, augmentation, momentum and schedule included."""
    from training.tasks import ImageTask

    arguments = ("pooling=stochastic", "data.random_crop=2", "trainer.max_epochs=3")
    whole = train(*arguments)
    at = 4 if stop == "after an epoch" else 6  # 200 images are 4 batches
    step = ImageTask.training_step

    def interrupted(self, batch, batch_idx):
        if self.global_step == at:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(ImageTask, "training_step", interrupted)
    outcome = run("train", f"runs={tmp_path / 'stopped'}", *QUICK, *arguments)
    assert outcome.code == 130
    assert "go on with: python train.py resume=" in outcome.err
    assert "Traceback" not in outcome.err
    monkeypatch.setattr(ImageTask, "training_step", step)
    (folder,) = (tmp_path / "stopped").glob("*/*/*/s*")
    assert not (folder / "results.json").exists()
    assert run("train", f"resume={folder}").code == 0
    assert same(weights(folder), weights(whole))
    assert same(weights(folder, "best"), weights(whole, "best"))
    assert [row["epoch"] for row in table(folder)] == ["0", "1", "2"]
    assert (folder / "results.json").exists()


def test_a_finished_run_goes_on_only_with_more_epochs_and_keeps_its_earlier_results(train, run):
    folder = train()
    before = (folder / "results.json").read_text()
    outcome = run("train", f"resume={folder}")
    assert outcome.code == 1
    assert "give a larger trainer.max_epochs" in outcome.err
    assert (folder / "results.json").read_text() == before
    assert run("train", f"resume={folder}", "trainer.max_epochs=3").code == 0
    assert json.loads((folder / "results.json").read_text())["epochs"] == 3
    assert (folder / "results-earlier.json").read_text() == before
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"] == 3
    assert yaml.safe_load((folder / "config-earlier.yaml").read_text())["trainer"]["max_epochs"] == 2
    assert "a resumed run keeps its settings" in run("train", f"resume={folder}", "pooling=blur").err


def test_a_run_that_stopped_in_its_evaluation_is_only_evaluated(train, run, tmp_path, monkeypatch):
    whole = json.loads((train() / "results.json").read_text())

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("training.run.evaluate", interrupted)
        outcome = run("train", f"runs={tmp_path / 'stopped'}", *QUICK)
    assert outcome.code == 130
    assert "go on with: python train.py resume=" in outcome.err
    (folder,) = (tmp_path / "stopped").glob("*/*/*/s*")
    before = weights(folder)
    monkeypatch.setattr("pytorch_lightning.Trainer.fit", lambda *arguments, **options: pytest.fail("trained again"))
    assert run("train", f"resume={folder}").code == 0
    results = json.loads((folder / "results.json").read_text())
    assert same(weights(folder), before)
    assert (results["accuracy"], results["consistency"]) == (whole["accuracy"], whole["consistency"])
    assert results["train_images_per_second"] > 0


def test_a_segmentation_run(train):
    folder = train(
        "data=digit_scenes",
        "model=unet",
        "model.depth=2",
        "model.width=4",
        "model.context=aspp",
        "model.rates=[1,2]",
        "model.up=aps_up",
        "pooling=aps",
        "data.scenes=60",
        "evaluation.protocols=null",
    )
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["rates"] == [1, 2]
    results = json.loads((folder / "results.json").read_text())
    assert {"mean_iou", "pixel_accuracy", "shift_equivariance"} <= results.keys()
    assert "val/shift_equivariance" in table(folder)[0]
    assert 0 <= results["mean_iou"] <= 1


@pytest.mark.parametrize("scheduler", ["constant", "cosine", "step", "one_cycle"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_optimizer_with_every_schedule(train, optimizer, scheduler):
    train(
        f"optimizer={optimizer}",
        f"scheduler={scheduler}",
        "trainer.max_epochs=1",
        "label_smoothing=0.1",
        "trainer.gradient_clip=1",
        "trainer.patience=1",
        "data.random_flip=true",
        "evaluation.protocols=[circular]",
    )


def test_a_nan_loss_stops_the_run_says_where_and_keeps_the_last_good_checkpoint(run, tmp_path, monkeypatch):
    from training.tasks import ImageTask

    loss = ImageTask.loss

    def exploding(self, logits, targets):
        value = loss(self, logits, targets)
        return value * float("nan") if self.training and self.global_step >= 4 else value

    monkeypatch.setattr(ImageTask, "loss", exploding)
    outcome = run("train", f"runs={tmp_path}", *QUICK)
    assert outcome.code == 1
    assert "the loss is nan at step 4 (epoch 1)" in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    (last,) = tmp_path.rglob("last.ckpt")
    assert all(value.isfinite().all() for value in torch.load(last, weights_only=True)["state_dict"].values())
    assert not list(tmp_path.rglob("results.json"))


def test_a_nan_in_validation_saves_no_checkpoint(run, tmp_path):
    outcome = run("train", f"runs={tmp_path}", *QUICK, "optimizer.lr=1e30")
    assert outcome.code == 1
    assert "loss is nan at step" in outcome.err.splitlines()[-1]
    assert not list(tmp_path.rglob("*.ckpt"))


def test_class_255_is_a_class_like_any_other_in_classification():
    from training.tasks import Classification, Segmentation

    options = {"optimizer": {"name": "sgd"}, "scheduler": {"name": "constant"}}
    logits, targets = torch.zeros(4, 300), torch.full((4,), 255)
    expected = torch.tensor(300.0).log()
    torch.testing.assert_close(Classification(torch.nn.Identity(), 300, **options).loss(logits, targets), expected)
    half = torch.tensor([[[255, 1]]])
    loss = Segmentation(torch.nn.Identity(), 300, **options).loss(torch.zeros(1, 300, 1, 2), half)
    torch.testing.assert_close(loss, expected)  # of the labelled pixel alone


def test_the_test_split_never_chooses_a_checkpoint(train, monkeypatch):
    """A run that may not read the test images while it trains ends with the same best checkpoint."""
    from datamodules.module import ImageData

    expected = weights(train(), "best")
    read = []
    evaluation_batches = ImageData.evaluation_batches

    def recorded(self, split, batch_size=None):
        read.append((split, self.trainer is not None and self.trainer.training))
        return evaluation_batches(self, split, batch_size)

    monkeypatch.setattr(ImageData, "evaluation_batches", recorded)
    monkeypatch.setattr(ImageData, "test_dataloader", lambda self: pytest.fail("the test split was read"))
    assert same(weights(train(), "best"), expected)
    assert not any(training for split, training in read if split == "test")
