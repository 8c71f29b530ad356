"""A comparison as tables: on the terminal, in Markdown, LaTeX and CSV, and everything in JSON."""

import csv
import io
import json
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from reporting.comparison import Cell, Comparison, Row

CELL_WIDTH = 14  # characters of a column on the terminal: "36.7 ± 0.1" and its margins
FIRST_WIDTH = 34  # of region, method and runs
TASKS = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}
MISSING = "missing"
TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\~{}",
        "^": r"\^{}",
        "|": r"\textbar{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
    }
)


@dataclass(frozen=True)
class Entry:
    """What stands in a cell of a table: ``36.4 ± 0.2 (-0.3*)``."""

    value: str
    note: str = ""  # stands in brackets
    bold: bool = False
    marked: bool = False  # a star behind the note


@dataclass(frozen=True)
class Grid:
    """A table before it has a form."""

    left: list[str]  # headings of the columns that say what a line is
    metrics: list[str]  # headings of the others
    groups: list[list[list[Entry]]]  # lines of entries; a rule stands between groups


def results_grid(comparison: Comparison) -> Grid:
    """Lay out the conditions by region and method."""
    groups = []
    for region, rows in groupby(comparison.rows, key=lambda row: row.region):
        lines = []
        for row in rows:
            left = [Entry("" if lines else region), Entry(row.method), Entry(str(row.runs))]
            lines.append([*left, *(_entry(row.cells.get(metric)) for metric in comparison.metrics)])
        groups.append(lines)
    return Grid(["region", "method", "runs"], headings(comparison.metrics), groups)


def paper_grid(comparison: Comparison) -> Grid | None:
    """Lay out the paper's table with these runs' values and the differences beneath its own; None where it has none."""
    if (paper := comparison.paper) is None:
        return None
    groups = []
    for row in comparison.rows:
        if row.condition in paper.rows:
            printed = [_value(*cell) for cell in paper.rows[row.condition].values()]
            ours = [row.cells.get(metric) for metric in comparison.metrics]
            values = [_value(c.mean, c.stderr, c.delta) if c else Entry(MISSING) for c in ours]
            groups.append(
                [
                    [Entry(row.region), Entry(row.method), Entry("paper"), *printed],
                    [Entry(""), Entry(""), Entry("these runs"), *values],
                    [Entry(""), Entry(""), Entry("difference"), *map(_difference, ours)],
                ]
            )
    return Grid(["region", "method", ""], headings(comparison.metrics), groups)


def headings(metrics: list[str]) -> list[str]:
    """Name columns for a reader: ``val/segm/AP_person`` is "AP person", or "mask AP person" beside other tasks."""
    names = [name.split("/", 2) for name in metrics]
    several = len({task for _, task, _ in names}) > 1
    return [(f"{TASKS[task]} " if several else "") + name.replace("_", " ", 1) for _, task, name in names]


def title(comparison: Comparison) -> str:
    """Say what the numbers of a comparison are."""
    tasks = dict.fromkeys(TASKS[name.split("/")[1]] for name in comparison.metrics)
    return f"{comparison.name}: {' and '.join(tasks)} AP in percent on original validation images"


def legend(comparison: Comparison) -> str:
    """Say how to read a cell of `results_grid`."""
    cells = [cell for row in comparison.rows for cell in row.cells.values()]
    parts = ["Mean ± standard error over runs (difference to original)."]
    if any(cell.best for cell in cells):
        parts.append("Bold: the best of a region's conditions.")
    if over := sorted({cell.interval.over for cell in cells if cell.interval is not None}):
        parts.append(f"*: the 95 % interval of the difference excludes 0; it is over {', or '.join(over)}.")
    return " ".join(parts)


def paper_legend(comparison: Comparison) -> str:
    """Say what stands in `paper_grid`."""
    return (
        f"Table {comparison.paper.number} of {comparison.paper.source}: {comparison.paper.caption}. "
        "Beneath its numbers those of these runs, and theirs minus the paper's; "
        "overlap, apart: whether the two intervals mean ± standard error, as printed, have anything in common."
    )


