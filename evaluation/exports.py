"""A comparison as CSV, as an HTML page and as a LaTeX table.

paired: the differences from a baseline; None where nobody asked for them.
"""

import base64
import csv
import html
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluation.comparison import COUNTS, NAMES, SHOWN, Row, Stat, Summary, arrange, cell
from evaluation.paired import Difference, Paired, columns, is_better, is_clear

INTERVAL = "±: half the width of the 95% interval over seeds (Student's t)"
PARTS = ("", "_half_width")  # of a Stat, as columns; the third is its number
Format = Callable[[str, Stat | None], str]
Labelled = tuple[Row, str, dict[str, Stat]]  # a row, what its figures are over, and they themselves


def write_csv(summary: Summary, file: Path | str, sort: str | None, paired: Paired | None) -> None:
    """All figures in full, a row for each row of the table.

    `FIGURE`: the mean over seeds; `FIGURE_half_width`: half the width of its 95% interval, empty for one seed;
    `FIGURE_seeds`: how many. With a baseline: `baseline`, empty where a row has none or is it; `over`, seeds or images;
    `FIGURE_difference`, the mean over these of this row less the baseline, `FIGURE_difference_half_width`, and
    `FIGURE_difference_n`, how many.
    """
    figures = [column for column in summary.columns() if column not in (*NAMES, "seeds")]
    heads = [*NAMES, "settings", "seeds", *(f"{figure}{part}" for figure in figures for part in (*PARTS, "_seeds"))]
    differing = [figure for figure in figures if figure not in COUNTS]
    if paired is not None:
        parts = (*PARTS, "_n")
        heads += ["baseline", "over", *(f"{figure}_difference{part}" for figure in differing for part in parts)]
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(heads)
        for row in arrange(summary, sort):
            cells: list[Any] = [*(getattr(row, name) for name in NAMES), row.settings, row.seeds]
            cells += _in_full(figures, row.figures)
            if paired is not None:
                own = next((difference for difference in paired.differences if difference.row is row), None)
                cells += ["", ""] if own is None else [own.baseline, own.over]
                cells += _in_full(differing, own.figures if own else {})
            writer.writerow(cells)


def write_html(summary: Summary, file: Path | str, sort: str | None, paired: Paired | None) -> None:
    """A page that loads nothing: tables, differences from the baseline, and the scatter plot where there is one."""
    parts = ["<h1>Comparison of runs</h1>"]
    for data, rows, below in _by_data(summary, sort, paired):
        parts.append(f"<h2>{html.escape(data)}</h2>")
        parts.append(_html_table(_shown(rows), "seeds", [(r, str(r.seeds), r.figures) for r in rows], _plain))
        if below:
            parts.append(f"<h3>Difference from {html.escape(below[0].baseline)}</h3>")
            parts.append(_html_table(columns(below), "over", [(d.row, d.over, d.figures) for d in below], _coloured))
    parts += [f"<p>{html.escape(note)}</p>" for note in _notes(summary, paired)]
    if picture := _scatter(summary):
        parts.append(f"<img alt='accuracy against consistency' src='data:image/png;base64,{picture}'>")
    head = "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Comparison of runs</title>"
    page = f"{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    Path(file).write_text(page, encoding="utf-8")


def write_latex(summary: Summary, file: Path | str, sort: str | None, paired: Paired | None) -> None:
    """One `tabular` for each data set, and one for its differences; needs the package booktabs."""
    parts = ["\n".join(["% \\usepackage{booktabs}", *(f"% {note}" for note in _notes(summary, paired))])]
    for data, rows, below in _by_data(summary, sort, paired):
        table = _latex_table(_shown(rows), "seeds", [(row, str(row.seeds), row.figures) for row in rows], cell)
        parts.append(f"% {data}\n{table}")
        if below:
            table = _latex_table(columns(below), "over", [(d.row, d.over, d.figures) for d in below], signed)
            parts.append(f"% {data}, difference from {below[0].baseline}\n{table}")
    Path(file).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _by_data(
    summary: Summary, sort: str | None, paired: Paired | None
) -> Iterator[tuple[str, list[Row], list[Difference]]]:
    """For each data set and task its name, its rows and their differences."""
    rows, differences = arrange(summary, sort), paired.differences if paired else []
    for data, main in dict.fromkeys((row.data, row.main) for row in rows):
        own = [row for row in rows if (row.data, row.main) == (data, main)]
        yield data, own, [difference for difference in differences if difference.row in own]


