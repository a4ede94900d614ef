"""The table and the plot of docs/performance.md."""

from __future__ import annotations

import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from tabulate import tabulate

from bench.services import CORES, ROOT, SERVICES

Results = Mapping[str, Mapping[str, Sequence[float]]]

PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- measured: `make bench` writes this -->", "<!-- end of what was measured -->"

# The rows of the table, with their labels.
ROWS = (
    ("reads 4/s", "reads a second, 4 connections"),
    ("reads 16/s", "… 16"),
    ("reads 64/s", "… 64"),
    ("reads 256/s", "… 256"),
    ("reads many/s", "… 16, with 10,000 tokens in turn"),
    ("reads nginx 4/s", "behind nginx, 4"),
    ("reads nginx 16/s", "… 16"),
    ("reads nginx 64/s", "… 64"),
    ("sign-ins/s", "sign-ins a second"),
    ("storm reads/s", "storm of 64: reads a second"),
    ("storm reads median ms", "… their median, ms"),
    ("storm reads p99 ms", "… their p99, ms"),
    ("storm reads errors", "… their errors"),
    ("storm sign-ins/s", "… sign-ins a second"),
    ("storm sent away", "… sent away with 503"),
    ("storm errors", "… other errors"),
    ("refreshes/s", "refreshes a second"),
    ("ready ms", "ready after, ms"),
    ("MB a worker", "memory of a worker (PSS), MB"),
)


def table(results: Results, form: str = "simple") -> str:
    """Return the medians with the spread of the rounds, and the ratios with their goals."""
    keys = [key for key in SERVICES if key in results]
    lines = [
        [words, *(_cell(results[key].get(row)) for key in keys)]
        for row, words in ROWS
        if any(row in results[key] for key in keys)
    ]
    heads = ["", *(SERVICES[key].name for key in keys)]
    parts = [tabulate(lines, heads, tablefmt=form, disable_numparse=True)]
    if "growth" in results:
        rows = [[name, _cell(figures)] for name, figures in sorted(results["growth"].items())]
        parts.append(tabulate(rows, ["growth", ""], tablefmt=form, disable_numparse=True))
    parts.append(tabulate(_ratios(results), ["ratio", "is", "wanted"], tablefmt=form))
    return "\n\n".join(parts)


def _cell(figures: Sequence[float] | None) -> str:
    """Return the median and the spread: half the distance between the extremes, in percent."""
    if not figures:
        return "-"
    middle = statistics.median(figures)
    digits = 0 if middle >= 100 or middle == int(middle) else 1 if middle >= 10 else 2
    text = f"{middle:,.{digits}f}"
    if middle and len(figures) > 1:
        text += f" ±{(max(figures) - min(figures)) / 2 / middle:.0%}"
    return text


def _median(results: Results, key: str, row: str) -> float | None:
    figures = results.get(key, {}).get(row)
    return statistics.median(figures) if figures else None


def _ratios(results: Results) -> list[list[str]]:
    """Return each ratio with its goal."""
    found: list[list[str]] = []

    def ratio(words: str, wanted: str, over: float | None, under: float | None) -> None:
        if over is not None and under:
            found.append([words, f"{over / under:.2f}", wanted])

    for row, words in ROWS[:4]:
        mine, fast = _median(results, "ours", row), _median(results, "granian", row)
        peers = [_median(results, key, row) for key in SERVICES if key.startswith("fastapi")]
        better = max((peer for peer in peers if peer), default=None)
        short = words if "reads" in words else f"reads {words}"
        ratio(f"{short}: to the best FastAPI", "≥ 1.1", mine, better)
        ratio(f"{short}: to bare WSGI", "≥ 0.5", mine, _median(results, "bare", row))
        ratio(f"{short}: granian to the best FastAPI", "≥ 1.6", fast, better)
    alone = _median(results, "bcrypt", "sign-ins/s")
    ratio("sign-ins: to bcrypt alone", "≥ 0.95", _median(results, "ours", "sign-ins/s"), alone)
    ratio(
        "storm: sign-ins to bcrypt alone", "≥ 0.33",
        _median(results, "ours", "storm sign-ins/s"), alone,
    )  # fmt: skip
    for what in ("reads/s", "sign-ins/s"):
        ratio(
            f"{what}: 10^3 users to 10^6", "≤ 1.2",
            _median(results, "growth", f"{what}, 1000 users"),
            _median(results, "growth", f"{what}, 1000000 users"),
        )  # fmt: skip
    return found


def write(results: Results) -> None:
    """Write table and plot into docs/performance.md, between its marks."""
    text = PAGE.read_text("utf-8")
    told = "\n\n".join([BEGIN, _machine(), table(results, "github"), END])
    PAGE.write_text(
        re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: told, text, flags=re.DOTALL),
        "utf-8",
    )
    plot(results, PLOT)


def _machine() -> str:
    info = Path("/proc/cpuinfo").read_text("utf-8")
    model = re.search(r"model name\s*: (.*)", info)
    return (
        f"{CORES} cores ({model[1] if model else platform.machine()}), Python"
        f" {platform.python_version()}, Linux {platform.release().partition('-')[0]}."
        " Medians, ± half of the spread between the rounds."
    )


def plot(results: Results, path: Path) -> None:
    """Plot the reads per second of each service, with and without sign-ins."""
    keys = [key for key in SERVICES if key in results and key != "bare"]
    names = [SERVICES[key].name for key in keys]
    mpl.rcParams["svg.hashsalt"] = "jwt-server"  # the same numbers give the same file
    mpl.rcParams["svg.fonttype"] = "none"
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.45 * len(keys) + 1.2), sharey=True)
    for axis, row, title in (
        (axes[0], "reads 16/s", "Reads a second, 16 connections"),
        (axes[1], "storm reads/s", "… while 64 people sign in"),
    ):
        figures = [_median(results, key, row) or 0 for key in keys]
        colours = ["#2f6f4f" if SERVICES[key].kind == "ours" else "#b9b4a5" for key in keys]
        bars = axis.barh(names, figures, color=colours, height=0.62)
        axis.bar_label(bars, [f"{figure:,.0f}" for figure in figures], padding=4, fontsize=9)
        axis.set_title(title, fontsize=11, loc="left")
        axis.set_xticks([])
        axis.set_xlim(0, max(figures) * 1.18)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
