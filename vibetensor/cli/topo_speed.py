"""The measured half of `vibetensor topo`: its tables and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vibetensor.fabric.speed import Matrix, Speeds


def tables(speeds: Speeds) -> list[tuple[str, list[list[str]]]]:
    """A title and the cells, with row and column names, of each matrix that has a value."""
    return [
        (title, [["", *speeds.devices], *_cells(speeds.devices, matrix)])
        for title, matrix in _matrices(speeds)
    ]


def plot(speeds: Speeds, path: str) -> None:
    """Draws the matrices into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from vibetensor import io

    matrices = _matrices(speeds)
    count = len(speeds.devices)
    side = 2.2 + 0.6 * count
    figure = Figure(figsize=(side * len(matrices), side), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, matrix) in zip(
        figure.subplots(1, len(matrices), squeeze=False)[0], matrices, strict=True
    ):
        values = [[float("nan") if cell is None else cell for cell in row] for row in matrix]
        axes.imshow(values, cmap="viridis")
        axes.set_title(title.replace(", ", ",\n"), fontsize=9)
        axes.set_xticks(range(count), speeds.devices, rotation=45)
        axes.set_yticks(range(count), speeds.devices)
        for i, row in enumerate(_cells(speeds.devices, matrix)):
            for j, text in enumerate(row[1:]):
                axes.text(
                    j, i, text, ha="center", va="center", fontsize=8,
                    bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
                )  # fmt: skip
    with io.atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _matrices(speeds: Speeds) -> list[tuple[str, Matrix]]:
    titles = {
        "copy_gbps": ("copy engine, one way, GB/s", "memcpy, one way, GB/s"),
        "copy_both_gbps": (
            "copy engines, both ways at once, sum, GB/s",
            "memcpy, both ways at once, sum, GB/s",
        ),
        "store_gbps": ("kernel that stores, one way, GB/s", ""),
        "store_both_gbps": ("kernels that store, both ways at once, sum, GB/s", ""),
        "latency_ns": ("latency of a load, ns", "latency of a load, ns"),
    }
    cpu = speeds.devices[0].startswith("cpu")
    return [
        (titles[name][cpu], matrix)
        for name, matrix in speeds.as_dict().items()
        if any(cell is not None for row in matrix for cell in row)
    ]


def _cells(devices: list[str], matrix: Matrix) -> list[list[str]]:
    return [
        [device, *("-" if cell is None else f"{cell:.1f}" for cell in row)]
        for device, row in zip(devices, matrix, strict=True)
    ]
