"""The comparison of an experiment's conditions, as the paper makes it: mean, standard error, difference to original."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from anonymization.conditions import CONDITIONS, parse_condition
from configs import INCIDENTAL, flat, without_effect
from reporting.code import same_code
from reporting.paper import PaperCell, PaperTable, find_table, paper_tables
from reporting.results import Run
from reporting.significance import Interval, delta_intervals, per_image_problems

# Settings in which runs of a comparison may differ: the cell itself, and what makes no difference to what is measured.
FREE = (
    *("name", "seed", "condition", "anonymization.copy", "data.index_dir"),
    *INCIDENTAL,
)
CLASSES = 40  # and overall measures, that a table has at most
NAMED = 3  # runs that a problem names; more are counted


@dataclass(frozen=True)
class Published:
    """What the paper printed for a cell, beside ours."""

    mean: float
    stderr: float
    delta: float | None
    difference: float  # our mean minus the paper's
    overlaps: bool | None  # whether the two intervals mean ± stderr, as printed, do; None for one run


@dataclass(frozen=True)
class Cell:
    """One metric under one condition, in AP percent; nothing is rounded."""

    mean: float
    stderr: float | None  # of the mean over runs; None for one run
    delta: float | None  # to the mean of original; None for original itself, or without it
    interval: Interval | None = None  # of the delta, 95 %
    best: bool = False  # of the conditions of its region, which are two at least; all are that print alike
    published: Published | None = None


@dataclass(frozen=True)
class Row:
    """One condition."""

    condition: str
    region: str
    method: str
    runs: int
    cells: dict[str, Cell]  # by metric; what no run has measured is missing


@dataclass(frozen=True)
class Comparison:
    """The conditions of one experiment on one dataset."""

    name: str  # ``cityscapes``, or ``streetscenes-quickstart`` where experiment and dataset differ; fit for a file
    dataset: str
    experiment: str
    metrics: list[str]  # the columns, in the paper's order
    rows: list[Row]  # in the order of `anonymization.conditions`; the paper's conditions also without a run
    runs: list[Run]  # that are counted
    problems: list[str]  # a line each
    paper: PaperTable | None  # where the experiment is one of the paper's


def compare(runs: list[Run]) -> list[Comparison]:
    """Make a comparison of each experiment on each dataset, in the order of their names.

    Args:
        runs: of a cell that is there twice with different results the first is taken.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.dataset, run.name), []).append(run)
    comparisons = [_compare(*key, group) for key, group in groups.items()]
    return sorted(comparisons, key=lambda comparison: comparison.name)


def printed(number: float) -> float:
    """Round as the tables do, to one decimal."""
    return float(f"{number:.1f}")


def _compare(dataset: str, experiment: str, runs: list[Run]) -> Comparison:
    runs, problems = _one_per_cell(runs)
    tables = [find_table(run.config) for run in runs]
    paper = tables[0] if all(table is tables[0] for table in tables) else None
    metrics = list(paper.metrics) if paper else _columns(runs)
    conditions = [c for c in CONDITIONS if any(run.condition == c for run in runs) or (paper and c in paper.rows)]
    rows = _with_best([_row(condition, runs, metrics, paper) for condition in conditions])
    problems += [*_no_original(runs), *_nobody(runs), *_different_settings(runs), *_different_people(runs)]
    problems += [*_different_versions(runs), *_gaps(runs, metrics)]
    problems += per_image_problems(runs, metrics)
    problems += _other_model(runs, paper) if paper else []
    name = dataset if dataset == experiment else f"{dataset}-{experiment}"
    return Comparison(re.sub(r"[^\w.-]", "_", name), dataset, experiment, metrics, rows, runs, problems, paper)


def _columns(runs: list[Run]) -> list[str]:
    """Choose the columns as table 2 has them for keypoints, else as table 1: AP, AP50, people, the other classes.

    Of more than `CLASSES` the others are left out, as in the paper's tables of COCO.
    """
    names = {name for run in runs for name in run.metrics}
    tables = paper_tables()
    if any(name.startswith("val/keypoints/") for name in names):
        return [name for name in tables[1].metrics if name in names]
    task = "val/segm/AP" if "val/segm/AP" in names else "val/bbox/AP"
    sizes = {f"{task}_{size}" for size in ("s", "m", "l")}
    first = [f"{task}{part}" for part in ("", "50", "_person", "_pedestrian")]
    others = [name.replace("val/segm/AP", task) for name in tables[0].metrics]
    rest = sorted(name for name in names - sizes if name.startswith(f"{task}_"))
    columns = [name for name in dict.fromkeys([*first, *others, *rest]) if name in names]
    return columns if len(columns) <= CLASSES else [name for name in columns if name in first]


def _row(condition: str, runs: list[Run], metrics: list[str], paper: PaperTable | None) -> Row:
    originals = [run for run in runs if run.condition == "original"] if condition != "original" else []
    own = [run for run in runs if run.condition == condition]
    intervals = delta_intervals(own, originals, metrics) if own and originals else {}
    printed_row = paper.rows.get(condition, {}) if paper else {}
    cells = {}
    for metric in metrics:
        values, reference = ([r.metrics[metric] for r in rs if metric in r.metrics] for rs in (own, originals))
        if values:
            mean = fmean(values)
            stderr = stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            delta = mean - fmean(reference) if reference else None
            published = _beside(mean, stderr, printed_row[metric]) if metric in printed_row else None
            cells[metric] = Cell(mean, stderr, delta, intervals.get(metric), published=published)
    of = parse_condition(condition)
    return Row(condition, of.region, of.method, len(own), cells)


