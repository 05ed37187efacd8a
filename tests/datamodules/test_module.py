"""The data module: splits, the order of batches, exact resume with a real trainer."""

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import datamodules
from datamodules import Split
from datamodules.augment import augment
from datamodules.dataset import stratified
from datamodules.loader import Batches
from datamodules.transforms import normalise

# Lightning 2.6.6 asks newer versions of torch for a class that these deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")


def numbers(N, C=1):
    """N images, each filled with its own number."""
    images = torch.arange(N, dtype=torch.uint8).view(N, 1, 1, 1).expand(N, C, 4, 4).contiguous()
    return Split(images, torch.arange(N) % 3)


def seen(batches):
    return [images[:, 0, 0, 0].tolist() for images, _ in batches]


def flat(batches):
    return [number for batch in seen(batches) for number in batch]


# Splits


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.data())
def test_a_stratified_cut_uses_each_index_once_and_keeps_proportions(labels, data):
    targets = torch.tensor(labels)
    first = data.draw(st.integers(0, len(labels)))
    parts = stratified(targets, (first, len(labels) - first))
    assert [len(part) for part in parts] == [first, len(labels) - first]
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))
    for label in set(labels):
        share = labels.count(label) * first / len(labels)
        assert abs(int((targets[parts[0]] == label).sum()) - share) <= 1


def test_splits_do_not_depend_on_the_seed():
    modules = [datamodules.create("digits", seed=seed) for seed in (0, 1)]
    for part in ("train", "val", "test"):
        assert torch.equal(*(module.parts[part][1] for module in modules))
    assert not torch.equal(*(next(iter(module.train_dataloader()))[0] for module in modules))


def test_validation_is_cut_off_the_training_images_by_class():
    module = datamodules.create("digits")
    assert module.sizes == {"train": 1068, "val": 189, "test": 540}
    assert module.split("val").targets.bincount().tolist() == pytest.approx([18.9] * 10, abs=1)
    images = {part: {i.numpy().tobytes() for i in module.split(part).images} for part in module.sizes}
    assert not images["train"] & images["val"] | images["train"] & images["test"] | images["val"] & images["test"]


def test_limit_keeps_classes_in_proportion_and_the_other_splits_whole():
    module = datamodules.create("digits", limit=100)
    assert module.sizes == {"train": 100, "val": 189, "test": 540}
    assert module.split("train").targets.bincount().tolist() == pytest.approx([10] * 10, abs=1)
    assert set(module.parts["train"][1].tolist()) <= set(datamodules.create("digits").parts["train"][1].tolist())


def test_facts_are_there_without_setup():
    module = datamodules.create("digits")
    assert (module.num_classes, module.in_channels, module.image_size) == (10, 1, 32)
    assert (module.task, module.class_names) == ("classification", tuple("0123456789"))
    assert len(module.mean) == len(module.std) == 1


def test_masks_and_boxes_are_within_reach():
    split = datamodules.create("digit_scenes", scenes=20).split("test")
    assert (tuple(split.masks.shape), tuple(split.boxes.shape)) == ((5, 64, 64), (5, 3, 4))


def test_options_build_the_same_module_again():
    module = datamodules.create("digit_scenes", scenes=20, seed=3)
    assert datamodules.create("digit_scenes", **module.options()).options() == module.options()
    assert module.options()["scenes"] == 20


def test_a_crop_larger_than_the_image_allows_is_refused():
    module = datamodules.create("digits", random_crop=17)
    with pytest.raises(ValueError, match="random_crop must be at most half of the image's 32 pixels, got 17"):
        module.setup()


# Order


