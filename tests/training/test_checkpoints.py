"""Checkpoints are data: damaged, foreign and booby-trapped files are refused, each in one line."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

import models
from training import checkpoints


class Trap:
    """Unpickling this would make the file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return (Path.touch, (self.proof,))


def test_a_checkpoint_that_carries_code_is_refused_and_the_code_never_run(tmp_path, run, train):
    proof = tmp_path / "executed"
    file = tmp_path / "trap.ckpt"
    torch.save({"state_dict": {}, "config": {}, "trap": Trap(proof)}, file)
    with pytest.raises(ValueError, match=r"refused .* holds code or objects"):
        checkpoints.read(file)
    assert run("eval", f"checkpoint={file}").code == 1
    folder = train()
    (folder / "checkpoints" / "last.ckpt").write_bytes(file.read_bytes())
    assert "holds code or objects" in run("train", f"resume={folder}", "trainer.max_epochs=4").err
    assert not proof.exists()


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "pickle", "flipped"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    file = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"net.a": torch.zeros(1000)}, "config": {}}, file)
    whole = file.read_bytes()
    spoiled = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "text": b"not a checkpoint",
        "pickle": pickle.dumps({"a": 1}),
        "flipped": whole.replace(b"PK", b"KP"),
    }[damage]
    file.write_bytes(spoiled)
    with pytest.raises(ValueError, match=r"damaged or no checkpoint|is not a checkpoint"):
        checkpoints.read(file)


def test_a_file_of_another_program_and_a_missing_file_are_named(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match="lacks a state_dict or a config"):
        checkpoints.read(file)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        checkpoints.read(tmp_path / "none.ckpt")


def test_weights_of_another_architecture_are_refused_with_the_first_keys():
    net = models.create("resnet20", in_channels=1)
    other = models.create("lenet5", in_channels=1).state_dict()
    with pytest.raises(ValueError, match=r"another architecture: missing .*and \d+ more"):
        checkpoints.load_weights(net, {f"net.{key}": value for key, value in other.items()}, Path("x.ckpt"))
    wide = models.create("resnet20", in_channels=3).state_dict()
    with pytest.raises(ValueError, match=r"conv1.weight is \(16, 3, 3, 3\), not \(16, 1, 3, 3\)"):
        checkpoints.load_weights(net, {f"net.{key}": value for key, value in wide.items()}, Path("x.ckpt"))


def test_a_checkpoint_of_ours_is_a_plain_zip_of_tensors(train):
    folder = train()
    file = folder / "checkpoints" / "best.ckpt"
    assert zipfile.is_zipfile(file)
    content = checkpoints.read(file)
    assert content["config"]["model"]["name"] == "lenet5"
