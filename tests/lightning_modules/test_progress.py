"""Lines of progress, and the time that a run takes."""

import time

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from lightning_modules.progress import LineProgress, WallTime


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch):
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder, callback, batches=12, ckpt_path=None, **arguments):
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    trainer.fit(Line(), DataLoader(torch.ones(batches, 1)), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize(
    ("accumulated", "every", "steps"),
    [(1, 4, [4, 8, 12]), (3, 1, [1, 2, 3, 4]), (3, 2, [2, 4]), (1, 0, []), (1, 50, [])],
)
def test_a_line_every_few_steps(tmp_path, capsys, accumulated, every, steps):
    fit(tmp_path, LineProgress(), max_epochs=1, accumulate_grad_batches=accumulated, log_every_n_steps=every)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == [f"{step}/{12 // accumulated}" for step in steps]


def test_the_time_before_a_restart_counts(tmp_path):
    trainer = fit(tmp_path, first := WallTime(time.monotonic() - 100), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fit(tmp_path, second := WallTime(time.monotonic()), max_epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert 100 < first.seconds < 130 and 100 < second.seconds < 130