def test_order_is_a_function_of_seed_and_epoch():
    def run(seed, epoch):
        batches = Batches(numbers(50), torch.arange(50), 8, training=True, seed=seed)
        batches.set_epoch(epoch)
        return flat(batches)

    assert run(0, 0) == run(0, 0)
    assert len({tuple(run(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert sorted(run(0, 0)) == list(range(50))
    # Seed and epoch are not added up: neighbouring runs share no orders.
    assert run(0, 1) != run(1, 0)


def test_evaluation_keeps_the_order():
    assert flat(Batches(numbers(50), torch.arange(10, 40), 8)) == list(range(10, 40))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.booleans())
def test_processes_share_each_epoch(N, batch_size, processes, training):
    shares = [
        Batches(numbers(N), torch.arange(N), batch_size, training=training, process=process, processes=processes)
        for process in range(processes)
    ]
    runs = [seen(share) for share in shares]
    assert [len(run) for run in runs] == [len(share) for share in shares]
    everything = [number for run in runs for batch in run for number in batch]
    if training:
        # As many steps of the same sizes everywhere, and none of a single image unless it is the only one.
        assert len({tuple(map(len, run)) for run in runs}) == 1
        assert all(len(batch) > 1 for batch in runs[0]) or batch_size == 1 or len(runs[0]) == 1
        assert len(everything) - len(set(everything)) < processes
    else:
        assert sorted(everything) == list(range(N))


def test_a_last_batch_of_one_image_is_left_out_in_training_only():
    assert [len(b) for b in seen(Batches(numbers(9), torch.arange(9), 4, training=True))] == [4, 4]
    assert [len(b) for b in seen(Batches(numbers(10), torch.arange(10), 4, training=True))] == [4, 4, 2]
    assert [len(b) for b in seen(Batches(numbers(9), torch.arange(9), 4))] == [4, 4, 1]


def test_a_saved_position_goes_on_where_it_was():
    batches = Batches(numbers(20), torch.arange(20), 4, training=True)
    whole = seen(batches)
    iterator = iter(batches)
    next(iterator), next(iterator)
    other = Batches(numbers(20), torch.arange(20), 4, training=True)
    other.load_state_dict(batches.state_dict())
    assert seen(other) == whole[2:]
    assert seen(other) == whole  # once only


def test_evaluation_batches_number_their_images():
    module = datamodules.create("digits")
    split = module.split("val")
    for images, targets, index in module.evaluation_batches("val", 50):
        assert images.dtype == torch.uint8
        assert torch.equal(images, split.images[index])
        assert torch.equal(targets, split.targets[index])


# With a trainer


class Recorder(pl.LightningModule):
    """Keeps the batches it is given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.batches = {}
        self.validation = []

    def training_step(self, batch, batch_idx):
        self.batches[self.current_epoch, batch_idx] = [part.clone() for part in batch]
        return self.weight.sum() + batch[0].mean() * 0

    def validation_step(self, batch, batch_idx):
        self.validation.append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(module, folder, epochs=2, resume=None, **checkpoints):
    recorder = Recorder()
    keep = pl.callbacks.ModelCheckpoint(folder, filename="{epoch}-{step}", save_top_k=-1, **checkpoints)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        callbacks=[keep],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(recorder, datamodule=module, ckpt_path=resume)
    return recorder


def scenes(**options):
    return datamodules.create("digit_scenes", scenes=44, batch_size=8, random_crop=3, random_flip=True, **options)


def test_training_batches_are_augmented_by_seed_epoch_and_position(tmp_path):
    module = scenes(seed=5)
    recorder = fit(module, tmp_path)
    split, indices = module.parts["train"]
    for epoch in (0, 1):
        batches = Batches(split, indices, 8, training=True, seed=5)
        batches.set_epoch(epoch)
        assert len(batches) == 5
        for position, (images, masks) in enumerate(batches):
            images, masks = augment(images, masks, key=(5, epoch, position + 1, 0), random_crop=3, random_flip=True)
            got = recorder.batches[epoch, position]
            assert torch.equal(got[0], normalise(images, module.mean, module.std))
            assert torch.equal(got[1], masks.long())


def test_validation_batches_are_normalised_only(tmp_path):
    module = scenes()
    recorder = fit(module, tmp_path)
    split = module.split("val")
    images, masks = recorder.validation[-1]
    assert torch.equal(images, normalise(split.images, module.mean, module.std))
    assert torch.equal(masks, split.targets.long())


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty:UserWarning")
@pytest.mark.parametrize(
    "checkpoints",
    [{}, {"save_on_train_epoch_end": True}, {"every_n_train_steps": 3}],
    ids=["after validation", "after training", "within an epoch"],
)
def test_a_resumed_run_sees_the_same_batches_bit_for_bit(tmp_path, checkpoints):
    whole = fit(scenes(seed=1), tmp_path, epochs=3, **checkpoints).batches
    files = sorted(tmp_path.glob("*.ckpt"), key=lambda path: int(path.stem.split("=")[-1]))
    assert len(files) >= 3
    for file in files[:-1]:
        done = int(file.stem.split("=")[-1])
        resumed = fit(scenes(seed=1), tmp_path, epochs=3, resume=str(file), **checkpoints).batches
        assert list(resumed) == list(whole)[done:]
        for key, (images, masks) in resumed.items():
            assert torch.equal(images, whole[key][0])
            assert torch.equal(masks, whole[key][1])
