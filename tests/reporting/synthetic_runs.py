"""Runs that nobody trained."""

import json
from pathlib import Path

from anonymization.conditions import parse_condition
from reporting.results import Run

VERSIONS = {"python": "3.11.7", "torch": "2.14.1"}


def run(condition, seed, metrics, name="e", dataset="d", path=None, config=None, **other):
    of = parse_condition(condition)
    path = path or Path(f"{name}-{condition.replace('/', '-')}-seed{seed}") / "results.json"
    config = {"name": name, "seed": seed, "condition": condition, "data": {"name": dataset}, **(config or {})}
    return Run(path, name, dataset, condition, of.region, of.method, seed, metrics, config=config, **other)


def runs_of_paper(table):
    """Two runs of each condition of a table: mean - error and mean + error have this mean and this standard error."""
    name = table.datasets[0]
    data = {"name": name, "layout": table.layout, "ignore_classes": [*table.ignore_classes], "streetscenes": None}
    config = {"data": data, "model": {"name": table.model}}
    return [
        run(condition, seed, {m: c.mean + side * c.stderr for m, c in cells.items()}, name, name, config=config)
        for condition, cells in table.rows.items()
        for seed, side in enumerate((-1, 1))
    ]


def write(run, folder):
    """Write a run's results.json as train.py does, without what a test does not ask for."""
    path = folder / run.path
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = {"dataset": run.dataset, "condition": run.condition, "region": run.region, "method": run.method}
    content = {**cell, "seed": run.seed, "metrics": run.metrics, "steps": run.steps, "versions": run.versions}
    path.write_text(json.dumps({**content, "config": run.config}, indent=2))
    return path
