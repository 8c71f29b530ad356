"""Figures of a comparison, half a page wide: what anonymization costs, and what it buys."""

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anonymization.conditions import CONDITIONS
from errors import UserError
from outputs import replacing
from reporting.colours import MARKER_SIZE, colour, marker
from reporting.comparison import Cell, Comparison, Row
from reporting.findings import (
    SIZES,
    audited,
    changes_by_amount,
    changes_by_size,
    changes_of,
    main_metric,
    people_metric,
    read_curve,
    runs_of,
    share_found,
)
from reporting.significance import Interval
from reporting.tables import TASKS as TASK_NAMES
from reporting.tables import headings

WIDTH = 3.4  # inches: half a page
LETTERS = 62  # of 7 points that fit
DPI = 300
GREY = "#757575"  # of what is not data; 4.6 : 1 on white
STYLE = {
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # Matplotlib's own, so that files are the same everywhere
    "font.size": 7,
    "legend.frameon": False,
    "legend.handletextpad": 0.3,
    "lines.linewidth": 1.0,
    "lines.markersize": MARKER_SIZE,
    "svg.hashsalt": "anonbench",  # instead of a random one
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
# Without what changes from run to run, or from one Matplotlib to the next.
METADATA = {".png": {"Software": None}, ".svg": {"Creator": None, "Date": None}}

REGIONS = {"face": "faces", "body": "bodies"}
SIZE_NAMES = {"s": "small objects", "m": "medium objects", "l": "large objects"}


def in_words(metric: str) -> str:
    """Name a metric in a sentence: of ``"val/segm/AP_person"`` it is ``"mask AP of person"``."""
    _, task, name = metric.split("/", 2)
    name, _, of = name.partition("_")
    return f"{TASK_NAMES[task]} {name}" + (f" of {SIZE_NAMES.get(of, of)}" if of else "")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure so that a reader finds the old file or the new one, and the same figure as the same bytes.

    Args:
        figure: what is drawn.
        path: PNG or SVG file; its folder is made.

    Raises:
        UserError: the name has another ending, or the file cannot be written.
    """
    if path.suffix not in METADATA:
        raise UserError(f"--output: {path} is not named .png or .svg")
    content = BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format=path.suffix[1:], metadata=METADATA[path.suffix])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content.getvalue())
    except OSError as error:
        raise UserError(f"--output: {path} cannot be written: {error.strerror or error}") from None


def write_figures(comparison: Comparison, folder: Path, audits: Sequence[dict[str, Any]] = ()) -> dict[str, Path]:
    """Write the figures that the comparison's runs have something for, each as PNG and as SVG.

    Args:
        comparison: of one experiment.
        folder: for the files, ``COMPARISON-FIGURE.png`` and ``.svg``.
        audits: contents of ``audit.json`` files; see `utility_against_privacy`.

    Returns:
        The PNG files by figure: ``delta``, ``metrics``, ``size``, ``training``, ``privacy``.

    Raises:
        UserError: a file cannot be written.
    """
    figures = {
        "delta": delta_by_condition(comparison),
        "metrics": delta_by_metric(comparison),
        "size": delta_by_size(comparison),
        "training": ap_over_training(comparison),
        "privacy": utility_against_privacy(comparison, audits),
    }
    return _write(figures, comparison.name, folder)


def write_overview(comparisons: Sequence[Comparison], folder: Path) -> dict[str, Path]:
    """Write the figures of several comparisons at once, as `write_figures` does: ``amount``.

    Raises:
        UserError: a file cannot be written.
    """
    return _write({"amount": delta_by_amount(comparisons)}, "all", folder)


def _write(figures: dict[str, Figure | None], name: str, folder: Path) -> dict[str, Path]:
    paths = {}
    for key, figure in figures.items():
        if figure is not None:
            paths[key] = folder / f"{name}-{key}.png"
            save_figure(figure, paths[key])
            save_figure(figure, paths[key].with_suffix(".svg"))
    return paths


def _styled(draw: Callable[..., Figure | None]) -> Callable[..., Figure | None]:
    @wraps(draw)
    def styled(*arguments: Any) -> Figure | None:
        with matplotlib.rc_context(STYLE):
            return draw(*arguments)

    return styled


@_styled
def delta_by_condition(comparison: Comparison) -> Figure | None:
    """Draw the change of the main AP under each condition, with its interval and, where known, the paper's."""
    metric = main_metric(comparison)
    changes = changes_of(comparison, metric)
    if not changes:
        return None
    notes = [comparison.name, _of_intervals([cell for _, cell in changes])]
    if any(cell.published for _, cell in changes):
        notes.append("grey line: the paper's")
    title = f"Change of {in_words(metric)} against training on originals"
    figure, axes = _panel(title, notes, 0.2 * len(changes) + 0.6)
    for y, (row, cell) in enumerate(changes):
        _dot(axes, cell.delta, y, cell.interval, row.condition)
        if cell.published and cell.published.delta is not None:
            axes.plot(cell.published.delta, y, "|", color=GREY, markersize=11)
    _as_rows(axes, dict(enumerate(row.condition for row, _ in changes)), (-0.5, len(changes) - 0.5))
    return figure


@_styled
def delta_by_metric(comparison: Comparison) -> Figure | None:
    """Draw the change of every column of the table under each condition, with its interval: overall, by class, ..."""
    changes = {m: found for m in comparison.metrics if (found := changes_of(comparison, m))}
    if len(changes) < 2:
        return None
    conditions = {row.condition for of in changes.values() for row, _ in of}
    rows = [row for row in comparison.rows if row.condition in conditions]
    lines = {row.condition: line for line, row in enumerate(rows)}
    pitch = len(rows) + 1  # lines: one for each condition, and one more to the next metric
    tasks = " and ".join(dict.fromkeys(TASK_NAMES[metric.split("/")[1]] for metric in changes))
    title = f"Change of {tasks} AP against training on originals"
    notes = [comparison.name, _of_intervals([cell for of in changes.values() for _, cell in of])]
    figure, axes = _panel(title, notes, 0.05 * pitch * len(changes) + 0.6, rows)
    for group, of_metric in enumerate(changes.values()):
        for row, cell in of_metric:
            # Small, but in the order of the legend.
            _dot(axes, cell.delta, group * pitch + lines[row.condition], cell.interval, row.condition, size=3)
        if group:
            axes.axhline(group * pitch - 1, color=GREY, linewidth=0.3)
    labels = {group * pitch + pitch / 2 - 1: label for group, label in enumerate(headings(list(changes)))}
    _as_rows(axes, labels, (-1, pitch * len(changes) - 1))
    return figure


@_styled
def delta_by_size(comparison: Comparison) -> Figure | None:
    """Draw the change of box AP by the size of the objects under each condition, with its interval."""
    originals = runs_of(comparison, "original")
    rows = [row for row in comparison.rows if row.runs and row.condition != "original"] if originals else []
    changes = [
        (row, m, cell)
        for row in rows
        for m, cell in changes_by_size(runs_of(comparison, row.condition), originals).items()
    ]
    if not changes:
        return None
    cells = [cell for *_, cell in changes]
    # A size of which there are few objects can have intervals that would leave the others no room.
    deltas = [0.0, *(cell.delta for cell in cells)]
    room = max(1.0, 0.6 * (max(deltas) - min(deltas)))
    low, high = min(deltas) - room, max(deltas) + room
    is_cut = any(c.interval is not None and (c.interval.low < low or c.interval.high > high) for c in cells)
    notes = [comparison.name, _of_intervals(cells) + (", some longer than shown" if is_cut else "")]
    figure, axes = _panel("Change of box AP by object size", notes, 2.3, rows)
    for row, metric, cell in changes:
        shift = 0.7 * ((rows.index(row) + 0.5) / len(rows) - 0.5)
        _dot(axes, list(SIZES).index(metric) + shift, cell.delta, cell.interval, row.condition, upright=True)
    axes.set(xlim=(-0.5, len(SIZES) - 0.5), xticks=range(len(SIZES)), xticklabels=SIZES.values())
    axes.tick_params(axis="x", length=0)
    axes.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(bottom, low), min(top, high))
    axes.set(xlabel="size of objects (area in pixels)", ylabel="change of AP (percentage points)")
    return figure


