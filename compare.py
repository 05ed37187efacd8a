"""Compare finished runs: one row for each data set, model, head and pooling, with 95% intervals over seeds.

python compare.py runs/
python compare.py runs/digits runs/fashion_mnist --sort consistency --csv comparison.csv --plot comparison.png
python compare.py runs/ --baseline native --html comparison.html
"""

import argparse
import sys

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Compare finished runs: one row for each data set, model, head and pooling, with 95% intervals "
        "over seeds. Of two runs with the same seed and settings the newest counts."
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="folders that hold runs, at any depth")
    parser.add_argument("--sort", metavar="COLUMN", help="sort by this column, best first (default: accuracy)")
    parser.add_argument(
        "--baseline",
        metavar="POOLING",
        help="differences from this pooling, paired by seed, or of one run each by image",
    )
    parser.add_argument(
        "--csv", metavar="FILE", help="write all figures and differences: mean, half width of the interval, seeds"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw accuracy against consistency (.png, .svg or .pdf)")
    parser.add_argument("--html", metavar="FILE", help="one page with all tables and the plot")
    parser.add_argument("--latex", metavar="FILE", help="the tables for LaTeX (booktabs)")
    parser.add_argument("--traceback", action="store_true", help="show the stack trace of an error")
    options = parser.parse_args(arguments)
    try:
        compare(**{name: value for name, value in vars(options).items() if name != "traceback"})
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, OSError) as error:
        if options.traceback:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def compare(
    folders: list[str],
    sort: str | None = None,
    baseline: str | None = None,
    csv: str | None = None,
    plot: str | None = None,
    html: str | None = None,
    latex: str | None = None,
) -> None:
    from evaluation import comparison

    summary = comparison.summarise(comparison.load(folders))
    comparison.render(summary, sort, baseline)
    if plot:
        from evaluation import scatter

        scatter.write(summary, plot)
        print(f"plot: {plot}")
    if csv or html or latex:
        from evaluation import exports, paired

        found = paired.differences(summary, baseline, sort) if baseline else None
        for file, write in ((csv, exports.write_csv), (html, exports.write_html), (latex, exports.write_latex)):
            if file:
                write(summary, file, sort, found)
                print(f"tables: {file}")


if __name__ == "__main__":
    sys.exit(main())
