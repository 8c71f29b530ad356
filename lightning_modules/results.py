"""A run's folder: which run it belongs to, and the ``results.json`` that it ends with."""

import fcntl
import json
import os
import platform
import subprocess
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from anonymization.conditions import parse_condition
from configs import INCIDENTAL, Config, Experiment, flat, load_config, without_effect
from errors import UserError
from outputs import write_atomically

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "wandb",
    "faster-coco-eval",
    "albumentations",
)


LOCK = ".lock"
WANDB_ID = "wandb-id"  # in a run's folder: the id of its W&B run
PATIENCE = 5  # seconds for a run that is just ending, e.g. after Ctrl-C
_held: list[int] = []


def find_run_dir(config: Experiment) -> Path:
    """Name the run's folder, there or not."""
    return Path(config.output_dir) / run_name(config)


def run_name(config: Experiment) -> str:
    """Name a run by its cell: ``cityscapes-body-blur-seed0``; a generator's has no condition."""
    condition = f"-{config.condition.replace('/', '-')}" if isinstance(config, Config) else ""
    return f"{config.name}{condition}-seed{config.seed}"


def check_run_dir(config: Experiment, begun: bool = False) -> Path:
    """Return the run's folder, there or not.

    Args:
        config: of the run.
        begun: a run holds the folder by its settings alone. Else one that ended before its first epoch did, as by a
            mistyped setting, leaves it to the next.

    Raises:
        UserError: if it holds a run with other settings, or cannot be read.
    """
    run_dir = find_run_dir(config)
    path = run_dir / "config.yaml"
    try:
        if not path.exists() or not (begun or _has_something_to_lose(run_dir)):
            return run_dir
        theirs = _essential(load_config(path, schema=type(config)))
    except OSError as error:
        raise UserError(f"output_dir: {run_dir} cannot be read: {error}") from None
    mine = _essential(config)
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            raise UserError(
                f"{run_dir} holds a run with {key}={theirs.get(key)}, this one has {mine.get(key)}; "
                "choose another output_dir or remove the folder"
            )
    return run_dir


def claim_run_dir(config: Experiment) -> Path:
    """Make the run's folder, or take up the one of the same run. Of several processes the first does.

    It keeps other processes out until this one ends, in whatever way.

    Raises:
        UserError: if the folder holds a run with other settings, cannot be written, or another process trains it.
    """
    run_dir = check_run_dir(config)
    if rank_zero_only.rank != 0:
        return run_dir
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _hold(run_dir)
        check_run_dir(config)  # once more: while this one waited, the other may have finished an epoch
        path, settings = run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config))
        if path.exists() and path.read_text() != settings and not _has_something_to_lose(run_dir):
            (run_dir / WANDB_ID).unlink(missing_ok=True)  # that run is another
        write_atomically(path, settings)
    except OSError as error:
        raise UserError(f"output_dir: {run_dir} cannot be written: {error}") from None
    return run_dir


def _has_something_to_lose(run_dir: Path) -> bool:
    return (run_dir / "checkpoints" / "last.ckpt").exists() or (run_dir / "results.json").exists()


def _hold(run_dir: Path) -> None:
    lock = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                raise UserError(f"{run_dir} is being written by another process that trains this run") from None
            time.sleep(0.1)
        else:
            _held.append(lock)  # closing it would let go
            return


def is_held(run_dir: Path) -> bool:
    """Say whether another process, on this machine or another one with the same disk, trains this run."""
    try:
        with (run_dir / LOCK).open("r+") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def write_results(run_dir: Path, config: Experiment, measured: dict[str, Any]) -> Path:
    """Write ``results.json``: the cell, its resolved config, versions, and what was measured."""
    results = {
        **cell(config),
        "seed": config.seed,
        **measured,
        "versions": versions(),
        "config": asdict(config),
    }
    path = run_dir / "results.json"
    write_atomically(path, json.dumps(results, indent=2) + "\n")
    return path


def cell(config: Experiment) -> dict[str, str]:
    """Name the cell of the study that a run is of; a generator's has a region alone."""
    if not isinstance(config, Config):
        return {"dataset": config.data.name, "region": config.generator.region}
    condition = parse_condition(config.condition)
    return {
        "dataset": config.data.name,
        "condition": config.condition,
        "region": condition.region,
        "method": condition.method,
    }


def versions() -> dict[str, str]:
    """Name the versions that a result may depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def commit() -> str | None:
    """Name the commit of the code, with ``-dirty`` where files differ from it; None outside a git repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def device_name(device: torch.device) -> str:
    """Name the hardware in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _essential(config: Experiment) -> dict[str, Any]:
    """Flatten a config to dotted keys, without what is incidental, or is nothing to the condition."""
    left_out = (*INCIDENTAL, *(without_effect(config.condition) if isinstance(config, Config) else ()))
    return {key: value for key, value in flat(asdict(config)).items() if not key.startswith(left_out)}