def as_text(grid: Grid, width: int) -> list[Table]:
    """Lay a grid out for a terminal of so many characters, in as many tables as its columns need."""
    count = max(1, (width - FIRST_WIDTH) // CELL_WIDTH)
    known = len(grid.left)
    tables = []
    for start in range(0, len(grid.metrics), count):
        table = Table()
        for name in grid.left:
            table.add_column(Text(name), no_wrap=True)
        for name in grid.metrics[start : start + count]:
            table.add_column(Text(name), justify="right")
        for group in grid.groups:
            for line in group:
                entries = [*line[:known], *line[known + start : known + start + count]]
                table.add_row(*map(_rich, entries), end_section=line is group[-1])
        tables.append(table)
    return tables


def as_markdown(comparison: Comparison) -> str:
    """Write the tables of a comparison, what they mean and what is wrong with its runs."""
    parts = [f"# {title(comparison)}", _markdown(results_grid(comparison)), legend(comparison).replace("*", r"\*")]
    if grid := paper_grid(comparison):
        parts += ["## Beside the paper", _markdown(grid), paper_legend(comparison)]
    if comparison.problems:
        parts += ["## Problems", "\n".join(f"- {problem}" for problem in comparison.problems)]
    return "\n\n".join(parts) + "\n"


def as_latex(grid: Grid, heading: str, note: str) -> str:
    r"""Write a grid as a ``tabular`` for ``\input``; the document needs booktabs."""
    lines = [
        f"% {heading}",
        f"% {note}",
        r"% Needs \usepackage{booktabs}. To the width of a page: \resizebox{\linewidth}{!}{\input{...}} of graphicx.",
        rf"\begin{{tabular}}{{{'l' * len(grid.left)}{'r' * len(grid.metrics)}}}",
        r"\toprule",
        " & ".join(name.translate(TEX) for name in [*grid.left, *grid.metrics]) + r" \\",
    ]
    for group in grid.groups:
        lines.append(r"\midrule")
        lines += [" & ".join(map(_tex, line)) + r" \\" for line in group]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def as_csv(comparison: Comparison) -> str:
    """Write a line for each condition and metric, numbers unrounded; what is missing is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(_record(comparison, comparison.rows[0], comparison.metrics[0])))
    writer.writeheader()
    writer.writerows(_record(comparison, row, metric) for row in comparison.rows for metric in comparison.metrics)
    return file.getvalue()


def as_json(comparisons: list[Comparison], problems: list[str]) -> str:
    """Write everything, numbers unrounded.

    Args:
        comparisons: with their runs and problems.
        problems: of reading the runs.
    """
    content = {"comparisons": [asdict(comparison) for comparison in comparisons], "problems": problems}
    return json.dumps(content, indent=1, default=str, ensure_ascii=False) + "\n"


def as_files(comparisons: list[Comparison], problems: list[str]) -> dict[str, str]:
    """Write every form of every table: the content of files by their names."""
    files = {"comparison.json": as_json(comparisons, problems)}
    for comparison in comparisons:
        name, heading = comparison.name, title(comparison)
        files[f"{name}.md"] = as_markdown(comparison)
        files[f"{name}.csv"] = as_csv(comparison)
        files[f"{name}.tex"] = as_latex(results_grid(comparison), heading, legend(comparison))
        if grid := paper_grid(comparison):
            files[f"{name}_paper.tex"] = as_latex(grid, heading, paper_legend(comparison))
    return files


def _entry(cell: Cell | None) -> Entry:
    if cell is None:
        return Entry(MISSING)
    return _value(cell.mean, cell.stderr, cell.delta, cell.best, bool(cell.interval and cell.interval.excludes_0))


def _value(mean: float, stderr: float | None, delta: float | None, bold: bool = False, marked: bool = False) -> Entry:
    value = f"{mean:.1f}" if stderr is None else f"{mean:.1f} ± {stderr:.1f}"
    return Entry(value, "" if delta is None else f"{delta:+z.1f}", bold, marked)


def _difference(cell: Cell | None) -> Entry:
    if cell is None or cell.published is None:
        return Entry("")
    overlaps = cell.published.overlaps
    return Entry(f"{cell.published.difference:+z.1f}", "" if overlaps is None else "overlap" if overlaps else "apart")


def _rich(entry: Entry) -> Text:
    text = Text(entry.value, "bold" if entry.bold else "")
    if entry.note:
        text.append(f"\n({entry.note}{'*' * entry.marked})", "not bold")
    return text


def _markdown(grid: Grid) -> str:
    head = [name.replace("|", r"\|") for name in [*grid.left, *grid.metrics]]
    rules = ["---"] * len(grid.left) + ["---:"] * len(grid.metrics)
    lines = [[_inline(entry, "**{}**", r"\*") for entry in line] for group in grid.groups for line in group]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rules, *lines])


def _tex(entry: Entry) -> str:
    value, note = (text.translate(TEX).replace("-", "$-$") for text in (entry.value, entry.note))
    return _inline(Entry(value, note, entry.bold, entry.marked), r"\textbf{{{}}}", "$^{*}$")


def _inline(entry: Entry, bold: str, star: str) -> str:
    value = bold.format(entry.value) if entry.bold else entry.value
    return f"{value} ({entry.note}{star * entry.marked})" if entry.note else value


def _record(comparison: Comparison, row: Row, metric: str) -> dict[str, Any]:
    cell = row.cells.get(metric)
    interval = cell.interval if cell else None
    published = cell.published if cell else None
    paper = comparison.paper.rows.get(row.condition, {}).get(metric) if comparison.paper else None
    return {
        "dataset": comparison.dataset,
        "experiment": comparison.experiment,
        "condition": row.condition,
        "region": row.region,
        "method": row.method,
        "metric": metric,
        "runs": row.runs,
        "mean": cell and cell.mean,
        "stderr": cell and cell.stderr,
        "delta": cell and cell.delta,
        "delta_low": interval and interval.low,
        "delta_high": interval and interval.high,
        "interval_over": interval and interval.over,
        "paper_mean": paper and paper.mean,
        "paper_stderr": paper and paper.stderr,
        "paper_delta": paper and paper.delta,
        "difference_to_paper": published and published.difference,
        "overlaps_paper": published and published.overlaps,
    }
