"""Going on from a checkpoint at the end of an epoch."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class ResumesAfterEpoch(Callback):
    """Have a run that was saved at the end of an epoch go on at the start of the next.

    Lightning (2.6) goes back into the epoch that has ended and, where no validation was due there, trains one more
    batch of it.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count the epoch as completed, before Lightning reads how far its loops were."""
        loops = checkpoint["loops"]["fit_loop"]
        epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
        if batches["is_last_batch"] and epochs["total"]["completed"] < epochs["total"]["processed"]:
            for part in (epochs["total"], epochs["current"]):
                part["completed"] = part["processed"]
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False
