"""An evaluation's files: figures as JSON, images as CSV, pictures as PNG, and one HTML page that holds all it shows."""

import base64
import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation.pictures import CAPTIONS, draw
from evaluation.run import Evaluation, unused, write_json

DPI = 110

MEANINGS = {
    "accuracy": "right on the image as it is",
    "accuracy_top5": "the true class is among the five most likely",
    "loss": "cross-entropy, in nats; less is better",
    "consistency": "two crops at random offsets get the same class (Zhang 2019)",
    "consistency_circular": "two circular shifts get the same class (Chaman & Dokmanic 2021)",
    "consistency_zero": "the image and its translate, filled with zeros, get the same class",
    "consistency_subpixel": "the image and its shift by a fraction of a pixel get the same class (Michaeli 2023)",
    "consistency_rotation": "the image and a slightly turned one get the same class",
    "consistency_scale": "the image and a slightly larger or smaller one get the same class",
    "accuracy_rotation": "right on slightly turned images",
    "accuracy_scale": "right on slightly larger and smaller images",
    "mean_probability_change": "how much the top class's probability differs between two crops; less is better",
    "accuracy_worst_shift": "right at every shift of the grid (Engstrom 2019)",
    "accuracy_mean_shift": "right at a random shift of the grid",
    "top1_change_1px": "a shift by one pixel changes the class; less is better (Azulay & Weiss 2019)",
    "flip_rate": "the class changes from one frame to the next of a moving image; less is better",
    "probability_wobble": "largest less least probability of the true class over the grid; less is better",
    "mean_iou": "mean over classes of intersection over union",
    "pixel_accuracy": "share of labelled pixels with the right class",
    "map": "average precision of the boxes, mean over classes and overlaps from 0.5 to 0.95 (Lin et al. 2014)",
    "map_50": "the same at an overlap of 0.5",
    "shift_equivariance": "pixels that keep their class under circular shifts (Rojas-Gomez 2022)",
    "shift_equivariance_zero": "pixels that keep their class under translation, where both see them",
    "local_equivariance_error": "change of the probabilities per pixel of an infinitesimal shift; less is better "
    "(Gruver 2023)",
    "cam_equivariance": "correlation of the CAM with the shifted image's, shifted back",
    "cam_equivariance_l2": "their distance, relative to the CAM; less is better",
    "cam_displacement": "how far the CAM's peak moves, in pixels; less is better",
    "deletion": "area under p while the most salient pixels go; less is better (Petsiuk 2018)",
    "insertion": "area under p while the most salient pixels come",
    "pointing_game": "the CAM's peak lies on the object",
    "energy_in_mask": "share of the CAM that lies on the object",
    "max_box_acc_30": "the CAM's box meets the object's with IoU >= 0.3 (Choe 2020)",
    "max_box_acc_50": "the same with IoU >= 0.5",
    "max_box_acc_70": "the same with IoU >= 0.7",
}

UNBOUNDED = ("loss", "local_equivariance_error", "cam_equivariance_l2", "cam_displacement")  # no share of a whole


class Written(NamedTuple):
    """Where an evaluation has been written."""

    json: Path
    csv: Path
    report: Path
    pictures: dict[str, Path]


