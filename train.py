"""Train and evaluate one cell of the study: a dataset under one condition, with one seed. Or train a generator."""

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from errors import UserError, script

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
    from pytorch_lightning.loggers import Logger

    from configs import Config, Experiment, GeneratorExperiment

EPILOG = """keys that every experiment has:
  condition             original, face/blur, body/mask_out, ...
  seed                  fixes data order, anonymization and weights
  data.root             the dataset's folder
  anonymization.copy    train on this folder, which anonymize.py wrote, rather than anonymize every batch
  data.batch_size, data.num_workers
  model.*, optimizer.*  see configs/__init__.py
  trainer.*             arguments of Lightning's Trainer; max_steps wins over optimizer.steps
  output_dir            the run writes to output_dir/NAME-CONDITION-seedSEED
  wandb.mode            auto (online where logged in), online, offline, disabled
  wandb.artifacts       what is uploaded of [results, checkpoints]

a generator, configs/generators/*.yaml: generator.* instead of condition, model and optimizer; see configs/generator.py

examples: python train.py --config configs/quickstart.yaml condition=body/blur seed=1
          python train.py --config configs/generators/streetscenes_body.yaml
"""


@script
def main() -> None:
    """Run the cell that the command line describes."""
    # oneDNN keeps a compiled primitive with its memory for each shape it meets, 1,024 of them, and a detector's shapes
    # are always new: more than 1 GB over a training on a CPU. With 64 a step of a small model takes a sixth longer.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    from configs import Config

    config = read_config(sys.argv[1:])

    from lightning_modules.mishaps import naming_mishaps
    from lightning_modules.results import find_run_dir

    with naming_mishaps(find_run_dir(config)):
        if isinstance(config, Config):
            train(config)
        else:
            train_generator(config)


