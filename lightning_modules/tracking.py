"""Weights & Biases: how a run is found there, what its metrics mean, what its summary and artifacts hold."""

import json
import os
import secrets
import ssl
import urllib.error
import urllib.request
from dataclasses import asdict
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from configs import Experiment
from errors import UserError, nearest
from lightning_modules.results import WANDB_ID, cell, is_held
from outputs import write_atomically

if TYPE_CHECKING:
    from wandb import Run

MODES = ("auto", "online", "offline", "disabled")
ARTIFACTS = ("results", "checkpoints")
FINISHED = "wandb-finished"  # in a run's folder: the id of the W&B run that has all of it
ELSEWHERE = ("dataset", "condition", "region", "method", "seed", "metrics", "best", "config")  # config and summary
# Seconds to reach the server at the start, and to upload what is left at the end (W&B's own: for ever).
TIMEOUTS = {"WANDB_INIT_TIMEOUT": "60", "WANDB_FINISH_TIMEOUT": "600"}


def build_wandb_logger(config: Experiment, run_dir: Path) -> list[WandbLogger]:
    """Build the run's logger: one in process zero, none where W&B is disabled.

    The run has the id that W&B's agent gave it, else the one of its folder: started again, it goes on.

    Raises:
        UserError: for an unknown mode or artifact, where ``wandb.mode=online`` and nobody is logged in or the server
            cannot be reached, or for settings in the environment that the client refuses.
    """
    settings = config.wandb
    if settings.mode not in MODES:
        raise UserError(f"wandb.mode: unknown '{settings.mode}'{nearest(settings.mode, MODES)}")
    for name in settings.artifacts:
        if name not in ARTIFACTS:
            raise UserError(f"wandb.artifacts: unknown '{name}'{nearest(name, ARTIFACTS)}")
    for name, seconds in TIMEOUTS.items():  # the client reads them when it is first asked for anything
        os.environ.setdefault(name, seconds)
    mode = settings.mode
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "auto")
    if mode == "disabled" or rank_zero_only.rank != 0:
        return []
    try:
        if mode in ("auto", "online"):
            if _has_credentials():
                _reach_server()
                wandb.login(prompt=False)
                mode = "online"
            elif mode == "auto":
                mode = "offline"
            else:
                raise UserError(
                    "wandb.mode: 'online', but nobody is logged in"
                    + (f" under WANDB_MODE={os.environ['WANDB_MODE']}" if "WANDB_MODE" in os.environ else "")
                    + "; run `wandb login`, or use wandb.mode=offline"
                )
        return [_start(config, run_dir, mode)]
    except UserError:
        raise
    except ValueError as error:  # pydantic's, with a line for each setting
        raise UserError(f"W&B's settings, of the environment too: {' '.join(str(error).split())}") from None
    except wandb.Error as error:
        reason = " ".join(str(error).split())
        if settings.mode == "online":
            raise UserError(f"wandb.mode: 'online', but W&B cannot be used: {reason}") from None
        wandb.teardown()
        logger = _start(config, run_dir, "offline")
        print(f"W&B cannot be used: {reason}; the run is kept: wandb sync {Path(logger.experiment.dir).parent}")
        return [logger]


def _has_credentials() -> bool:
    """Return whether somebody is logged in; silently, for the client asks its server for the name that it prints."""
    settings = wandb.setup().settings
    silent, settings.silent = settings.silent, True
    try:
        return wandb.login(prompt=False, verify=False)
    finally:
        settings.silent = silent


def _reach_server() -> None:
    """Ask W&B's server for any answer before its client does: without one, the client at times never ends.

    Raises:
        wandb.Error: where nothing answers.
    """
    address = wandb.setup().settings.base_url
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except urllib.error.HTTPError:  # an answer
        pass
    except (OSError, HTTPException) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):
            return  # an answer too; whether its certificate is good the client knows by settings of its own
        raise wandb.Error(f"{address} does not answer ({getattr(error, 'reason', error)})") from None


def _start(config: Experiment, run_dir: Path, mode: str) -> WandbLogger:
    of = cell(config)
    logger = WandbLogger(
        name=run_dir.name,
        id=_run_id(run_dir),
        resume=None if mode == "offline" else "allow",  # offline there is nothing to resume from
        project=config.wandb.project,
        entity=config.wandb.entity,
        save_dir=run_dir.parent,  # the runs together: `wandb sync` and `wandb leet` take a folder of them
        group=f"{of['dataset']}/{of.get('condition', 'generator')}",
        tags=[of["dataset"], of["region"], of.get("method", "generator"), f"seed{config.seed}"],
        config=asdict(config) | of,
        job_type="train" if "method" in of else "train-generator",
        mode=mode,
        settings=wandb.Settings(finish_timeout_raises=True),
    )
    _ = logger.experiment  # starts the run, so that what is wrong shows now
    return logger


