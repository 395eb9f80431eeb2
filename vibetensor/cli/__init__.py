"""The command `vibetensor`: every module of this folder with an `add_parser` is one subcommand."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; each sets `run`, which returns the exit code."""
    from vibetensor import __version__

    parser = argparse.ArgumentParser(
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


if __name__ == "__main__":
    sys.exit(main())
