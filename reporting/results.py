"""The results of runs, as ``train.py`` leaves them in ``results.json``."""

import json
from dataclasses import dataclass
from pathlib import Path

from errors import UserError


@dataclass(frozen=True)
class Run:
    """One finished cell of the study."""

    path: Path
    dataset: str
    condition: str
    seed: int
    metrics: dict[str, float]  # AP in percent by name, e.g. ``val/segm/AP_person``


def collect(paths: list[Path]) -> list[Run]:
    """Find every ``results.json`` at or below the paths.

    Raises:
        UserError: if a path does not exist, holds no results, or a file is not one of train.py's.
    """
    runs = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; give folders that train.py wrote, or results.json files")
        files = [path] if path.is_file() else sorted(path.rglob("results.json"))
        if not files:
            raise UserError(f"{path} holds no results.json: no run below it has finished")
        runs += [_read(file) for file in files]
    return runs


def _read(path: Path) -> Run:
    try:
        content = json.loads(path.read_text())
        fields = {key: content[key] for key in ("dataset", "condition", "seed", "metrics")}
        return Run(path, **fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a results.json of train.py: {error!r}") from None
