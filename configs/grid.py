"""W&B sweep files, expanded to the cells that W&B's grid search hands out, in its order."""

import itertools
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.files import read_mapping
from errors import UserError, nearest

MOST = 100_000  # cells
KEYS = ("program", "command", "method", "parameters")


@dataclass(frozen=True)
class Cell:
    """One combination of a grid's values."""

    parameters: dict[str, Any]
    command: list[str]


def read_cells(path: Path) -> list[Cell]:
    """Expand a sweep file's grid.

    As W&B does it (its package `sweeps`, ``grid_search.py``): the parameters in alphabetical order, the last one
    varies fastest.

    Raises:
        UserError: if it is no grid of flat parameters with a command.
    """
    sweep = read_mapping("sweep file", path, lambda path: yaml.safe_load(path.read_bytes()))
    for key in KEYS:
        if key not in sweep:
            raise UserError(f"{path}: {key} is missing")
    if sweep["method"] != "grid":
        raise UserError(f"{path}: method: '{sweep['method']}' cannot be run here; use grid")
    if not isinstance(sweep["parameters"], dict) or not sweep["parameters"]:
        raise UserError(f"{path}: parameters: {sweep['parameters']!r} are no mapping of names to values")
    for name in sweep["parameters"]:
        if not isinstance(name, str):
            raise UserError(f"{path}: parameters: {name!r} is no name; put it in quotes")
    grid = {name: _values(path, name, sweep["parameters"][name]) for name in sorted(sweep["parameters"])}
    if (cells := math.prod(map(len, grid.values()))) > MOST:
        raise UserError(f"{path}: parameters: a grid of {cells} cells is more than the {MOST} that are run")
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return [Cell(p, _command(path, sweep["command"], str(sweep["program"]), p)) for p in combinations]


def _values(path: Path, name: str, parameter: Any) -> list[Any]:
    """Return a parameter's values.

    Nested parameters are refused: W&B's grids over them are known to repeat and never to end (wandb/wandb issues 5698,
    1863, 11445).
    """
    if isinstance(parameter, dict) and "parameters" in parameter:
        raise UserError(f"{path}: parameters.{name}: is nested; give flat ones, e.g. '{name}.KEY: {{values: [...]}}'")
    if not isinstance(parameter, dict) or parameter.keys() not in ({"value"}, {"values"}):
        raise UserError(f"{path}: parameters.{name}: {parameter!r} has neither value nor values alone, as a grid needs")
    values = parameter["values"] if "values" in parameter else [parameter["value"]]
    if not isinstance(values, list) or not values:
        raise UserError(f"{path}: parameters.{name}.values: {values!r} is no list of values")
    for value in values:
        if isinstance(value, (dict, list)):
            raise UserError(f"{path}: parameters.{name}: {value!r} is no scalar")
        if values.count(value) > 1:
            raise UserError(f"{path}: parameters.{name}: {value!r} is there twice")
    return values


def _command(path: Path, template: Any, program: str, parameters: dict[str, Any]) -> list[str]:
    """Fill W&B's macros in."""
    plain = [f"{name}={value}" for name, value in parameters.items()]
    macros = {
        "${env}": [],
        "${interpreter}": [sys.executable],  # W&B's agent takes the `python` of its PATH
        "${program}": [program],
        "${args}": [f"--{argument}" for argument in plain],
        "${args_no_hyphens}": plain,
    }
    if not isinstance(template, list):
        raise UserError(f"{path}: command: {template!r} is no list")
    command = []
    for item in map(str, template):
        if item.startswith("${") and item not in macros:
            raise UserError(f"{path}: command: unknown macro '{item}'{nearest(item, macros)}")
        command += macros.get(item, [item])
    return command
