"""`torch.cuda.tunable`: matrix products by the algorithm that was the fastest when it was timed.

cuBLASLt's heuristic names several algorithms for a product. Usually the first one is taken. Where
this is enabled, the first eager call of each problem times all that may be the fastest and keeps
the winner; a problem is the operator with its epilogue, sizes, leading dimensions, transposes,
dtype and alignment. The choices go to a file, and a later run that reads it makes the same ones: it
has the same bits. A table of that kind comes with the package for GPUs that were measured, and
counts without being asked for.

Names and defaults are those of PyTorch. What differs: a file is read by `enable` and
`set_filename`, not by the first product; see docs/tunable.md.
"""

from __future__ import annotations

import atexit
import warnings
from pathlib import Path

from vibetensor import _C
from vibetensor.tuning import products

__all__ = [
    "enable",
    "get_filename",
    "get_max_tuning_duration",
    "get_max_tuning_iterations",
    "get_results",
    "get_untuned",
    "get_validators",
    "is_enabled",
    "packaged_enable",
    "packaged_is_enabled",
    "read_file",
    "set_filename",
    "set_max_tuning_duration",
    "set_max_tuning_iterations",
    "tune_untuned",
    "tuning_enable",
    "tuning_is_enabled",
    "write_file",
    "write_file_on_exit",
]


class _Files:
    """Where results go, and how many of them are there already."""

    name = ""  # "": the default
    on_exit = True
    written = 0


def enable(val: bool = True) -> None:
    """Switches tuned products on or off. On: the file of `get_filename` is read if it exists.

    Off, and where a machine has no GPU, nothing is timed and no file counts; the packaged table
    does, see `packaged_enable`. Off by default.

    Warns:
        RuntimeWarning: there is no GPU, or the file is for another GPU or version.
    """
    if val and _C.device_count("cuda") == 0:
        warnings.warn(
            f"tunable: there is nothing to tune: {_C.cuda_unavailable_reason()}",
            RuntimeWarning,
            stacklevel=2,
        )
    _C.set_tunable_enabled(bool(val))
    if val:
        _read_if_there()


def is_enabled() -> bool:
    """Whether tuned products are switched on."""
    return _C.get_tunable_enabled()


def tuning_enable(val: bool = True) -> None:
    """Whether problems without a choice are timed where enabled; on by default.

    Off, they take the heuristic's first algorithm.
    """
    _C.set_tunable_tuning(bool(val))


def tuning_is_enabled() -> bool:
    """Whether problems without a choice are timed where enabled."""
    return _C.get_tunable_tuning()


def packaged_enable(val: bool = True) -> None:
    """Whether the table that comes with the package counts, on the GPUs that it is for; on by
    default. It does whether or not `enable` was called, after choices of one's own."""
    _C.set_tunable_packaged(bool(val))


def packaged_is_enabled() -> bool:
    """Whether the table that comes with the package counts."""
    return _C.get_tunable_packaged()


def set_max_tuning_duration(duration: int) -> None:
    """How many milliseconds the timing of one algorithm takes at most, 30 by default.

    Seven runs, or as many as the iterations allow, are made in any case.

    Raises:
        ValueError: it is negative.
    """
    _C.set_tunable_duration(duration)


def get_max_tuning_duration() -> int:
    """How many milliseconds the timing of one algorithm takes at most."""
    return _C.get_tunable_limits()[0]


def set_max_tuning_iterations(iterations: int) -> None:
    """How many runs the timing of one algorithm takes at most, 100 by default. One is made always.

    Raises:
        ValueError: it is negative.
    """
    _C.set_tunable_iterations(iterations)


def get_max_tuning_iterations() -> int:
    """How many runs the timing of one algorithm takes at most."""
    return _C.get_tunable_limits()[1]


def set_filename(filename: str, insert_device_ordinal: bool = False) -> None:
    """Names the file of results. Where enabled, it is read if it exists.

    Args:
        filename: a path; "" for the default, `tunableop_results0.csv` with the current GPU's index.
        insert_device_ordinal: put that index before the ending, for processes with a GPU each.
    """
    if insert_device_ordinal and filename:
        path = Path(filename)
        filename = str(path.with_name(f"{path.stem}{_C.current_device()}{path.suffix}"))
    _Files.name = filename
    if is_enabled():
        _read_if_there()


