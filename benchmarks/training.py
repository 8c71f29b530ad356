"""What a training step of train.py costs beside a bare loop over torchvision's model, under several conditions.

    python -m benchmarks.training --config configs/quickstart.yaml --conditions original body/blur

The same model trains on the same images, in one process: in a plain loop without Lightning, logs and callbacks, on the
originals, and as train.py trains it, under each condition; in turn, several rounds. A step lasts from the end of the
one before to its own end, loading and anonymization included. Times are medians; ratios are to the plain loop.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, seed_everything
from rich.console import Console
from rich.table import Table

from configs import Config, load_config
from datamodules.base import DetectionDataModule
from datamodules.layouts import build_datamodule
from lightning_modules.detection import DetectionModule, build_schedule
from lightning_modules.models import load_weights
from lightning_modules.panels import ImagePanels
from lightning_modules.settings import fit_to_machine
from outputs import write_atomically
from train import _trainer

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


def prepare(config: Config) -> tuple[DetectionDataModule, DetectionModule]:
    """The data and the model, as train.py makes them."""
    seed_everything(config.seed, workers=True, verbose=False)
    datamodule = build_datamodule(config)
    datamodule.prepare_data()
    datamodule.setup("fit")
    metrics = datamodule.metrics()
    module = DetectionModule(config, len(datamodule.classes) + 1, metrics, f"val/{datamodule.iou_types[-1]}/AP")
    load_weights(module.model, config.model, datamodule.classes)
    return datamodule, module


def train_py(config: Config, folder: Path) -> list[float]:
    """Seconds of every step after the warm-up, by train.py's own trainer: logs, panels and progress too."""
    datamodule, module = prepare(config)
    times = StepTimes()
    trainer = _trainer(config, folder, [times, ImagePanels(folder, datamodule.classes, upload=False)])
    with contextlib.redirect_stdout(io.StringIO()):  # its lines of progress
        trainer.fit(module, datamodule=datamodule)
    return times.seconds


def plain_loop(config: Config) -> list[float]:
    """Seconds of every step after the warm-up, with nothing but torch around the model."""
    datamodule, module = prepare(config)
    model, steps = module.model.train(), config.trainer["max_steps"]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, config.optimizer.lr, fused=True)
    schedule = build_schedule(optimizer, config.optimizer, steps)
    times = StepTimes()
    while len(times.ends) < steps:
        for batch in datamodule.train_dataloader():
            losses = model([image.float() / 255 for image in batch.images], batch.targets)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.trainer["gradient_clip_val"])
            optimizer.step()
            schedule.step()
            times.on_train_batch_end()
            if len(times.ends) == steps:
                break
    return times.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--conditions", nargs="+", default=["original", "body/blur", "face/blur"])
    parser.add_argument("--steps", type=int, default=20, help="of a condition in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")
    arguments, overrides = parser.parse_known_args()

    overrides = [*overrides, f"trainer.max_steps={arguments.steps + WARM_UP + 1}", "wandb.mode=disabled"]
    config = fit_to_machine(load_config(arguments.config, [*overrides, "trainer.limit_val_batches=0"]))
    plain = f"plain loop, {arguments.conditions[0]}"
    seconds: dict[str, list[float]] = {name: [] for name in (plain, *arguments.conditions)}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for name, times in seconds.items():
                own = replace(config, condition=arguments.conditions[0] if name == plain else name)
                times += plain_loop(own) if name == plain else train_py(own, Path(folder))

    table = Table("condition", box=None)
    for column in ("ms a step", "ratio"):
        table.add_column(column, justify="right")
    rows = {condition: 1000 * statistics.median(times) for condition, times in seconds.items()}
    first = rows[plain]
    for condition, milliseconds in rows.items():
        table.add_row(condition, f"{milliseconds:.1f}", f"{milliseconds / first:.3f}")
    Console().print(table)
    if arguments.output:
        write_atomically(arguments.output, json.dumps({"config": arguments.config, "ms": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
