"""Figures as pictures, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.ratios import Outcome

_FIGURES: Final = {"rate": "commits/s", "p99": "p99, ms", "memory": "leader, MiB"}


def is_possible() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def ratios(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw each ratio with its spread, and its goal."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(9, 0.35 * len(outcomes) + 1), layout="constrained")
    for place, each in enumerate(reversed(outcomes)):
        colour = "tab:green" if each.is_met else "tab:red"
        axes.plot([each.least, each.most], [place, place], color=colour, linewidth=2)
        axes.plot([each.ratio], [place], "o", color=colour)
        axes.plot([each.goal.bound], [place], "|", color="black", markersize=14)
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.5)
    axes.set_yticks(range(len(outcomes)), [each.goal.title for each in reversed(outcomes)])
    axes.set_xlabel("ratio: median, least and most of all rounds; black: the goal")
    figure.savefig(path)
    plt.close(figure)


def growth(lines: Sequence[Mapping[str, Any]], axes: Mapping[str, str], path: Path) -> None:
    """Draw each figure against whatever grows: the median of all rounds.

    Args:
        lines: what was measured, each with its `part` and where on the part's axis it was: `at`.
        axes: what grows in each part; a part without a name for that is not drawn.
        path: of the picture.
    """
    plt = _pyplot()
    parts = [part for part in axes if axes[part] and any(line["part"] == part for line in lines)]
    size = (2.6 * len(parts), 2.2 * len(_FIGURES))
    figure, cells = plt.subplots(
        len(_FIGURES), len(parts), figsize=size, sharex="col", squeeze=False, layout="constrained"
    )
    for column, part in enumerate(parts):
        places = sorted({line["at"] for line in lines if line["part"] == part})
        for cell, (name, title) in zip(cells[:, column], _FIGURES.items(), strict=True):
            found = [[line[name] for line in lines if _is_at(line, part, at)] for at in places]
            medians = list(map(statistics.median, found))
            cell.plot(places, medians, "o-", markersize=3)
            cell.set_ylim(0, 1.1 * max(medians))
            if places[-1] > 20 * max(places[0], 1):
                cell.set_xscale("symlog" if places[0] == 0 else "log")
            if column == 0:
                cell.set_ylabel(title)
        cells[-1, column].set_xlabel(axes[part])
    figure.savefig(path)
    plt.close(figure)


def _is_at(line: Mapping[str, Any], part: str, at: float) -> bool:
    return line["part"] == part and line["at"] == at


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.fonttype"] = "none"  # texts stay texts
    from matplotlib import pyplot as plt

    return plt
