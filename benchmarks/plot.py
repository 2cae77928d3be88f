"""Ratios as a picture, where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ratios import Outcome


def is_possible() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw each ratio with its spread, and its goal."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

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
