"""Progress for people: Lightning's rich bar on a terminal, plain lines in a log file."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar

SHOWN = ("loss", "generator", "discriminator")  # of the training's losses


class LineProgress(Callback):
    """Print a line every ``trainer.log_every_n_steps`` steps: for logs, where a bar would be noise."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where training is."""
        step, steps = trainer.global_step, trainer.max_steps
        if steps == -1:
            steps = int(trainer.estimated_stepping_batches)
        counted = len(trainer.optimizers)  # Lightning counts the steps of each
        if step // counted % trainer.log_every_n_steps == 0:
            rate = (time.monotonic() - self._started) / (step - self._first_step)
            shown = {name: trainer.callback_metrics.get(f"train/{name}") for name in SHOWN}
            losses = "  ".join(f"{name} {value.item():.3f}" for name, value in shown.items() if value is not None)
            left = time.strftime("%H:%M:%S", time.gmtime(rate * (steps - step)))
            pl_module.print(f"step {step // counted}/{steps // counted}  {losses}  {left} left", flush=True)


class ProgressBar(RichProgressBar):
    """Lightning's rich bar, without the logger's version number."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what the bar shows beside itself."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}
