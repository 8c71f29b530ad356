"""What a config leaves to the machine it runs on: the precision, and the schedule at another batch size."""

import logging
import sys
import warnings
from dataclasses import replace
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from configs import Config
from errors import UserError
from processes import share

HARDWARE = ("accelerator", "devices", "num_nodes", "strategy")  # arguments of Lightning's Trainer


def fit_to_machine(config: Config) -> Config:
    """Return the config with the precision and the schedule that hold on this machine.

    `trainer.precision`, where it is left out, becomes bf16-mixed on a CUDA device with bfloat16, else 32-true. Where
    `optimizer.batch_size` is set, the schedule follows the number of images in a step by the linear rule of Goyal et
    al. 2017 (arXiv:1706.02677), and a line says so. `trainer.max_steps`, where it is given, is taken as it is. A
    warning says where the given precision is slow.

    Raises:
        UserError: for hardware that is not there.
    """
    trainer = dict(config.trainer)
    asked = {key: trainer[key] for key in HARDWARE if key in trainer}
    hardware = build_trainer(**asked, logger=False, enable_checkpointing=False)
    device = hardware.strategy.root_device
    trainer.setdefault("precision", default_precision(device))
    if device.type == "cpu" and str(trainer["precision"]).startswith("bf16") and not _has_bfloat16_kernels():
        rank_zero_only(print)(
            f"warning: trainer.precision={trainer['precision']} is slow on this processor; "
            "trainer.precision=32-true is several times as fast",
            file=sys.stderr,
        )
    images = config.data.batch_size * hardware.world_size * trainer.get("accumulate_grad_batches", 1)
    optimizer = config.optimizer
    reference = optimizer.batch_size or images
    if images != reference:
        scale = images / reference
        optimizer = replace(
            optimizer,
            lr=optimizer.lr * scale,
            warmup_steps=round(optimizer.warmup_steps / scale),
            steps=optimizer.steps and round(optimizer.steps / scale),
            batch_size=images,
        )
        steps = trainer.get("max_steps", optimizer.steps)
        rank_zero_only(print)(
            f"{images} images a step instead of {reference}: by the linear rule learning rate {optimizer.lr:g}, "
            f"warm-up over {optimizer.warmup_steps} steps" + (f", {steps} steps in all" if steps else "")
        )
    if optimizer.steps is not None:
        trainer.setdefault("max_steps", optimizer.steps)
    return replace(config, optimizer=optimizer, trainer=trainer)


def default_precision(device: torch.device) -> str:
    """Return the precision to compute in on a device, by Lightning's name for it."""
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bfloat16 else "32-true"


def _has_bfloat16_kernels() -> bool:
    """Say whether oneDNN has kernels in bfloat16 for this CPU; without, a training step took seven times as long.

    A torch without oneDNN is taken to have them: neither is known of it, nor that fp32 would be faster.
    """
    return not torch.backends.mkldnn.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def build_trainer(**arguments: Any) -> Trainer:
    """Build Lightning's Trainer, for one device where ``devices`` does not say otherwise.

    Lightning itself would take all that there are, and so another batch and schedule than a config says.

    Raises:
        UserError: for arguments it refuses, or that are not for as many processes as were started.
    """
    # About set-ups that are chosen on purpose here (small data, few cores), and Lightning's own internals.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*")
    warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode.*")
    warnings.filterwarnings("ignore", ".*It is recommended to use `self.log.*sync_dist=True")  # every process has all
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    try:
        trainer = Trainer(**{"devices": 1, **arguments})
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UserError(f"trainer: {error}") from None
    _, started = share()
    if started not in (1, trainer.world_size):  # else each would train a model of its own, all in one folder
        raise UserError(
            f"trainer: {started} processes were started, but devices × num_nodes is {trainer.world_size}; "
            f"trainer.devices={started} trainer.strategy=ddp takes them all, on one machine"
        )
    return trainer