def get_filename() -> str:
    """The file of results."""
    return _Files.name or f"tunableop_results{_ordinal()}.csv"


def get_results() -> tuple[tuple[str, str, str, float], ...]:
    """The choices that were read or made here, for GPUs with the name of the current one.

    Returns:
        (operator, parameters, solution, milliseconds) of each; none without a GPU.
    """
    return tuple(row[:4] for row in _rows())


def get_untuned() -> tuple[tuple[str, str], ...]:
    """Problems that were met in a capture, where nothing is timed, or that did not fit in memory.

    Returns:
        (operator, parameters) of each; none without a GPU.
    """
    gpu = _gpu()
    return tuple(_C.untuned_products(gpu)) if gpu else ()


def tune_untuned() -> int:
    """Times the problems of `get_untuned` that the current GPU met; how many found a choice.

    Graphs captured before keep their algorithms: capture again, or start again with the file.

    Raises:
        RuntimeError: a graph is being captured.
    """
    return _C.tune_untuned_products(_C.current_device()) if _gpu() else 0


def get_validators() -> tuple[tuple[str, str], ...]:
    """For what choices made now hold: (name, value) pairs. A file with others is left aside.

    The version of vibetensor, and where there is a GPU, cuBLASLt's version and the GPU's name.
    """
    found = [("VT_VERSION", _C.__version__)]
    gpu = _gpu()
    if gpu:
        found += [(products.LIBRARY, str(_C.product_library_version())), (products.GPU, gpu)]
    return tuple(found)


def write_file_on_exit(val: bool) -> None:
    """Whether choices made here and not written yet are written when Python ends; on by default."""
    _Files.on_exit = bool(val)


def write_file(filename: str | None = None) -> bool:
    """Writes all choices, those that were read too.

    Args:
        filename: in the place of `get_filename()`.

    Returns:
        False, and no file, where there is no GPU.

    Raises:
        OSError: the file cannot be written.
    """
    if not _gpu():
        return False
    count = _C.tuned_product_count()
    table = products.Table(dict(get_validators()), _rows())
    products.write(Path(filename or get_filename()), table)
    _Files.written = count
    return True


def read_file(filename: str | None = None) -> bool:
    """Adds the choices of a file to those that are known; they count where enabled.

    Args:
        filename: in the place of `get_filename()`.

    Returns:
        Whether it was taken.

    Warns:
        RuntimeWarning: it is for another GPU or version, is damaged, or cannot be read.
    """
    file = Path(filename or get_filename())
    try:
        table = products.read(file)
        wrong = _mismatch(table)
        if not wrong:
            rows = table.rows
            _C.add_products(_gpu(), _C.product_library_version(), rows)
            return True
    except (OSError, ValueError) as error:
        wrong = str(error)
    warnings.warn(
        f"tunable: {file} is left aside: {wrong}; tune again, or name another file",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _mismatch(table: products.Table) -> str:
    """Why its rows do not hold here; "" if they do."""
    if not _gpu():
        return "there is no GPU"
    for name, value in get_validators():
        theirs = table.validators.get(name, "nothing")
        if theirs != value:
            return f"its {name} is {theirs}, here it is {value}"
    return ""


def _read_if_there() -> None:
    if _gpu() and Path(get_filename()).exists():
        read_file()


def _ordinal() -> int:
    return _C.current_device() if _C.device_count("cuda") else 0


def _gpu() -> str:
    """The name of the current GPU, "" without one."""
    if _C.device_count("cuda") == 0:
        return ""
    return _C.device_properties(_C.device(f"cuda:{_C.current_device()}")).name


def _rows() -> list[products.Row]:
    gpu = _gpu()
    return [products.Row(*row) for row in _C.tuned_products(gpu)] if gpu else []


def _at_exit() -> None:
    if _Files.on_exit and _C.tuned_product_count() > _Files.written:
        try:
            write_file()
        except OSError as error:
            warnings.warn(f"tunable: results are lost: {error}", RuntimeWarning, stacklevel=1)


atexit.register(_at_exit)
