"""Pictures of a run: training images as the detector saw them, and what it predicts on validation images."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.utils import (
    draw_bounding_boxes,
    draw_keypoints,
    draw_segmentation_masks,
    make_grid,
    save_image,
)

from datamodules.base import Batch
from datamodules.record import decode
from outputs import replacing

IMAGES = 8  # a panel
PEOPLE = 16  # a generator's panel
MIN_SCORE = 0.5  # of the predictions that are drawn


class ImagePanels(Callback):
    """Save ``images/train.png`` and ``images/val.png`` in the run's folder.

    Args:
        run_dir: the run's folder.
        classes: names of labels 1..K.
        upload: log them to W&B. Those of validation are originals.
    """

    def __init__(self, run_dir: Path, classes: tuple[str, ...], upload: bool) -> None:
        self.folder = run_dir / "images"
        self.classes = classes
        self.upload = upload
        self._train: list[tuple[str, Tensor]] = []
        self._val: list[tuple[str, Tensor]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Take images of the first batches, after anonymization."""
        if trainer.current_epoch == 0 and len(self._train) < IMAGES:
            self._train += [(t["image_id"], i.cpu()) for i, t in zip(batch.images, batch.targets, strict=True)]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show what was taken in the first epoch (nothing, where a restart comes back to its end)."""
        if self._train and trainer.current_epoch == 0:
            self._show(trainer, "train", self._train)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: list[dict[str, Any]],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take images of the first batches with what is predicted on them."""
        if len(self._val) < IMAGES:
            for image, target, prediction in zip(batch.images, batch.targets, outputs, strict=True):
                self._val.append((target["image_id"], draw_prediction(image.cpu(), prediction, self.classes)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the predictions of this validation."""
        self._show(trainer, "val", self._val)
        self._val = []

    @rank_zero_only
    def _show(self, trainer: Trainer, name: str, panel: list[tuple[str, Tensor]]) -> None:
        ids, images = zip(*panel[:IMAGES], strict=True)
        picture = sheet(list(images))
        _save(picture, self.folder / f"{name}.png")
        if self.upload:
            _log_image(trainer, f"images/{name}", picture, ", ".join(ids))


def _save(picture: Tensor, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as temporary:
        save_image(picture / 255, temporary, format="png")


def _log_image(trainer: Trainer, name: str, picture: Tensor, caption: str) -> None:
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture.permute(1, 2, 0).byte().numpy()], caption=[caption])


class PeoplePanel(Callback):
    """Save ``images/people.png`` in a generator's run folder.

    Two people a row, each as drawn, what the generator sees of it, and what it makes of it under several latents.

    Args:
        run_dir: the run's folder.
        upload: log it to W&B. It shows people as they are.
    """

    def __init__(self, run_dir: Path, upload: bool) -> None:
        self.path = run_dir / "images" / "people.png"
        self.upload = upload

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: tuple[Tensor, Tensor, list[Tensor]],
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the people of the first batch."""
        if batch_idx == 0 and trainer.is_global_zero:
            drawn, seen, samples = outputs
            columns = [drawn, interpolate(seen, drawn.shape[2:]), *samples]
            images = torch.stack(columns, dim=1)[:PEOPLE].flatten(0, 1).add(1).mul(127.5).clamp(0, 255)
            picture = make_grid(images, nrow=2 * len(columns), padding=2, pad_value=255).cpu()
            _save(picture, self.path)
            if self.upload:
                _log_image(trainer, "images/people", picture, "drawn, seen, generated")


def sheet(images: list[Tensor]) -> Tensor:
    """Lay uint8 images [3, H_i, W_i] out in two columns as one [3, H, W], padded with white to the largest."""
    height, width = (max(image.shape[d] for image in images) for d in (-2, -1))
    canvas = torch.full((len(images), 3, height, width), 255, dtype=torch.uint8)
    for place, image in zip(canvas, images, strict=True):
        place[:, : image.shape[-2], : image.shape[-1]] = image
    return make_grid(canvas, nrow=2, padding=4, pad_value=255)


def draw_prediction(image: Tensor, prediction: dict[str, Any], classes: tuple[str, ...]) -> Tensor:
    """Draw the confident predictions on a uint8 image [3, H, W]: boxes with class and score, masks or keypoints."""
    kept = (prediction["scores"] >= MIN_SCORE).nonzero().flatten().tolist()
    if not kept:
        return image
    if "masks" in prediction:
        masks = torch.from_numpy(decode([prediction["masks"][i] for i in kept], tuple(image.shape[-2:])))
        image = draw_segmentation_masks(image, masks.bool(), alpha=0.5)
    if "keypoints" in prediction:
        image = draw_keypoints(image, prediction["keypoints"][kept].cpu()[..., :2], colors="yellow", radius=1)
    names = [f"{classes[prediction['labels'][i] - 1]} {prediction['scores'][i]:.2f}" for i in kept]
    return draw_bounding_boxes(image, prediction["boxes"][kept].cpu(), names, colors="yellow")
