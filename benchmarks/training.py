"""What anonymizing on the fly costs a training step.

    python -m benchmarks.training --config configs/quickstart.yaml --conditions original body/blur

The same model trains on the same images under each condition in turn, in one process, with Lightning as train.py does.
A step lasts from the end of the one before to its own end, loading and anonymization included. Times are medians;
ratios are to the first condition.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, seed_everything
from rich.console import Console
from rich.table import Table

from configs import Config, load_config
from datamodules.layouts import build_datamodule
from lightning_modules.detection import DetectionModule
from lightning_modules.models import load_weights
from lightning_modules.results import write_atomically
from lightning_modules.settings import build_trainer, fit_to_machine

WARM_UP = 5  # steps that are not counted


class StepTimes(Callback):
    """The seconds from the end of each step to the end of the next."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        return [end - start for start, end in zip(self.ends[WARM_UP:], self.ends[WARM_UP + 1 :], strict=False)]


def measure(config: Config, folder: str) -> list[float]:
    """Seconds of every step after the warm-up."""
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config)
    datamodule.prepare_data()
    datamodule.setup("fit")
    module = DetectionModule(config, len(datamodule.classes) + 1, datamodule.metrics(), "val/segm/AP")
    load_weights(module.model, config.model, datamodule.classes)
    times = StepTimes()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "use_distributed_sampler": False, "limit_val_batches": 0}
    trainer = build_trainer(**config.trainer | quiet, callbacks=[times], default_root_dir=folder)
    trainer.fit(module, datamodule=datamodule)
    return times.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--conditions", nargs="+", default=["original", "body/blur", "face/blur"])
    parser.add_argument("--steps", type=int, default=20, help="of a condition in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments, overrides = parser.parse_known_args()

    overrides = [*overrides, f"trainer.max_steps={arguments.steps + WARM_UP + 1}"]
    config = fit_to_machine(load_config(arguments.config, overrides))
    seconds: dict[str, list[float]] = {condition: [] for condition in arguments.conditions}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for condition, times in seconds.items():
                times += measure(replace(config, condition=condition), folder)

    table = Table("condition", box=None)
    for column in ("ms a step", "ratio"):
        table.add_column(column, justify="right")
    rows = {condition: 1000 * statistics.median(times) for condition, times in seconds.items()}
    first = rows[arguments.conditions[0]]
    for condition, milliseconds in rows.items():
        table.add_row(condition, f"{milliseconds:.1f}", f"{milliseconds / first:.3f}")
    Console().print(table)
    if arguments.output:
        write_atomically(arguments.output, json.dumps({"config": arguments.config, "ms": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
