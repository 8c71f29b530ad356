"""What figures and sentences are made of: a comparison's main metrics, its runs, their curves, and audits."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from errors import UserError
from reporting.comparison import Cell, Comparison, Row
from reporting.results import Run
from reporting.significance import delta_intervals

TASKS = ("keypoints", "segm", "bbox")  # of several the first is what a dataset is about
# By the area of an object in pixels, as COCO's evaluation has them (Lin et al. 2014).
SIZES = {
    "val/bbox/AP_s": "small\n< 32²",
    "val/bbox/AP_m": "medium\n32² to 96²",
    "val/bbox/AP_l": "large\n> 96²",
}
RESAMPLES = 2000  # of the images of an audit
AUDIT = ("condition", "source", "manifest_sha256", "before", "after", "per_image")  # what is needed of an audit.json


def read_audits(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Read ``audit.json`` files.

    Args:
        paths: the files, or the audited copies' folders.

    Raises:
        UserError: one is not there, or is not audit.py's.
    """
    audits = []
    for path in paths:
        file = path / "audit.json" if path.is_dir() else path
        try:
            audit = json.loads(file.read_text())
            audits.append({key: audit[key] for key in AUDIT})
        except FileNotFoundError:
            raise UserError(f"{file} does not exist; python audit.py DIR writes it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: is not an audit.json of audit.py: {error!r}") from None
    return audits


def read_curve(run: Run, metric: str) -> dict[int, float]:
    """Read a metric over training from the logs beside a run's results: AP in percent by step, the last one the result.

    A run that was interrupted has a log for each start; what a later one repeats is taken from it.
    """
    curve: dict[int, float] = {}
    logs = {log.parent.name.removeprefix("version_"): log for log in run.path.parent.glob("csv/version_*/metrics.csv")}
    for _, log in sorted((int(version), log) for version, log in logs.items() if version.isdecimal()):
        with log.open(newline="") as file:
            lines = [line for line in csv.DictReader(file) if line.get("step")]
        start = min((int(line["step"]) for line in lines if line.get("epoch")), default=math.inf)
        curve = {step: value for step, value in curve.items() if step < start}
        curve |= {int(line["step"]): float(line[metric]) for line in lines if line.get(metric)}
    if curve and run.steps is not None and metric in run.metrics:
        curve = {step: value for step, value in curve.items() if step < run.steps} | {run.steps: run.metrics[metric]}
    return curve


def regions_per_image(run: Run) -> float | None:
    """Say how many regions were anonymized in a training image on average; None where the results do not say it."""
    if run.copy is not None:  # each image counted once
        images = run.copy.get("images")
    else:
        images = run.steps and run.images_per_step and run.steps * run.images_per_step
    return run.anonymized_regions / images if images and run.anonymized_regions is not None else None


def main_metric(comparison: Comparison) -> str:
    """The overall AP of the dataset's task."""
    return next((m for task in TASKS if (m := f"val/{task}/AP") in comparison.metrics), comparison.metrics[0])


def people_metric(comparison: Comparison) -> str | None:
    """The AP of people, of the dataset's task if it can be: of their keypoints the overall AP."""
    classes = [f"val/{task}/AP_{name}" for task in TASKS for name in ("person", "pedestrian")]
    return next((m for m in ("val/keypoints/AP", *classes) if m in comparison.metrics), None)


def runs_of(comparison: Comparison, condition: str) -> list[Run]:
    """Select the runs of a condition."""
    return [run for run in comparison.runs if run.condition == condition]


def changes_of(comparison: Comparison, metric: str | None) -> list[tuple[Row, Cell]]:
    """The conditions with a difference to the originals in a metric."""
    return [(r, r.cells[metric]) for r in comparison.rows if metric in r.cells and r.cells[metric].delta is not None]


def changes_by_amount(comparison: Comparison) -> list[tuple[float, Row, Cell]]:
    """The changes of people's AP, each with the regions in an image on average, where that is known."""
    changes = []
    for row, cell in changes_of(comparison, people_metric(comparison)):
        known = [a for run in runs_of(comparison, row.condition) if (a := regions_per_image(run)) is not None]
        if known:
            changes.append((fmean(known), row, cell))
    return changes


def changes_by_size(runs: list[Run], originals: list[Run]) -> dict[str, Cell]:
    """The cells of box AP by size, which not every table has."""
    metrics = [m for m in SIZES if all(m in run.metrics for run in (*runs, *originals))]
    intervals = delta_intervals(runs, originals, metrics)
    means, reference = ({m: fmean(run.metrics[m] for run in side) for m in metrics} for side in (runs, originals))
    return {m: Cell(means[m], None, means[m] - reference[m], intervals.get(m)) for m in metrics}


def audit_of(runs: list[Run], audits: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Find the audit of the runs' condition: of one of their copies, or else of a copy of a folder of their name."""
    copies = {run.copy["sha256"] for run in runs if run.copy is not None}
    roots = {Path(run.config["data"].get("root", "")).name for run in runs}
    for audit in audits:
        is_theirs = audit["manifest_sha256"] in copies if copies else roots == {Path(audit["source"]).name}
        if runs and audit["condition"] == runs[0].condition and is_theirs:
            return audit
    return None


def audited(comparison: Comparison, audits: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The audits by condition: of those with an AP, where the audit has found faces before the anonymization."""
    metric = people_metric(comparison) or main_metric(comparison)
    found = {row.condition: audit_of(runs_of(comparison, row.condition), audits) for row in comparison.rows}
    with_ap = {row.condition for row in comparison.rows if metric in row.cells}
    return {c: audit for c, audit in found.items() if audit and audit["before"]["inside"] and c in with_ap}


def share_found(audit: dict[str, Any]) -> tuple[float, float, float]:
    """Faces found in regions, in percent of those before: the share, and around it its 95 % interval over images."""
    images = [(image["before"]["inside"], image["after"]["inside"]) for image in audit["per_image"].values()]
    counts = np.array(images, float)
    picks = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    before, after = counts[picks].sum(1).T
    low, high = np.percentile(100 * after[before > 0] / before[before > 0], (2.5, 97.5))
    return float(low), 100 * audit["after"]["inside"] / audit["before"]["inside"], float(high)
