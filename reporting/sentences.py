"""A comparison in sentences: what it found, as strongly as its intervals allow, and what its figures show."""

from collections.abc import Sequence
from typing import Any

from anonymization.conditions import parse_condition
from reporting.comparison import Cell, Comparison
from reporting.figures import REGIONS, in_words
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

SILENT = {"seeds": "other images", "images": "other seeds"}  # of which intervals over one of them say nothing
LEAST = 1.0  # AP of originals, in percent, below which differences to it say nothing


def answer(comparison: Comparison) -> list[str]:
    """Say what anonymization costs: in a sentence for the AP of people, and in one for that of everything."""
    if not runs_of(comparison, "original"):
        return ["No run was trained on originals, so these runs cannot say what anonymization costs."]
    if metrics := _answered(comparison):
        return [_cost(comparison, metric) for metric in metrics]
    return ["There is nothing to compare with the runs on originals."]


def basis(comparisons: Sequence[Comparison]) -> str | None:
    """Say which intervals decide what an answer calls a cost; None where there is none."""
    changes = [change for c in comparisons for metric in _answered(c) for change in changes_of(c, metric)]
    over = sorted({cell.interval.over for _, cell in changes if cell.interval is not None})
    if not over:
        return None
    silent = SILENT.get(over[0]) if len(over) == 1 else None
    more = f", which say nothing about {silent}" if silent else ""
    return f"So say 95 % confidence intervals over {', or over '.join(over)}{more}."


def same_people(comparison: Comparison) -> str | None:
    """Say of which conditions all runs have the same generated people; None where there is none.

    Such runs have one seed of the anonymization, as in the paper, or one copy.
    """
    conditions = []
    for row in comparison.rows:
        seeds = {run.config.get("anonymization", {}).get("seed") for run in runs_of(comparison, row.condition)}
        if row.runs > 1 and parse_condition(row.condition).generators and len(seeds) == 1 and None not in seeds:
            conditions.append(row.condition)
    if not conditions:
        return None
    return (
        f"The runs of {_and(conditions)} differ in training alone: intervals say nothing about other generated people."
    )


def beside_paper(comparison: Comparison) -> str | None:
    """Say how many values agree with the paper's; None where none can be compared."""
    published = [cell.published for row in comparison.rows for cell in row.cells.values() if cell.published]
    overlaps = [value.overlaps for value in published if value.overlaps is not None]
    if not overlaps:
        return None
    return (
        f"Of {len(overlaps)} values that stand in table {comparison.paper.number} of the paper too, {sum(overlaps)} "
        "overlap with the paper's, each within its standard error."
    )


def describe(figure: str, comparison: Comparison, audits: Sequence[dict[str, Any]] = ()) -> str:
    """Say what a figure shows, to whom cannot see it.

    Args:
        figure: its name, a key of what `figures.write_figures` returns.
        comparison: that it shows.
        audits: that it was drawn with.
    """
    if figure == "privacy":
        return _privacy(comparison, audits)
    return {"delta": _delta, "metrics": _metrics, "size": _size, "training": _training}[figure](comparison)


def describe_overview(comparisons: Sequence[Comparison]) -> str:
    """Say what the figure of several comparisons shows."""
    points = []
    for comparison in comparisons:
        for amount, row, cell in changes_by_amount(comparison):
            change = f"{in_words(people_metric(comparison))} {cell.delta:+z.1f} under {row.condition}"
            points.append(f"{comparison.name} with {amount:.1f} {REGIONS[row.region]} in an image, {change}")
    return f"Change of people's AP by the number of faces or bodies anonymized: {'; '.join(points)}."


def _answered(comparison: Comparison) -> list[str]:
    metrics = dict.fromkeys((people_metric(comparison), main_metric(comparison)))
    return [metric for metric in metrics if changes_of(comparison, metric)]