def _beside(mean: float, stderr: float | None, paper: PaperCell) -> Published:
    # Both as printed, which is all that is known of the paper's, so that a reader of the table comes to the same.
    overlaps = None
    if stderr is not None:
        apart = abs(printed(mean) - paper.mean)
        overlaps = apart <= printed(stderr) + paper.stderr + 1e-6
    return Published(*paper, mean - paper.mean, overlaps)


def _with_best(rows: list[Row]) -> list[Row]:
    means: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for metric, cell in row.cells.items():
            means.setdefault((row.region, metric), []).append(printed(cell.mean))

    def is_best(row: Row, metric: str) -> bool:
        group = means[row.region, metric]
        return len(group) > 1 and printed(row.cells[metric].mean) == max(group)

    return [replace(r, cells={m: replace(c, best=is_best(r, m)) for m, c in r.cells.items()}) for r in rows]


def _one_per_cell(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """Leave the first run of each cell; a copy of a run's results is no second run."""
    cells: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        found = cells.setdefault((run.condition, run.seed), [])
        if all(replace(run, path=other.path) != other for other in found):
            found.append(run)
    problems = [
        f"{condition} seed {seed}: is there with different results; {first.path} is used, left out is "
        + " and ".join(str(run.path) for run in others)
        for (condition, seed), (first, *others) in cells.items()
        if others
    ]
    return [first for first, *_ in cells.values()], problems


def _no_original(runs: list[Run]) -> list[str]:
    if any(run.condition == "original" for run in runs):
        return []
    return ["original: has no run, so there are no differences to it"]


def _nobody(runs: list[Run]) -> Iterator[str]:
    for condition in dict.fromkeys(run.condition for run in runs if run.condition != "original"):
        untouched = [run for run in runs if run.condition == condition and run.anonymized_regions == 0]
        if untouched:
            yield f"{condition}: no region was anonymized in {_runs(untouched)}, trained on originals therefore"


def _different_settings(runs: list[Run]) -> Iterator[str]:
    settings = [flat(run.config) | {"steps": run.steps} for run in runs]
    free = [(*FREE, *without_effect(run.condition)) for run in runs]
    for key in sorted({key for of_run in settings for key in of_run}):
        values = [
            (run, of_run.get(key, "not set"))
            for run, of_run, left_out in zip(runs, settings, free, strict=True)
            if not key.startswith(left_out)
        ]
        yield from _disagreement(f"settings differ: {key}", values)


def _different_people(runs: list[Run]) -> Iterator[str]:
    """Name generators that are others under one name, and copies of one condition and seed that are not the same."""
    for key in sorted({key for run in runs for key in run.generators}):
        values = [(run, run.generators[key]) for run in runs if key in run.generators]
        yield from _disagreement(f"generators differ: {key}", values)
    copies: dict[tuple[str, int], list[tuple[Run, str]]] = {}
    for run in runs:
        seed = run.config.get("anonymization", {}).get("seed")
        if run.copy is not None:
            key = run.condition, run.seed if seed is None else seed
            copies.setdefault(key, []).append((run, run.copy["sha256"][:12]))
    for (condition, _), values in copies.items():
        yield from _disagreement(f"copies differ: {condition}", values)


def _different_versions(runs: list[Run]) -> Iterator[str]:
    code = same_code(run.commit for run in runs if run.commit)
    versions = [run.versions | ({"commit of the code": code[run.commit]} if run.commit else {}) for run in runs]
    for package in sorted({package for of_run in versions for package in of_run}):
        known = [(run, of_run[package]) for run, of_run in zip(runs, versions, strict=True) if package in of_run]
        yield from _disagreement(f"versions differ: {package}", known)


def _disagreement(what: str, values: list[tuple[Run, Any]]) -> Iterator[str]:
    """Say which value which runs have, the most frequent one first, where there are several."""
    groups: dict[str, list[Run]] = {}
    for run, value in values:
        groups.setdefault(str(value), []).append(run)
    if len(groups) > 1:
        parts = sorted(groups.items(), key=lambda group: -len(group[1]))
        yield f"{what} is " + "; ".join(f"{value} in {_runs(own)}" for value, own in parts)


def _runs(runs: list[Run]) -> str:
    names = [f"{run.condition} seed {run.seed}" for run in runs]
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} runs"


def _gaps(runs: list[Run], metrics: list[str]) -> Iterator[str]:
    for condition in dict.fromkeys(run.condition for run in runs):
        own = [run for run in runs if run.condition == condition]
        for metric in metrics:
            without = sum(metric not in run.metrics for run in own)
            if 0 < without < len(own):
                yield f"{condition}: {without} of {len(own)} runs have no {metric}; its mean is of the others"


def _other_model(runs: list[Run], paper: PaperTable) -> Iterator[str]:
    models = {str(run.config.get("model", {}).get("name")) for run in runs} - {paper.model}
    if models:
        yield f"model.name is {', '.join(sorted(models))}; table {paper.number} of the paper is of {paper.model}"
