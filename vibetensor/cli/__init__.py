"""The command `vibetensor`: every module of this folder with an `add_parser` is one subcommand."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Any


class _WithDefaults(argparse.HelpFormatter):
    """Adds to an option's help what it is where it is not given, if that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if default is None or default == argparse.SUPPRESS or isinstance(default, bool):
            return action.help
        text = action.help or ""
        return text + (" " if text else "") + "(default: %(default)s)"


class _Parser(argparse.ArgumentParser):
    """A parser whose subcommands, which are of the same class, show their defaults too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options["formatter_class"] = _WithDefaults
        super().__init__(*args, **options)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; each sets `run`, which returns the exit code."""
    from vibetensor import __version__

    parser = _Parser(
        prog="vibetensor", description="Train on every device of this machine, from one process."
    )
    parser.add_argument("--version", action="version", version=f"vibetensor {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        command = importlib.import_module(f"{__name__}.{module.name}")
        if hasattr(command, "add_parser"):
            command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; an expected failure is one line on stderr and exit code 1."""
    args = build_parser().parse_args(argv)
    try:
        code: int = args.run(args)
        return code
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError, RuntimeError) as error:
        print(f"vibetensor: {error}", file=sys.stderr)
        return 1
