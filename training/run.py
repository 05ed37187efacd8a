"""A run: from plain settings to a folder with checkpoints, logs, TensorBoard events and results.json."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datamodules.module import ImageData
from evaluation.cam_measure import STRIPS
from evaluation.efficiency import flops, parameters
from evaluation.pictures import draw
from evaluation.run import Evaluation, Progress, check_evaluation, evaluate, predictor, write_json
from pooling import plugins
from training import checkpoints, pictures
from training.build import build_data, build_net
from training.callbacks import RunClock, RunLogger
from training.folder import RunLog, keep_earlier, labels, new_folder, versions, write_config
from training.loop import Interrupted, fit, make_trainer, to_go_on_from
from training.seeding import seed_all
from training.settings import check_settings
from training.tasks import TASKS

log = logging.getLogger(__name__)

# For several devices Lightning starts the command again, once for each further process; those use the first's folder.
FOLDER = "POOLZOO_RUN_FOLDER"

# Its notes on hardware and its advertisements are not this project's.
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)


def train(config: dict[str, Any], progress: Progress | None = None) -> tuple[Path, dict[str, Any]]:
    """Train, evaluate the best checkpoint on the test split, and write everything into a run folder.

    Args:
        config: the resolved settings of conf/train.yaml: data, model, pooling, head, optimizer, scheduler, trainer,
            evaluation (each a dictionary), seed, label_smoothing, runs, resume (a folder to go on in, or None) and
            plugins (files with operators).
        progress: called with (images seen, images in all) during the evaluation at the end.

    Returns:
        the folder, and the content of results.json.

    Raises:
        ValueError, TypeError, OSError: wrong settings, or a folder that cannot be written.
        LossNotFinite: the loss became NaN. Interrupted: Ctrl-C. Either leaves the checkpoints of the last good epoch.
    """
    check_settings(config)
    config = config | {"plugins": plugins.load(config.get("plugins") or ())}
    with RunLog() as run_log:
        data = build_data(config["data"], config["seed"])
        seed_all(config["seed"])
        weights = None if config["resume"] else config["model"].get("weights")
        net = build_net(config["model"], config["pooling"], config["head"], data, weights=weights)
        check_evaluation(data.task, **config["evaluation"])
        if FOLDER in os.environ:
            _run(config, data, net, Path(os.environ[FOLDER]), progress)
            raise AssertionError("a further process ends where training does")
        folder = Path(config["resume"]) if config["resume"] else new_folder(config)
        run_log.open(folder / "train.log")
        write_config(folder, config)
        log.info("run folder: %s", folder)
        os.environ[FOLDER] = str(folder.absolute())
        try:
            results = _run(config, data, net, folder, progress)
        except KeyboardInterrupt:
            last = folder / "checkpoints" / "last.ckpt"
            kept = f"kept {last}; go on with: python train.py resume={folder}" if last.exists() else "no epoch finished"
            raise Interrupted(kept) from None
        finally:
            del os.environ[FOLDER]
    return folder, results


def _run(
    config: dict[str, Any], data: ImageData, net: nn.Module, folder: Path, progress: Progress | None
) -> dict[str, Any]:
    """Train, unless that has been done already, evaluate, and write the results."""
    task = TASKS[data.task](
        net, data.num_classes, config["optimizer"], config["scheduler"], config["label_smoothing"], config["seed"]
    )
    clock, logger = RunClock(), RunLogger(folder)
    trainer = make_trainer(config, task, data, folder, logger, clock)
    max_epochs = config["trainer"]["max_epochs"]
    saved = to_go_on_from(folder, task, max_epochs) if config["resume"] else None
    if saved is not None and saved["epoch"] + 1 >= max_epochs:
        clock.load_state_dict(saved["callbacks"]["RunClock"])  # stopped in the evaluation
    else:
        fit(trainer, task, data, folder / "checkpoints" / "last.ckpt" if config["resume"] else None)

    best = folder / "checkpoints" / "best.ckpt"
    checkpoints.load_weights(net, checkpoints.read(best)["state_dict"], best)
    net.to(trainer.strategy.root_device)
    log.info("evaluating %s on the test split", best)
    evaluation = evaluate(net, data, **config["evaluation"], progress=progress)
    for name, reason in evaluation.failures.items():
        log.warning("not evaluated: %s: %s", name, reason)
    image = torch.zeros(1, data.in_channels, data.image_size, data.image_size, device=trainer.strategy.root_device)
    last = checkpoints.read(folder / "checkpoints" / "last.ckpt")
    results = {name: figure["value"] for name, figure in evaluation.figures.items()} | {
        "parameters": parameters(net),
        "flops": flops(net, image),
        "train_images_per_second": clock.images_per_second,
        "seconds": clock.seconds,
        "epochs": last["epoch"] + 1,
        "seed": config["seed"],
        **labels(config),
        "versions": versions(),
    }
    log_final(logger, net, data, last["global_step"], config, results)
    if data.task != "detection":
        log_pictures(logger, net, data, last["global_step"], evaluation)
    keep_earlier(folder / "results.json")
    write_json(folder / "results.json", results)
    return results


def log_final(
    logger: RunLogger, net: nn.Module, data: ImageData, step: int, config: dict[str, Any], results: dict[str, Any]
) -> None:
    """The final figures, the choices behind them and a few predictions, for TensorBoard."""
    leading = ("accuracy", "mean_iou", "map", "map_50", "consistency", "consistency_circular", "shift_equivariance")
    names = [*(name for name in leading if name in results), *(name for name in results if name not in leading)]
    numbers = {f"final/{name}": results[name] for name in names if isinstance(results[name], (int, float))}
    # TensorBoard shows the first five choices in the order of their names, and the first figures in this order.
    choices = {name: results[name] for name in ("data", "head", "model", "pooling", "seed")} | {
        "training/batch_size": config["data"]["batch_size"],
        "training/epochs": results["epochs"],
        "training/lr": config["optimizer"]["lr"],
        "training/optimizer": config["optimizer"]["name"],
    }
    for name in ("final/seed", "final/epochs"):
        numbers.pop(name)
    logger.log_hyperparams(choices, numbers)
    images, targets, _ = next(data.evaluation_batches("test", 8))
    with torch.no_grad():
        predicted: Any = predictor(net, data)(images)
    if data.task == "detection":
        logger.experiment.add_images("predictions", pictures.detections(images, predicted, data.class_names), step)
        logger.experiment.flush()
        return
    probabilities = predicted.softmax(dim=1).cpu()
    if data.task == "classification":
        figure = pictures.predictions(images, probabilities, targets, data.class_names)
    else:
        figure = pictures.segmentations(images, probabilities.argmax(dim=1), targets, data.class_names)
    logger.experiment.add_figure("predictions", figure, global_step=step)
    logger.experiment.flush()


def log_pictures(logger: RunLogger, net: nn.Module, data: ImageData, step: int, evaluation: Evaluation) -> None:
    """Shift heatmap, curves, bars around the sites and CAM strips, for TensorBoard; the latter two of a few images."""
    layers, cam = {"limit": 24, "repeats": 1}, {"limit": STRIPS, "steps": 1}
    shown = evaluate(net, data, protocols=[], also=("layers", "cam"), limit=24, layers=layers, cam=cam)
    shown.details = evaluation.details
    for name, figure in draw(shown, data.class_names).items():
        logger.experiment.add_figure(f"shifts/{name}", figure, global_step=step)
    logger.experiment.flush()
