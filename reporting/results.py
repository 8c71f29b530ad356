"""The results of runs: as ``train.py`` leaves them in ``results.json``, or as W&B keeps them."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anonymization.conditions import parse_condition
from errors import UserError

NOT_OURS = (ValueError, KeyError, TypeError, AttributeError)  # raised by content that train.py has not written
HAS_NONE = "no finished training of a detector is in {where}"


@dataclass(frozen=True)
class Run:
    """One finished cell of the study, trained once."""

    path: Path  # results.json; of a run at W&B ENTITY/PROJECT/runs/ID
    name: str  # of the experiment: the config's
    dataset: str
    condition: str
    region: str
    method: str
    seed: int
    metrics: dict[str, float]  # AP in percent by name, e.g. ``val/segm/AP_person``; without what has no ground truth
    steps: int | None = None
    images_per_step: int | None = None  # of all devices
    config: dict[str, Any] = field(default_factory=dict)  # resolved, nested
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None  # of the code
    generators: dict[str, str] = field(default_factory=dict)  # names, with digests, by key
    device: str | None = None
    wall_time_s: float | None = None
    anonymized_regions: int | None = None
    copy: dict[str, Any] | None = None  # folder, sha256 and number of images of the anonymized copy trained on


def collect(paths: list[Path]) -> tuple[list[Run], list[str]]:
    """Read every ``results.json`` at or below the paths; the training of a generator is passed over.

    Returns:
        The runs in the order of their paths, and in a line each what could not be read.

    Raises:
        UserError: a path does not exist or holds no results, or there is no run of a detector.
    """
    runs, problems = [], []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; give folders that train.py wrote, or results.json files")
        files = [path] if path.is_file() else sorted(path.rglob("results.json"))
        if not files:
            raise UserError(f"{path} holds no results.json: no run below it has finished")
        for file in files:
            try:
                content = json.loads(file.read_text())
                if "condition" in content or "val/fid" not in content["metrics"]:
                    runs.append(_parse(file, content))
            except (OSError, *NOT_OURS) as error:
                problems.append(f"{file}: not a results.json of train.py: {_in_words(error)}; left out")
    if not runs:
        raise UserError("; ".join([HAS_NONE.format(where=" ".join(map(str, paths))), *problems]))
    return runs, problems


def collect_wandb(path: str) -> tuple[list[Run], list[str]]:
    """Read the finished runs of a W&B project or sweep; the training of a generator is passed over.

    Args:
        path: ``ENTITY/PROJECT`` or ``ENTITY/PROJECT/SWEEP``.

    Returns:
        The runs from the oldest to the newest, and in a line each what could not be read.

    Raises:
        UserError: the path is of another form, W&B cannot be asked, or there is no finished run of a detector.
    """
    import wandb

    parts = path.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise UserError(f"W&B: '{path}' is not of the form ENTITY/PROJECT or ENTITY/PROJECT/SWEEP")
    entity, project, *sweep = parts
    try:
        # Api itself would ask for a key on a terminal.
        if not wandb.login(prompt=False, verify=False):
            raise UserError("nobody is logged in; run `wandb login` or set WANDB_API_KEY, and leave WANDB_MODE alone")
        found = wandb.Api().runs(f"{entity}/{project}", {"sweep": sweep[0]} if sweep else {}, lazy=False)
        found = [(run.id, run.state, run.config, run.summary_metrics) for run in found]
    except Exception as error:  # the client's own, those of its service and of its HTTP library, by version
        raise UserError(f"W&B's {path} cannot be read: {error}") from None
    runs, problems, unfinished = [], [], 0
    for id_, state, config, summary in found:
        if "condition" not in config:
            continue
        if state != "finished":
            unfinished += 1
            continue
        place = Path(entity, project, "runs", id_)
        try:
            runs.append(_parse(place, _as_results(config, summary)))
        except NOT_OURS as error:
            problems.append(f"{place}: not a run of train.py: {_in_words(error)}; left out")
    if unfinished:
        problems.append(f"{path}: {unfinished} runs have not finished; left out")
    if not runs:
        raise UserError("; ".join([HAS_NONE.format(where=f"W&B's {path}"), *problems]))
    return runs, problems


def _as_results(config: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """Put a run's config and summary into the form of ``results.json``."""
    cell = {key: config[key] for key in ("dataset", "condition", "seed")}
    # Beside the resolved config a run has what it is found by, and every parameter of its sweep.
    own = {key: value for key, value in config.items() if key not in ("dataset", "region", "method", "cell")}
    # W&B writes NaN as a string.
    metrics = {
        key: value for key, value in summary.items() if key.startswith("val/") and isinstance(value, int | float)
    }
    return {**summary.get("results", {}), **cell, "metrics": metrics, "config": own}


def _parse(path: Path, content: dict[str, Any]) -> Run:
    condition = parse_condition(content["condition"])
    metrics = {name: float(value) for name, value in content["metrics"].items()}
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    if not any(name.startswith("val/") and name.endswith("/AP") for name in metrics):
        raise ValueError("it has no AP")
    return Run(
        path=path,
        name=str(content["config"]["name"]),
        dataset=str(content["dataset"]),
        condition=content["condition"],
        region=condition.region,
        method=condition.method,
        seed=int(content["seed"]),
        metrics=metrics,
        steps=content.get("steps"),
        # Results that do not say it are of one device.
        images_per_step=content.get("images_per_step") or content["config"].get("data", {}).get("batch_size"),
        config=content["config"],
        versions=content.get("versions") or {},
        commit=content.get("commit"),
        generators=content.get("generators") or {},
        device=content.get("device"),
        wall_time_s=content.get("wall_time_s"),
        anonymized_regions=content.get("anonymized_regions"),
        copy=content.get("copy"),
    )


def _in_words(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