def write(
    evaluation: Evaluation,
    folder: Path,
    name: str,
    class_names: Sequence[str],
    facts: Mapping[str, Any],
    efficiency: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Written:
    """Write all files into a folder; those of an earlier evaluation stay, and this one's get the next free number.

    Args:
        name: of the split; `test` gives test.json, test.csv, test/*.png and report.html, then test-2.json and so on.
        facts: what was evaluated and how, for the JSON and the page's head.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = unused(folder / f"{name}.json").stem
    page = "report.html" if stem == "test" else f"report-{stem.removeprefix('test-')}.html"
    written = Written(folder / f"{stem}.json", folder / f"{stem}.csv", unused(folder / page), {})
    images = {key: png(figure) for key, figure in draw(evaluation, class_names).items()}
    for key, content in images.items():
        file = folder / stem / f"{key}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        written.pictures[key] = file
    write_images(evaluation, written.csv, class_names)
    text = page_of(evaluation, images, facts, efficiency, versions)
    written.report.write_text(text, encoding="utf-8")
    content = {**facts, "figures": evaluation.figures, "efficiency": efficiency, "versions": versions}
    if evaluation.failures:
        content["failed"] = evaluation.failures
    write_json(written.json, content)  # the last: where it is, the others are
    return written


def write_images(evaluation: Evaluation, file: Path, class_names: Sequence[str]) -> None:
    """One row for each image: true and predicted class, its probability, and each figure of this image alone."""
    columns = list(evaluation.images)
    indices = sorted(set().union(*evaluation.images.values()))
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", *columns])
        for index in indices:
            cells: list[Any] = []
            for column in columns:
                value = evaluation.images[column].get(index)
                named = column in ("target", "predicted") and value is not None
                cells.append("" if value is None else class_names[int(value)] if named else f"{value:.6g}")
            writer.writerow([index, *cells])


def png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def page_of(
    evaluation: Evaluation,
    pictures: Mapping[str, bytes],
    facts: Mapping[str, Any],
    efficiency: Mapping[str, Any],
    versions: Mapping[str, str],
) -> str:
    """The page: figures, pictures, protocols, versions; nothing in it is loaded from elsewhere."""
    rows = "".join(_row(name, figure) for name, figure in evaluation.figures.items() if "/" not in name)
    failed = "".join(
        f"<p class='failed'><b>{_text(name)}</b> was not measured: {_text(reason)}</p>"
        for name, reason in evaluation.failures.items()
    )
    notes = "".join(f"<p>{_text(note)}</p>" for note in evaluation.notes)
    drawn = "".join(
        f"<figure><img alt='{key}' src='data:image/png;base64,{base64.b64encode(content).decode()}'>"
        f"<figcaption>{_text(CAPTIONS[key])}</figcaption></figure>"
        for key, content in pictures.items()
    )
    protocols = {figure["protocol"]["name"]: figure["protocol"] for figure in evaluation.figures.values()}
    protocols.pop("plain", None)
    stated = {name: _settings(protocol) for name, protocol in protocols.items()}
    title = str(facts.get("title", "evaluation"))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>
<h1>{_text(title)}</h1>
{_definitions({k: v for k, v in facts.items() if k != "title" and v is not None})}
<h2>Figures</h2>{failed}
<table><thead><tr><th>figure<th class="n">value<th class="n">95% interval<th><th class="n">images<th>protocol
<th>meaning</thead><tbody>{rows}</tbody></table>
<p class="small">Intervals are over images, for this one network. compare.py --baseline sets networks
against each other: image by image where there is one run of each, over training seeds where there are more.</p>{notes}
{"<h2>Cost</h2>" + _definitions(efficiency) if efficiency else ""}
{"<h2>Pictures</h2>" + drawn if drawn else ""}
<h2>Protocols</h2>{_definitions(stated) or "<p>plain images only</p>"}
<h2>Versions</h2>{_definitions(versions)}
</body></html>
"""


def _row(name: str, figure: Mapping[str, Any]) -> str:
    value, (low, high) = figure["value"], figure["interval"]
    number = "-" if value is None else f"{value:.4f}"
    bounds, bar = "", ""
    if low is not None and high is not None and value is not None:
        bounds = f"{low:.4f} .. {high:.4f}"
        if low >= 0 and high <= 1 and name not in UNBOUNDED:
            bar = (
                f"<span class='bar'><i style='left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%'></i>"
                f"<b style='left:{100 * value:.2f}%'></b></span>"
            )
    return (
        f"<tr><td>{_text(name)}<td class='n'>{number}<td class='n'>{bounds}<td>{bar}<td class='n'>{figure['n']}"
        f"<td>{_text(figure['protocol']['name'])}<td>{_text(MEANINGS.get(name, ''))}"
    )


def _settings(protocol: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in protocol.items() if key != "name")


def _definitions(pairs: Mapping[str, Any]) -> str:
    items = "".join(f"<dt>{_text(key)}<dd>{_text(_number(value))}" for key, value in pairs.items())
    return f"<dl>{items}</dl>" if items else ""


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value))


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; max-width: 1080px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600 }
td, th { padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #eee; vertical-align: top }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem } dt { color: #666 }
dd { margin: 0; overflow-wrap: anywhere }
.bar { position: relative; display: inline-block; width: 110px; height: .55rem; background: #eee; border-radius: 3px }
.bar i { position: absolute; top: 0; bottom: 0; background: #8ab4d8; border-radius: 3px; min-width: 2px }
.bar b { position: absolute; top: -2px; bottom: -2px; width: 2px; background: #134a7c }
figure { margin: 1.4rem 0 } img { max-width: 100% } figcaption, .small { color: #555; font-size: .88rem }
.failed { color: #a11; background: #fdf0f0; padding: .5rem .8rem }
"""