@_styled
def ap_over_training(comparison: Comparison) -> Figure | None:
    """Draw the main AP over training: each seed as a thin line, and the mean; of runs whose logs are still there."""
    metric = main_metric(comparison)
    logs: dict[str, list[dict[int, float]]] = {}
    for row in comparison.rows:
        curves = [curve for run in runs_of(comparison, row.condition) if len(curve := read_curve(run, metric)) > 1]
        if curves:
            logs[row.condition] = curves
    if not logs:
        return None
    rows = [row for row in comparison.rows if row.condition in logs]
    seeds = {len(curves) for curves in logs.values()}
    notes = [comparison.name, "thin: a seed, thick: mean" if seeds != {1} else ""]
    figure, axes = _panel(f"{_capital(in_words(metric))} over training", notes, 2.3, rows)
    for condition, curves in logs.items():
        for curve in curves:
            axes.plot(*zip(*curve.items(), strict=True), color=colour(condition), linewidth=0.5, alpha=0.6)
        steps = [step for step in curves[0] if all(step in curve for curve in curves)]
        means = [fmean(curve[step] for curve in curves) for step in steps]
        axes.plot(steps, means, color=colour(condition), linewidth=1.4)
        axes.plot(steps[-1:], means[-1:], marker(condition), color=colour(condition), clip_on=False)
    axes.set(xlabel="training step", ylabel=f"{in_words(metric)} (%)")
    return figure


