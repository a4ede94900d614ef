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

from bench.measure import CONNECTIONS
from bench.services import CORES, ROOT, SERVICES

Results = Mapping[str, Mapping[str, Sequence[float]]]
Figure = tuple[str, str]
"""The keys of a service and of its row."""

PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- measured: `make bench` writes this -->", "<!-- end of what was measured -->"


def _each(row: str, words: str) -> list[tuple[str, str]]:
    """Return a row for each number of connections."""
    labels = [f"{words}, {CONNECTIONS[0]} connections", *(f"… {n}" for n in CONNECTIONS[1:])]
    return [(row.format(n), label) for n, label in zip(CONNECTIONS, labels, strict=True)]


# The rows of the table, with their labels.
ROWS = (
    *_each("reads {}/s", "reads a second"),
    ("reads many/s", "… 16, with 10,000 tokens in turn"),
    *_each("reads nginx {}/s", "reads behind nginx"),
    ("reads errors", "… errors of all of these"),
    *_each("reads {} median ms", "median, ms"),
    *_each("reads {} p99 ms", "p99, ms"),
    *_each("reads {} CPU us", "CPU of a read, µs"),
    *_each("reads {} switches", "context switches of a read"),
    ("sign-ins/s", "sign-ins a second"),
    ("bcrypt alone/s", "… bcrypt alone"),
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
    heads = ["ratio", "is", "wanted", "reached"]
    parts.append(tabulate(_ratios(results), heads, tablefmt=form, disable_numparse=True))
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


def _ratio(results: Results, over: Figure, under: Figure) -> float | None:
    """Return the median of the rounds' ratios."""
    pairs = zip(*(results.get(key, {}).get(row, ()) for key, row in (over, under)), strict=False)
    ratios = [a / b for a, b in pairs if b]
    return statistics.median(ratios) if ratios else None


def _ratios(results: Results) -> list[list[str]]:
    """Return each ratio, its goal, and whether that is reached."""
    found: list[list[str]] = []

    def add(words: str, figure: float | None, wanted: str = "") -> None:
        if figure is not None:
            sign, _, goal = wanted.partition(" ")
            reached = figure >= float(goal) if sign == "≥" else figure <= float(goal or "inf")
            told = ("yes" if reached else "no") if wanted else ""
            found.append([words, f"{figure:.3f}", wanted, told])

    def ratio(words: str, wanted: str, row: str, under: str, key: str = "ours") -> None:
        add(words, _ratio(results, ("ours", row), (key, under)), wanted)

    for place, where in (("", ""), ("nginx ", " behind nginx")):
        for count in CONNECTIONS:
            row, words = f"reads {place}{count}/s", f"reads{where}, {count} connections"
            fast = [
                figure
                for key in SERVICES
                if key.startswith("fastapi")
                and (figure := _ratio(results, ("ours", row), (key, row))) is not None
            ]
            wanted = "≥ 1.1" if count <= 16 else "≥ 1"
            add(f"{words}: to the fastest FastAPI", min(fast, default=None), wanted)
            ratio(f"{words}: to bare WSGI", "", row, row, "bare")
    for count in CONNECTIONS:
        words, wanted = f"reads, {count} connections: p99 to median", "≤ 4" if count == 64 else ""
        ratio(words, wanted, f"reads {count} p99 ms", f"reads {count} median ms")
    ratio("sign-ins: to bcrypt alone", "≥ 0.95", "sign-ins/s", "bcrypt alone/s")
    ratio("storm: sign-ins to bcrypt alone", "≥ 0.33", "storm sign-ins/s", "bcrypt alone/s")
    ratio("storm: reads to those at rest", "≥ 0.5", "storm reads/s", "reads 4/s")
    ratio(
        "storm: p99 of reads to the median at rest", "≤ 10",
        "storm reads p99 ms", "reads 4 median ms",
    )  # fmt: skip
    storm = [results.get("ours", {}).get(f"storm {row}", ()) for row in ("reads errors", "errors")]
    add("storm: errors but 503", max((*storm[0], *storm[1]), default=None), "≤ 0")
    for what in ("reads/s", "sign-ins/s"):
        sizes = [("growth", f"{what}, {users} users") for users in (1000, 1_000_000)]
        add(f"{what}: 10^3 users to 10^6", _ratio(results, sizes[0], sizes[1]), "≤ 1.2")
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
        colours = ["#2f6f4f" if SERVICES[key].is_ours else "#b9b4a5" for key in keys]
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
