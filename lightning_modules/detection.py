"""The detector under study: training on anonymized batches, AP on original ones."""

import math
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn import ModuleList
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from configs import Config, OptimizerConfig
from datamodules.base import Batch
from errors import UserError, nearest
from lightning_modules.models import build_model
from metrics.base import RecordMetric
from metrics.matches import Matches
from metrics.rle import paste_masks_as_rle


class DetectionModule(LightningModule):
    """Torchvision's Mask or Keypoint R-CNN.

    Logs the losses as ``train/loss_*`` and, on validation, average precision in percent as ``val/bbox/AP``,
    ``val/segm/AP_person``, ``val/keypoints/AP_m``, ...

    Args:
        config: of the run; its ``model`` and ``optimizer`` say what is built.
        num_classes: with the background.
        metrics: average precisions, updated with the predictions and targets of validation.
        main_metric: the one that the best checkpoint has most of, e.g. ``val/segm/AP``.
    """

    def __init__(self, config: Config, num_classes: int, metrics: list[RecordMetric], main_metric: str) -> None:
        super().__init__()
        self.config = config
        self.model = build_model(config.model, num_classes)
        self.metrics = ModuleList(metrics)
        self.main_metric = main_metric
        self.evaluated_step = -1  # the optimizer step of the last validation
        self.values: dict[str, float] = {}  # its average precisions, without those of classes that have no object
        self.best: dict[str, float] = {}  # the highest of each over training

    def setup(self, stage: str) -> None:
        """Lay the weights out as tensor cores take them; on a CPU it gains nothing (measured)."""
        if self.trainer.strategy.root_device.type == "cuda":
            self.model.to(memory_format=torch.channels_last)

    @property
    def matches(self) -> list[Matches]:
        """What became of every detection of the last validation, for each IoU type."""
        return [of_type for metric in self.metrics for of_type in metric.matches]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum of torchvision's losses.

        Raises:
            UserError: if it is not finite, naming the loss and the images of the batch.
        """
        losses = self.model(*self._inputs(batch), batch.targets)
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            bad = ", ".join(f"{name} {value:.3g}" for name, value in losses.items() if not torch.isfinite(value))
            images = ", ".join(t["image_id"] for t in batch.targets)
            raise UserError(
                f"step {self.global_step}: loss is not finite ({bad}) on images {images}; lower optimizer.lr "
                "or set trainer.gradient_clip_val"
            )
        size = len(batch.images)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size)
        parts = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(parts, prog_bar=True, batch_size=size)
        return loss

    def on_train_epoch_start(self) -> None:
        """Make an epoch's order depend on seed and epoch alone: a restart repeats it."""
        # Lightning's own call counts one epoch too many after a restart from the end of an epoch.
        self.trainer.train_dataloader.sampler.set_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make an epoch's random numbers depend on seed, epoch and process alone."""
        if batch_idx == 0:
            torch.manual_seed(hash((self.config.seed, self.current_epoch, self.global_rank)))
            if self.current_epoch > 0:
                # Once the loader drew its number here; the committed results are of the numbers after it.
                torch.empty((), dtype=torch.int64).random_()

    def validation_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Return the batch's predictions in the form that `metrics` takes, and update AP."""
        predictions = self.model(*self._inputs(batch))
        for prediction, target in zip(predictions, batch.targets, strict=True):
            if "masks" in prediction:
                prediction["masks"] = paste_masks_as_rle(prediction["masks"], prediction["boxes"], target["size"])
        for metric in self.metrics:
            metric.update(predictions, batch.targets)
        return predictions

    def on_validation_epoch_end(self) -> None:
        """Compute and log AP."""
        values = {}
        for metric in self.metrics:
            values |= {f"val/{name}": value for name, value in metric.compute().items()}
            metric.reset()
        self.values = {name: value for name, value in values.items() if not math.isnan(value)}
        self.best = {n: max(v, self.best.get(n, v)) for n, v in self.values.items()}
        main = values[self.main_metric], values[self.main_metric + "50"]
        if self.global_step:
            self.print(f"step {self.global_step}  {self.main_metric} {main[0]:.1f}, AP50 {main[1]:.1f}", flush=True)
        self.evaluated_step = self.global_step
        # Every process computes the same values.
        self.log(self.main_metric, values[self.main_metric], prog_bar=True)
        self.log_dict({name: value for name, value in self.values.items() if name != self.main_metric})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the best metrics."""
        checkpoint["best_metrics"] = self.best

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the best metrics up again."""
        self.best = checkpoint["best_metrics"]

    def configure_optimizers(self) -> dict[str, Any]:
        """Build the optimizer and a schedule stepped after every batch."""
        config, parameters = self.config.optimizer, [p for p in self.model.parameters() if p.requires_grad]
        if config.name == "sgd":
            optimizer = torch.optim.SGD(
                parameters, config.lr, momentum=config.momentum, weight_decay=config.weight_decay
            )
        elif config.name == "adamw":
            # A fused step is faster; under mixed precision Lightning would refuse to clip its gradients.
            fused = self.trainer.precision == "32-true"
            optimizer = torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay, fused=fused)
        else:
            raise UserError(f"optimizer.name: unknown '{config.name}'{nearest(config.name, ['sgd', 'adamw'])}")
        steps = int(self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": build_schedule(optimizer, config, steps), "interval": "step"},
        }

    def _inputs(self, batch: Batch) -> tuple[list[Tensor]]:
        return ([image.float() / 255 for image in batch.images],)


def build_schedule(optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: int) -> LRScheduler:
    """Build the learning-rate schedule over ``steps`` optimizer steps.

    ``multistep`` is detectron2's WarmupMultiStepLR: linear warm-up from ``warmup_factor`` of the rate, then a drop
    by ``gamma`` at each milestone.

    Raises:
        UserError: for an unknown name.
    """
    if config.schedule == "onecycle":
        return OneCycleLR(optimizer, max_lr=config.lr, total_steps=steps)
    if config.schedule != "multistep":
        choices = ["multistep", "onecycle"]
        raise UserError(f"optimizer.schedule: unknown '{config.schedule}'{nearest(config.schedule, choices)}")

    def factor(step: int) -> float:
        warmup = min(1.0, config.warmup_factor + (1 - config.warmup_factor) * step / max(1, config.warmup_steps))
        return warmup * config.gamma ** sum(step >= round(share * steps) for share in config.milestones)

    return LambdaLR(optimizer, factor)