def read_config(arguments: list[str]) -> "Config | GeneratorExperiment":
    """Read the config that the command line describes.

    Raises:
        UserError: see `configs.load_config`.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="experiment file, e.g. configs/quickstart.yaml")
    what.add_argument("--cell", help="experiment file and condition in one, e.g. configs/quickstart.yaml:body/blur")
    known, overrides = parser.parse_known_args(arguments)

    from configs import GeneratorExperiment, load_cell, load_config, trains_generator

    if known.cell:
        return load_cell(known.cell, overrides)
    if trains_generator(known.config):
        return load_config(known.config, overrides, GeneratorExperiment)
    return load_config(known.config, overrides)


def train(config: "Config") -> None:
    """Train on the (anonymized) training split, evaluate on the original validation split, write the results."""
    from pytorch_lightning import seed_everything
    from pytorch_lightning.utilities import rank_zero_only

    from datamodules.layouts import build_datamodule
    from lightning_modules import tracking
    from lightning_modules.detection import DetectionModule
    from lightning_modules.models import load_weights
    from lightning_modules.panels import ImagePanels
    from lightning_modules.processes import together
    from lightning_modules.progress import WallTime
    from lightning_modules.results import check_run_dir, claim_run_dir, commit, device_name, write_results
    from lightning_modules.settings import fit_to_machine
    from metrics.matches import write_matches

    started, code = time.monotonic(), commit()  # other code may be there when the run ends
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config)
    run_dir = check_run_dir(config)
    if (run_dir / "results.json").exists():
        rank_zero_only(print)(f"already done: {run_dir / 'results.json'}")
        tracking.finish_done(config, run_dir)
        return
    # Before the folder is claimed for a run that cannot be, or by a process that does not know its number yet.
    _check_validation(config)
    datamodule.check_anonymization()
    fitted = fit_to_machine(config)
    claim_run_dir(config)
    config = fitted
    datamodule.prepare_data()
    datamodule.setup("fit")
    # The harder task is the one the study asks about: masks or keypoints, not boxes.
    main_metric = f"val/{datamodule.iou_types[-1]}/AP"
    module = DetectionModule(config, len(datamodule.classes) + 1, datamodule.metrics(), main_metric)
    wall_time = WallTime(started)
    panels = ImagePanels(run_dir, datamodule.classes, tracking.uploads_images(config))
    callbacks = [*_checkpoints(run_dir, main_metric), panels, wall_time]
    trainer = _trainer(config, run_dir, callbacks)
    if not _last_checkpoint(run_dir).exists():
        load_weights(module.model, config.model, datamodule.classes)

    with together(trainer, run_dir):
        _fit(trainer, module, datamodule, run_dir)
        if module.evaluated_step != trainer.global_step:
            trainer.validate(module, datamodule=datamodule, verbose=False)
        regions = datamodule.count_regions()
    metrics, score = module.values, trainer.callback_metrics[module.main_metric]
    # A run that ends between two validations has its last one outside fit, where no checkpoint is compared.
    best = trainer.checkpoint_callback
    if best.best_model_score is None or best.best_model_score < score:
        trainer.save_checkpoint(run_dir / "checkpoints" / "best.ckpt")
        best.best_model_score = score
    if trainer.is_global_zero:
        measured = {
            "metrics": metrics,
            "best": module.best,
            "steps": trainer.global_step,
            "images_per_step": config.data.batch_size * trainer.world_size * trainer.accumulate_grad_batches,
            "anonymized_regions": regions,
            "generators": datamodule.generators,
            "copy": datamodule.copy and datamodule.copy.as_result(),
            "device": device_name(trainer.strategy.root_device),
            "wall_time_s": round(wall_time.seconds, 1),
        }
        write_matches(run_dir / "matches.npz", module.matches)
        path = write_results(run_dir, config, measured | {"commit": code})
        tracking.finish(config, run_dir)
        print(f"{module.main_metric} {score.item():.1f}; results in {path}")


def train_generator(config: "GeneratorExperiment") -> None:
    """Train a generator on the people of the training split; write its weights and the results."""
    import json
    from dataclasses import asdict

    from pytorch_lightning import seed_everything
    from pytorch_lightning.utilities import rank_zero_only

    from datamodules.people import PeopleDataModule
    from lightning_modules import tracking
    from lightning_modules.generator import GeneratorModule
    from lightning_modules.panels import PeoplePanel
    from lightning_modules.processes import together
    from lightning_modules.progress import WallTime
    from lightning_modules.results import check_run_dir, claim_run_dir, commit, device_name, versions, write_results

    started, code = time.monotonic(), commit()
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = PeopleDataModule(config)
    module = GeneratorModule(config.generator, datamodule.crop, config.seed)
    run_dir = check_run_dir(config)
    if (run_dir / "results.json").exists():
        rank_zero_only(print)(f"already done: {run_dir / 'results.json'}")
        tracking.finish_done(config, run_dir)
        return
    _check_validation(config)
    claim_run_dir(config)
    datamodule.prepare_data()
    datamodule.setup("fit")
    config.trainer["max_steps"] = 2 * config.generator.steps  # Lightning counts the steps of each optimizer
    wall_time, panel = WallTime(started), PeoplePanel(run_dir, tracking.uploads_images(config))
    trainer = _trainer(config, run_dir, [*_checkpoints(run_dir), panel, wall_time])
    with together(trainer, run_dir):
        _fit(trainer, module, datamodule, run_dir)
        trainer.validate(module, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        fid = trainer.callback_metrics["val/fid"].item()
        measured = {
            "metrics": {"val/fid": fid},
            "steps": module.steps,
            "people": len(datamodule.train),
            "device": device_name(trainer.strategy.root_device),
        }
        about = {"config": asdict(config), "versions": versions(), **measured}
        measured["wall_time_s"] = round(wall_time.seconds, 1)
        weights = run_dir / "generator.safetensors"
        module.finished().save(weights, {key: json.dumps(value) for key, value in about.items()})
        path = write_results(run_dir, config, measured | {"commit": code})
        tracking.finish(config, run_dir)
        print(f"val/fid {fid:.4f}; results in {path}; use it by generators.{config.generator.region}={weights}")


def _check_validation(config: "Experiment") -> None:
    """Refuse what would end in no result."""
    if config.trainer.get("limit_val_batches", 1) == 0:
        raise UserError("trainer.limit_val_batches: 0 leaves nothing to evaluate; give more, or leave it out")
    if config.trainer.get("val_check_interval") == 0:
        raise UserError("trainer.val_check_interval: 0 is no interval; give a share of an epoch, or batches")


def _trainer(config: "Experiment", run_dir: "Path", callbacks: "list[Callback]") -> "Trainer":
    """Build Lightning's Trainer with the run's loggers and progress bar."""
    from pytorch_lightning.callbacks import LearningRateMonitor
    from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    from lightning_modules.mishaps import CheckpointIO
    from lightning_modules.progress import LineProgress, ProgressBar
    from lightning_modules.resuming import ResumesAfterEpoch
    from lightning_modules.settings import build_trainer

    plugins: list[Any] = [CheckpointIO()]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # Lightning's own checkpoint before a job is requeued would be one amidst an epoch, which repeats batches.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    terminal = sys.stdout.isatty()
    shows_progress = config.trainer.get("enable_progress_bar", True)
    arguments = {
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,  # the data module's sampler is distributed already
        "enable_model_summary": False,
        "plugins": plugins,
        **config.trainer,
        "enable_progress_bar": shows_progress and terminal,
    }
    callbacks = [*callbacks, LearningRateMonitor("step"), ResumesAfterEpoch()]
    if shows_progress:
        callbacks.append(ProgressBar() if terminal else LineProgress())
    return build_trainer(**arguments, default_root_dir=run_dir, callbacks=callbacks, logger=_loggers(config, run_dir))


def _fit(trainer: "Trainer", module: "LightningModule", datamodule: "LightningDataModule", run_dir: "Path") -> None:
    """Train from the last checkpoint, if there is one; exit where training was stopped from outside."""
    from pytorch_lightning.utilities import rank_zero_only
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    from lightning_modules import tracking

    last = _last_checkpoint(run_dir)
    if last.exists():
        rank_zero_only(print)(f"resuming from {last}")
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=last if last.exists() else None)
    except SystemExit as stopped:  # Lightning's, after Ctrl-C or SIGTERM
        if isinstance(stopped, SIGTERMException):
            tracking.preempted()
        message = f"interrupted; the same command goes on from the last checkpoint in {run_dir}"
        sys.exit(message if trainer.is_global_zero else 1)
    except ValueError as error:  # Lightning's: more batches than there are
        if "`val_check_interval`" not in str(error):
            raise
        raise UserError(f"trainer.val_check_interval: {error}") from None


def _last_checkpoint(run_dir: "Path") -> "Path":
    return run_dir / "checkpoints" / "last.ckpt"


def _checkpoints(run_dir: "Path", metric: str | None = None) -> "list[Callback]":
    from pytorch_lightning.callbacks import ModelCheckpoint

    folder = run_dir / "checkpoints"
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    if metric is None:
        return [last]
    best = ModelCheckpoint(
        folder, "best", monitor=metric, mode="max", save_on_train_epoch_end=False, enable_version_counter=False
    )
    return [best, last]


def _loggers(config: "Experiment", run_dir: "Path") -> "list[Logger]":
    from pytorch_lightning.loggers import CSVLogger

    from lightning_modules.tracking import build_wandb_logger

    return [CSVLogger(run_dir, name="csv"), *build_wandb_logger(config, run_dir)]


if __name__ == "__main__":
    main()
