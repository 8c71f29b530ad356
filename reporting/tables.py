"""The comparison as the paper prints it: mean ± standard error over seeds, and the difference to original."""

from dataclasses import dataclass
from statistics import fmean, stdev

from rich.table import Table

from anonymization.conditions import CONDITIONS
from reporting.results import Run


@dataclass(frozen=True)
class Cell:
    """One metric under one condition, in AP percent."""

    mean: float
    stderr: float | None  # of the mean over seeds; None for one run
    delta: float | None  # to original; None for original itself, or without it

    def __str__(self) -> str:
        text = f"{self.mean:.1f}"
        if self.stderr is not None:
            text += f" ± {self.stderr:.1f}"
        if self.delta is not None:
            text += f" ({self.delta:+.1f})"
        return text


@dataclass(frozen=True)
class Row:
    """One condition."""

    condition: str
    runs: int
    cells: dict[str, Cell]  # by metric; a metric that no run has is missing


def summarize(runs: list[Run], metrics: list[str]) -> list[Row]:
    """Make the rows of a table, in the order of `anonymization.conditions`.

    Args:
        runs: of one dataset.
        metrics: names as in `Run.metrics`, the columns.
    """
    originals = [run for run in runs if run.condition == "original"]
    rows = []
    for condition in CONDITIONS:
        own = [run for run in runs if run.condition == condition]
        if not own:
            continue
        reference = originals if condition != "original" else []
        cells = {m: cell for m in metrics if (cell := _cell(own, reference, m)) is not None}
        rows.append(Row(condition, len(own), cells))
    return rows


def _cell(runs: list[Run], originals: list[Run], metric: str) -> Cell | None:
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    reference = [run.metrics[metric] for run in originals if metric in run.metrics]
    if not values:
        return None
    mean = fmean(values)
    stderr = stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return Cell(mean, stderr, mean - fmean(reference) if reference else None)


def as_text(rows: list[Row], metrics: list[str], title: str) -> Table:
    """Lay rows out for the terminal."""
    table = Table(title=title)
    for heading in _headings(metrics):
        table.add_column(heading, justify="left" if heading == "condition" else "right")
    for cells in _texts(rows, metrics):
        table.add_row(*cells)
    return table


def as_markdown(rows: list[Row], metrics: list[str]) -> str:
    """Lay rows out as a Markdown table."""
    lines = [_headings(metrics), ["---"] + ["---:"] * (len(metrics) + 1), *_texts(rows, metrics)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _headings(metrics: list[str]) -> list[str]:
    # val/segm/AP_person -> segm AP_person
    return ["condition", "runs", *(m.removeprefix("val/").replace("/", " ") for m in metrics)]


def _texts(rows: list[Row], metrics: list[str]) -> list[list[str]]:
    return [[r.condition, str(r.runs), *(str(r.cells.get(m, "missing")) for m in metrics)] for r in rows]
