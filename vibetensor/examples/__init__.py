"""Models and data that train without a download: what `vibetensor train` knows by name.

Each module named in `NAMES` has `add_arguments(parser)` and `build(args)`, which gives a `Task`.
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES = ("chargpt", "digits")


def find(name: str) -> ModuleType:
    """The module of an example.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in NAMES:
        raise ValueError(f"train: no example is called '{name}'; there are {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")
