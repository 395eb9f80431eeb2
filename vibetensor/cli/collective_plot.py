"""The picture of `bench`: time and bus bandwidth over the size of the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vibetensor.cli.collective_case import Row


def plot(rows: list[Row], ceiling: dict[str, float], path: str) -> None:
    """Draws one line a type and reduction, and NCCL's where it was measured, into a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from vibetensor import io

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    times, bandwidths = figure.subplots(1, 2)
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row["size"] > 0:
            series.setdefault(f"{row['kind']} {row['type']} {row['redop']}", []).append(row)
    for label, found in series.items():
        sizes = [row["size"] for row in found]
        parts = [row["in_place"] or row["out_of_place"] for row in found]
        (line,) = times.plot(sizes, [part["time_us"] for part in parts], marker="o", label=label)
        bandwidths.plot(sizes, [part["busbw"] for part in parts], marker="o", label=label)
        if all(part["nccl_us"] is not None for part in parts):
            theirs = [part["nccl_us"] or 0.0 for part in parts]
            ratio = [part["time_us"] / other for part, other in zip(parts, theirs, strict=True)]
            style = {"linestyle": "--", "color": line.get_color(), "label": f"NCCL, {label}"}
            times.plot(sizes, theirs, **style)
            bandwidths.plot(
                sizes, [part["busbw"] * r for part, r in zip(parts, ratio, strict=True)], **style
            )
    for name, value in ceiling.items():
        bandwidths.axhline(value, color="grey", linewidth=0.8, linestyle=":")
        bandwidths.annotate(f"link, {name}", (0.01, value), xycoords=("axes fraction", "data"))
    for axes, title, unit in ((times, "time of a call", "us"), (bandwidths, "bus", "GB/s")):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("bytes")
        axes.set_ylabel(unit)
        axes.set_title(title)
        axes.grid(alpha=0.3)
    times.set_yscale("log")
    times.legend(fontsize=8)
    with io.atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