def _run_id(run_dir: Path) -> str:
    """Return the id of W&B's agent, else that of the run's folder, made on its first start."""
    if "WANDB_RUN_ID" in os.environ:
        return os.environ["WANDB_RUN_ID"]
    path = run_dir / WANDB_ID
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, secrets.token_hex(4))
    return path.read_text()


def preempted() -> None:
    """Tell W&B that a cluster took the machine away, so that its sweep hands the cell out again.

    Only under SLURM: elsewhere the signal may come from the stop button of W&B's page, through its agent.
    """
    if wandb.run is not None and "SLURM_JOB_ID" in os.environ:
        wandb.run.mark_preempting()


def finish(config: Experiment, run_dir: Path) -> None:
    """Complete the run's summary, upload its artifacts and end it. Where W&B fails, say so and go on.

    The summary has the last validation's metrics already (they were logged); the best over training are added as
    ``best/val/segm/AP``, and what else is in ``results.json`` as ``results``: report.py reads it there.

    Args:
        config: of the run.
        run_dir: its folder, with ``results.json``.
    """
    if (run := wandb.run) is None:
        return
    kept, id_ = Path(run.dir).parent, run.id
    results = json.loads((run_dir / "results.json").read_text())
    try:
        run.summary.update({f"best/{name}": value for name, value in results.get("best", {}).items()})
        run.summary["results"] = {key: value for key, value in results.items() if key not in ELSEWHERE}
        _log_class_tables(run, results["metrics"])
        _log_artifacts(run, config.wandb.artifacts, run_dir)
    except Exception as error:  # not all that the client raises when its server is gone is a wandb.Error
        print(f"W&B failed: {' '.join(str(error).split())}")
    try:
        wandb.finish()
    except TimeoutError:
        print(f"W&B did not take everything; the run is kept: wandb sync --include-online {kept}")
    else:
        write_atomically(run_dir / FINISHED, id_)


def finish_done(config: Experiment, run_dir: Path) -> None:
    """Give W&B the results of a run that is done already, where it has not got them: nothing of its course.

    So it is where a run was killed while it uploaded them, or a sweep has a cell that was trained without it.
    """
    marker = run_dir / FINISHED
    if is_held(run_dir) or (marker.exists() and marker.read_text() == _run_id(run_dir)):
        return
    results = json.loads((run_dir / "results.json").read_text())
    for logger in build_wandb_logger(config, run_dir):
        logger.log_metrics(results["metrics"], results["steps"])
        finish(config, run_dir)


def uploads_images(config: Experiment) -> bool:
    """Say whether W&B gets pictures of images: as ``wandb.images`` says, by default of drawn scenes alone."""
    is_drawn = config.data.streetscenes is not None
    return is_drawn if config.wandb.images is None else config.wandb.images


def _log_class_tables(run: "Run", metrics: dict[str, float]) -> None:
    """Log a table of AP and AP50 by class for each of boxes and masks: ``per_class/segm``."""
    for task in sorted({name.split("/")[1] for name in metrics}):
        prefix = f"val/{task}/AP_"
        sizes = {f"{prefix}{size}" for size in ("s", "m", "l")}
        classes = [n.removeprefix(prefix) for n in metrics if n.startswith(prefix) and n not in sizes]
        if classes:
            rows = [[c, metrics[prefix + c], metrics.get(f"val/{task}/AP50_{c}")] for c in classes]
            run.log({f"per_class/{task}": wandb.Table(columns=["class", "AP", "AP50"], data=rows)})


def _log_artifacts(run: "Run", names: list[str], run_dir: Path) -> None:
    files = {
        "results": [run_dir / "results.json", *run_dir.glob("matches.npz")],  # a generator's has no matches
        "checkpoints": sorted((run_dir / "checkpoints").glob("*.ckpt")),
    }
    for name in names:
        artifact = wandb.Artifact(f"{run_dir.name}-{name}", "results" if name == "results" else "model")
        for file in files[name]:
            artifact.add_file(str(file))
        run.log_artifact(artifact)
