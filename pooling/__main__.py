"""python -m pooling: the operators as a table; python -m pooling NAME [OPTION=VALUE ...]: one, worked through."""

import argparse
import ast
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from pooling import catalogue, plugins, registry

DESCRIPTION = """The operators as a table; with a NAME its definition, its options and an example worked through.

  python -m pooling soft
  python -m pooling lp p=3 --kind reducer
  python -m pooling --plugins mine.py
"""
WRONG = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m pooling", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="an operator")
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE", help="options of the operator")
    parser.add_argument("--kind", choices=registry.KINDS, help="of this kind only")
    parser.add_argument("--markdown", action="store_true", help="print the page docs/operators.md")
    parser.add_argument(
        "--plugins", action="append", default=[], metavar="FILE", help="a file with operators of your own"
    )
    given = parser.parse_intermixed_args(arguments)
    try:
        plugins.load(given.plugins)
        print(_text(given.name, given.kind, given.markdown, dict(map(parsed, given.options))))
    except (ValueError, TypeError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # whoever read our output has gone: `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG
    return 0


def _text(name: str | None, kind: str | None, markdown: bool, options: dict[str, Any]) -> str:
    if markdown:
        return catalogue.markdown().rstrip("\n")
    if name is None:
        chosen = [operator for operator in catalogue.operators() if kind in (None, operator.kind)]
        return catalogue.table(chosen, shutil.get_terminal_size((140, 24)).columns)
    registry.info(name, kind)  # an unknown name is answered with the nearest
    named = [operator for operator in catalogue.operators() if operator.name == name and kind in (None, operator.kind)]
    return "\n\n\n".join(catalogue.description(operator, **options) for operator in named)


def parsed(setting: str) -> tuple[str, Any]:
    """`p=3` -> ("p", 3); what is no Python value is a word.

    >>> parsed("p=3"), parsed("a=learned"), parsed("levels=(1,2)")
    (('p', 3), ('a', 'learned'), ('levels', (1, 2)))
    """
    name, equals, text = setting.partition("=")
    if not equals:
        raise ValueError(f"{setting!r} is no OPTION=VALUE, for example beta=2")
    try:
        return name, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return name, {"true": True, "false": False, "none": None}.get(text.lower(), text)


if __name__ == "__main__":
    sys.exit(main())