@_styled
def delta_by_amount(comparisons: Sequence[Comparison]) -> Figure | None:
    """Draw the change of people's AP on several datasets, ordered by how many regions were anonymized in an image."""
    groups: dict[tuple[str, str, str], list[tuple[float, Row, Cell]]] = {}
    for comparison in comparisons:
        for change in changes_by_amount(comparison):
            key = comparison.name, in_words(people_metric(comparison)), change[1].region
            groups.setdefault(key, []).append(change)
    if len({name for name, *_ in groups}) < 2:
        return None
    amounts = {key: fmean(amount for amount, *_ in group) for key, group in groups.items()}
    order = sorted(groups, key=amounts.get, reverse=True)
    points = [(y, place, row, cell) for y, key in enumerate(order) for place, (_, row, cell) in enumerate(groups[key])]
    rows = {row.condition: row for *_, row, _ in points}
    title = "Change of people's AP by how many are anonymized"
    notes = ["above: most in an image", _of_intervals([cell for *_, cell in points])]
    figure, axes = _panel(title, notes, 0.4 * len(order) + 0.6, [rows[c] for c in CONDITIONS if c in rows])
    for y, place, row, cell in points:
        shift = 0.6 * ((place + 0.5) / len(groups[order[y]]) - 0.5)
        _dot(axes, cell.delta, y + shift, cell.interval, row.condition)
    labels = [f"{textwrap.fill(key[0], 24)}\n{key[1]}\n{amounts[key]:.1f} {REGIONS[key[2]]} an image" for key in order]
    _as_rows(axes, dict(enumerate(labels)), (-0.5, len(order) - 0.5))
    return figure


@_styled
def utility_against_privacy(comparison: Comparison, audits: Sequence[dict[str, Any]]) -> Figure | None:
    """Draw people's AP against the faces that an audit still finds in regions, where a condition has both.

    Args:
        comparison: of one experiment.
        audits: contents of ``audit.json`` files (see `reporting.audit`). One counts for the runs of its condition; of
            runs that trained on a copy, for those of the audited copy alone.
    """
    metric = people_metric(comparison) or main_metric(comparison)
    found = audited(comparison, audits)
    if not found:
        return None
    shown = {"original", *found}
    rows = [row for row in comparison.rows if row.condition in shown and metric in row.cells]
    notes = [comparison.name, "bars: standard error over seeds; 95\u00a0% interval over images"]
    figure, axes = _panel(f"{_capital(in_words(metric))} against faces that are still found", notes, 2.5, rows)
    for row in rows:
        cell = row.cells[metric]
        error = cell.stderr or 0.0
        low, share, high = share_found(found[row.condition]) if row.condition in found else (100.0, 100.0, 100.0)
        axes.vlines(share, cell.mean - error, cell.mean + error, color=colour(row.condition))
        _dot(axes, share, cell.mean, Interval(low, high, "images"), row.condition)
    axes.set_xlabel("faces found in boxes of regions (% of those in originals);\na generated face is found too")
    axes.set_ylabel(f"{in_words(metric)} (%)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    return figure


def _panel(title: str, notes: Sequence[str], height: float, legend: Sequence[Row] = ()) -> tuple[Figure, Axes]:
    """A figure of one plot: title, notes in grey, conditions, and below them ``height`` inches."""
    lines = textwrap.wrap("; ".join(filter(None, notes)), LETTERS)
    top = 0.18 + 0.13 * len(lines)
    above = top + 0.06 + 0.145 * math.ceil(len(legend) / 2)
    figure = Figure((WIDTH, height + above), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, rect=(0, 0, 1, height / (height + above)))
    figure.text(0.01, 1 - 0.03 / (height + above), title, fontsize=8, va="top")
    figure.text(0.01, 1 - 0.17 / (height + above), "\n".join(lines), va="top", color=GREY, linespacing=1.1)
    axes = figure.add_subplot()
    if legend:
        handles = [
            axes.plot([], [], marker=marker(row.condition), linestyle="none", color=colour(row.condition))[0]
            for row in legend
        ]
        figure.legend(
            handles,
            [row.condition for row in legend],
            loc="upper left",
            bbox_to_anchor=(0, 1 - top / (height + above)),
            ncols=2,
            borderpad=0.2,
            labelspacing=0.25,
        )
    return figure, axes


def _of_intervals(cells: Sequence[Cell]) -> str:
    over = {cell.interval.over for cell in cells if cell.interval is not None}
    return f"bars: 95\u00a0% intervals over {', or over '.join(sorted(over))}" if over else ""


def _dot(
    axes: Axes,
    x: float,
    y: float,
    interval: Interval | None,
    condition: str,
    *,
    upright: bool = False,
    size: float = MARKER_SIZE,
) -> None:
    """A condition's mark, with its interval as a whisker."""
    if interval is not None:
        line, place = (axes.vlines, x) if upright else (axes.hlines, y)
        line(place, interval.low, interval.high, color=colour(condition))
    axes.plot(x, y, marker(condition), color=colour(condition), markersize=size, clip_on=False)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _as_rows(axes: Axes, labels: dict[float, str], limits: tuple[float, float]) -> None:
    """Label the rows of changes, the first one on top."""
    axes.set(ylim=limits[::-1], yticks=list(labels), yticklabels=labels.values())
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)
    axes.set_xlabel("change of AP (percentage points)", loc="right")