def _notes(summary: Summary, paired: Paired | None) -> list[str]:
    interval = [INTERVAL] if any(row.seeds > 1 for row in summary.rows) else []
    return [*interval, *(paired.notes if paired else []), *summary.notes]


def signed(name: str, stat: Stat | None) -> str:
    """A difference: `+0.012 ±.008*`, the asterisk where the interval excludes 0."""
    if stat is None:
        return "-"
    return ("+" if stat.mean >= 0 else "") + cell(name, stat) + ("*" if is_clear(stat) else "")


def _in_full(figures: Sequence[str], stats: dict[str, Stat]) -> list[Any]:
    cells = (value for figure in figures for value in stats.get(figure, (None, None, 0)))
    return ["" if value is None else value for value in cells]


def _shown(rows: Sequence[Row]) -> list[str]:
    return [name for name in SHOWN if any(name in row.figures for row in rows)]


def _html_table(figures: Sequence[str], last: str, rows: Sequence[Labelled], text: Format) -> str:
    heads = ["model", "head", "pooling", last, *(SHOWN[n].replace("-\n", "").replace("\n", " ") for n in figures)]
    kinds = [""] * 4 + [" class='n'"] * len(figures)
    lines = ["<tr>" + "".join(f"<th{kind}>{html.escape(head)}" for head, kind in zip(heads, kinds, strict=True))]
    for row, number, stats in rows:
        names = (row.model, row.head, row.label, number)
        cells = [f"<td>{html.escape(name)}" for name in names] + [text(name, stats.get(name)) for name in figures]
        lines.append("<tr>" + "".join(cells))
    return f"<table>{''.join(lines)}</table>"


def _plain(name: str, stat: Stat | None) -> str:
    return f"<td class='n'>{cell(name, stat)}"


def _coloured(name: str, stat: Stat | None) -> str:
    kind = "" if stat is None or not is_clear(stat) else " better" if is_better(name, stat) else " worse"
    return f"<td class='n{kind}'>{signed(name, stat)}"


def _latex_table(figures: Sequence[str], last: str, rows: Sequence[Labelled], text: Format) -> str:
    heads = ["model", "head", "pooling", last, *(SHOWN[n].replace("-\n", "").replace("\n", " ") for n in figures)]
    lines = [" & ".join(map(_escaped, heads))]
    for row, number, stats in rows:
        names = map(_escaped, (row.model, row.head, row.label, number))
        cells = (_mathematical(text(name, stats.get(name))) for name in figures)
        lines.append(" & ".join((*names, *cells)))
    body = " \\\\\n".join(lines[1:])
    return (
        f"\\begin{{tabular}}{{lllr{'r' * len(figures)}}}\n\\toprule\n{lines[0]} \\\\\n\\midrule\n{body} \\\\\n"
        "\\bottomrule\n\\end{tabular}"
    )


def _mathematical(text: str) -> str:
    """`-0.012 ±.008*` -> `$-0.012 \\pm .008$*`; counts and gaps as they are."""
    if not any(sign in text for sign in ("±", "+")) and not text.startswith("-0"):
        return _escaped(text)
    number = text.rstrip("*").replace("±", "\\pm ")
    return f"${number}$" + ("*" if text.endswith("*") else "")


def _escaped(text: str) -> str:
    return "".join("\\" + letter if letter in "_%&#$" else letter for letter in text)


def _scatter(summary: Summary) -> str | None:
    import io

    from evaluation import scatter

    try:
        figure = scatter.draw(summary)
    except ValueError:
        return None
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=scatter.DPI)
    return base64.b64encode(buffer.getvalue()).decode()


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1080px; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
h3 { font-weight: normal; font-size: .9rem; color: #555; margin-top: 1.4rem } img { max-width: 100% }
table { border-collapse: collapse } th { text-align: left; font-weight: 600 }
td, th { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #eee }
.n { text-align: right } td.n { font-variant-numeric: tabular-nums; white-space: nowrap }
.better { color: #136b2b } .worse { color: #a11 }
"""