def _delta(comparison: Comparison) -> str:
    metric = main_metric(comparison)
    changes = [f"{row.condition} {_change(cell)}" for row, cell in changes_of(comparison, metric)]
    return f"Change of {in_words(metric)} against training on originals: {', '.join(changes)}."


def _metrics(comparison: Comparison) -> str:
    lowest = [
        f"{in_words(metric)} {cell.delta:+z.1f} under {row.condition}"
        for metric in comparison.metrics
        for row, cell in sorted(changes_of(comparison, metric), key=lambda change: change[1].delta)[:1]
    ]
    return f"Change of every AP against training on originals; the lowest of each: {', '.join(lowest)}."


def _size(comparison: Comparison) -> str:
    originals = runs_of(comparison, "original")
    conditions = [row.condition for row in comparison.rows if row.runs and row.condition != "original"]
    cells = {condition: changes_by_size(runs_of(comparison, condition), originals) for condition in conditions}
    sizes = []
    for metric, label in SIZES.items():
        if of_size := [f"{c} {_change(cells[c][metric])}" for c in conditions if metric in cells[c]]:
            sizes.append(f"{' '.join(label.split())} pixels: {', '.join(of_size)}")
    return f"Change of box AP against training on originals, of objects that are {'; '.join(sizes)}."


def _training(comparison: Comparison) -> str:
    metric = main_metric(comparison)
    drawn = {run.condition for run in comparison.runs if len(read_curve(run, metric)) > 1}
    ends = [f"{row.condition} {row.cells[metric].mean:.1f}" for row in comparison.rows if row.condition in drawn]
    return f"Over training, {in_words(metric)} comes to: {', '.join(ends)}."


def _privacy(comparison: Comparison, audits: Sequence[dict[str, Any]]) -> str:
    metric = people_metric(comparison) or main_metric(comparison)
    means = {row.condition: row.cells[metric].mean for row in comparison.rows if metric in row.cells}
    points = [
        f"{condition} {share_found(audit)[1]:.0f} % and {means[condition]:.1f}"
        for condition, audit in audited(comparison, audits).items()
    ]
    return f"Faces that are still found, and {in_words(metric)}: {', '.join(points)}."


def _cost(comparison: Comparison, metric: str) -> str:
    (original,) = (row for row in comparison.rows if row.condition == "original")
    start = f"Training on originals gives {original.cells[metric].mean:.1f} {in_words(metric)}"
    if original.cells[metric].mean < LEAST:
        return f"{start}: where next to nothing is learnt, nothing can be lost; train longer, or on more images."
    changes = [(row.condition, cell.delta, cell.interval) for row, cell in changes_of(comparison, metric)]
    changes.sort(key=lambda change: change[1])
    known = [change for change in changes if change[2] is not None]
    costs = [(condition, f"{-delta:.1f}") for condition, delta, interval in known if interval.high < 0]
    gains = [(condition, f"{delta:.1f}") for condition, delta, interval in known if interval.low > 0]
    neither = [(condition, f"{-i.low:z.1f}") for condition, _, i in known if i.low <= 0 <= i.high]
    unknown = [f"{condition} {delta:+z.1f}" for condition, delta, interval in changes if interval is None]
    parts = []
    for verb, numbers in (("costs", costs), ("gains", gains)):
        if numbers:
            (condition, first), *others = numbers
            parts.append(_and([f"{condition} {verb} {first}", *(" ".join(other) for other in others)]))
    if neither:
        conditions, limits = map(_and, zip(*neither, strict=True))
        verb = "costs" if len(neither) == 1 else "cost"
        parts.append(f"{conditions} {verb} nothing that these runs can show ({limits} at most)")
    if unknown:
        parts.append(f"too few runs to tell from chance: {_and(unknown)}")
    return f"{start}; {'; '.join(parts)}."


def _and(words: Sequence[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def _change(cell: Cell) -> str:
    return f"{cell.delta:+z.1f}" + (f" ({' to '.join(cell.interval.ends())})" if cell.interval else "")
