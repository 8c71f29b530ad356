"""Progress for people: Lightning's rich bar on a terminal, plain lines in a log file."""

import time
from datetime import timedelta
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

SHOWN = ("loss", "generator", "discriminator")  # of the training's losses


class LineProgress(Callback):
    """Print a line every ``trainer.log_every_n_steps`` steps: for logs, where a bar would be noise."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started, self._first_step = time.monotonic(), trainer.global_step
        self._said_step = self._first_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where training is."""
        step, steps = trainer.global_step, trainer.max_steps
        if steps == -1:
            steps = int(trainer.estimated_stepping_batches)
        counted = len(trainer.optimizers)  # Lightning counts the steps of each
        every = counted * trainer.log_every_n_steps
        # Several batches may accumulate to one step.
        if every and step % every == 0 and step != self._said_step:
            self._said_step = step
            rate = (time.monotonic() - self._started) / (step - self._first_step)
            shown = {name: trainer.callback_metrics.get(f"train/{name}") for name in SHOWN}
            losses = "  ".join(f"{name} {value.item():.3f}" for name, value in shown.items() if value is not None)
            left = timedelta(seconds=round(rate * (steps - step)))
            pl_module.print(f"step {step // counted}/{steps // counted}  {losses}  {left} left", flush=True)


class WallTime(Callback):
    """Counts the seconds that a run takes, of one that was killed those up to the checkpoint that it goes on from.

    Args:
        started: when this process began, by `time.monotonic`.
    """

    def __init__(self, started: float) -> None:
        self._started, self._before = started, 0.0

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Keep what has been counted."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._before = state_dict["seconds"]


class ProgressBar(RichProgressBar):
    """Lightning's rich bar, without the logger's version number."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what the bar shows beside itself."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}
