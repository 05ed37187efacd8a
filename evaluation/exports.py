"""A comparison as CSV, as an HTML page and as a LaTeX table.

paired, baseline: what `paired.differences` found, and from which pooling; none where nobody asked for it.
"""

import base64
import csv
import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evaluation.comparison import COUNTS, NAMES, SHOWN, Row, Stat, Summary, arrange, cell
from evaluation.paired import NOTE, Difference, columns, is_better, is_clear

INTERVAL = "±: half the width of the 95% interval over seeds (Student's t)"
PARTS = ("", "_half_width", "_seeds")  # of a Stat, as columns
Format = Callable[[str, Stat | None], str]


def write_csv(
    summary: Summary, file: Path | str, sort: str | None, paired: Sequence[Difference], baseline: str | None
) -> None:
    """All figures in full, a row for each row of the table.

    `FIGURE`: the mean over seeds; `FIGURE_half_width`: half the width of its 95% interval, empty for one seed;
    `FIGURE_seeds`: how many. With a baseline: `baseline`, empty where a row has none or is it; `FIGURE_difference`, the
    mean over common seeds of this row less the baseline, `FIGURE_difference_half_width`, `FIGURE_difference_seeds`.
    """
    figures = [column for column in summary.columns() if column not in (*NAMES, "seeds")]
    heads = [*NAMES, "settings", "seeds", *(f"{figure}{part}" for figure in figures for part in PARTS)]
    differing = [figure for figure in figures if figure not in COUNTS] if baseline is not None else []
    if baseline is not None:
        heads += ["baseline", *(f"{figure}_difference{part}" for figure in differing for part in PARTS)]
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(heads)
        for row in arrange(summary, sort):
            cells: list[Any] = [*(getattr(row, name) for name in NAMES), row.settings, row.seeds]
            cells += _in_full(figures, row.figures)
            if baseline is not None:
                own = next((difference.figures for difference in paired if difference.row is row), {})
                cells += [baseline if own else "", *_in_full(differing, own)]
            writer.writerow(cells)


def write_html(
    summary: Summary, file: Path | str, sort: str | None, paired: Sequence[Difference], baseline: str | None
) -> None:
    """A page that loads nothing: tables, differences from the baseline, and the scatter plot where there is one."""
    parts = ["<h1>Comparison of runs</h1>"]
    rows = arrange(summary, sort)
    for data, main in dict.fromkeys((row.data, row.main) for row in rows):
        own = [row for row in rows if (row.data, row.main) == (data, main)]
        parts.append(f"<h2>{html.escape(data)}</h2>")
        parts.append(_html_table(_shown(own), [(row, row.figures) for row in own], _plain))
        below = [d for d in paired if (d.row.data, d.row.main) == (data, main)]
        if below:
            parts.append(f"<h3>{html.escape(NOTE.format(baseline=baseline))}</h3>")
            parts.append(_html_table(columns(below), [(d.row, d.figures) for d in below], _coloured))
    parts.append(f"<p>{INTERVAL}</p>")
    parts += [f"<p>{html.escape(note)}</p>" for note in summary.notes]
    if picture := _scatter(summary):
        parts.append(f"<img alt='accuracy against consistency' src='data:image/png;base64,{picture}'>")
    head = "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Comparison of runs</title>"
    page = f"{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    Path(file).write_text(page, encoding="utf-8")


def write_latex(
    summary: Summary, file: Path | str, sort: str | None, paired: Sequence[Difference], baseline: str | None
) -> None:
    """One `tabular` for each data set, and one for its differences; needs the package booktabs."""
    parts = ["% \\usepackage{booktabs}"]
    rows = arrange(summary, sort)
    for data, main in dict.fromkeys((row.data, row.main) for row in rows):
        own = [row for row in rows if (row.data, row.main) == (data, main)]
        parts.append(f"% {data}; {INTERVAL}\n{_latex_table(_shown(own), [(row, row.figures) for row in own], cell)}")
        below = [d for d in paired if (d.row.data, d.row.main) == (data, main)]
        if below:
            table = _latex_table(columns(below), [(d.row, d.figures) for d in below], signed)
            parts.append(f"% {data}; {NOTE.format(baseline=baseline)}\n{table}")
    Path(file).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


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


def _html_table(figures: Sequence[str], rows: Sequence[tuple[Row, dict[str, Stat]]], text: Format) -> str:
    heads = [
        "model",
        "head",
        "pooling",
        "seeds",
        *(SHOWN[name].replace("-\n", "").replace("\n", " ") for name in figures),
    ]
    kinds = [""] * 4 + [" class='n'"] * len(figures)
    lines = ["<tr>" + "".join(f"<th{kind}>{html.escape(head)}" for head, kind in zip(heads, kinds, strict=True))]
    for row, stats in rows:
        names = (row.model, row.head, row.label, str(row.seeds))
        cells = [f"<td>{html.escape(name)}" for name in names] + [text(name, stats.get(name)) for name in figures]
        lines.append("<tr>" + "".join(cells))
    return f"<table>{''.join(lines)}</table>"


def _plain(name: str, stat: Stat | None) -> str:
    return f"<td class='n'>{cell(name, stat)}"


def _coloured(name: str, stat: Stat | None) -> str:
    kind = "" if stat is None or not is_clear(stat) else " better" if is_better(name, stat) else " worse"
    return f"<td class='n{kind}'>{signed(name, stat)}"


def _latex_table(figures: Sequence[str], rows: Sequence[tuple[Row, dict[str, Stat]]], text: Format) -> str:
    heads = [
        "model",
        "head",
        "pooling",
        "seeds",
        *(SHOWN[name].replace("-\n", "").replace("\n", " ") for name in figures),
    ]
    lines = [" & ".join(map(_escaped, heads))]
    for row, stats in rows:
        names = map(_escaped, (row.model, row.head, row.label, str(row.seeds)))
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
