"""Predictions on validation images: kept through a validation, and written in the benchmarks' own formats."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from faster_coco_eval.core import mask as mask_api
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.progress import track
from torch import Tensor

from datamodules.base import Batch
from outputs import write_atomically

# Of the classes that the benchmark evaluates: cityscapesscripts/helpers/labels.py.
CITYSCAPES_IDS = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
COCO_KEYS = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}  # IoU type -> what a prediction must have


class KeepPredictions(Callback):
    """Keep what is predicted on every validation image.

    Attributes:
        by_image: image id -> the prediction as `metrics` takes it, on the CPU; from all processes after the epoch.
    """

    def __init__(self) -> None:
        self.by_image: dict[str, dict[str, Any]] = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: list[dict[str, Any]],
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the batch's predictions; of an image that comes twice, to make shards even, the last."""
        for target, prediction in zip(batch.targets, outputs, strict=True):
            values = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in prediction.items()}
            self.by_image[target["image_id"]] = values

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather what the other processes have."""
        if trainer.world_size > 1:
            shards: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shards, self.by_image)
            self.by_image = {image: prediction for shard in shards for image, prediction in shard.items()}


def write_coco_results(
    predictions: Mapping[str, dict], image_ids: Mapping[str, Any], category_ids: Mapping[int, int], folder: Path
) -> list[Path]:
    """Write ``coco_bbox.json``, ``coco_segm.json``, ``coco_keypoints.json``: COCO's results format.

    A file each, as pycocotools' ``loadRes`` takes an object's area from its box where both box and mask are there.
    Scores are the boxes' own, for keypoints too. Coordinates are pixels, not rounded.

    Args:
        predictions: image id -> prediction as `metrics` takes it.
        image_ids: image id -> the dataset's own, a number or text.
        category_ids: label -> the dataset's own id.
        folder: to write to; it must exist.

    Returns:
        The files.
    """
    files = []
    first = next(iter(predictions.values()))
    for iou_type in (iou_type for iou_type, key in COCO_KEYS.items() if key in first):
        results = [r for i, p in predictions.items() for r in _coco_results(image_ids[i], p, category_ids, iou_type)]
        files.append(folder / f"coco_{iou_type}.json")
        write_atomically(files[-1], json.dumps(results))
    return files


def _coco_results(
    image_id: Any, prediction: dict[str, Any], category_ids: Mapping[int, int], iou_type: str
) -> Iterator[dict[str, Any]]:
    if iou_type == "bbox":
        boxes = prediction["boxes"].double()
        values = {"bbox": torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()}
    elif iou_type == "segm":
        values = {"segmentation": [mask | {"counts": mask["counts"].decode()} for mask in prediction["masks"]]}
    else:
        values = {"keypoints": prediction["keypoints"].flatten(1).tolist()}
    ((key, values),) = values.items()
    for label, score, value in zip(prediction["labels"].tolist(), prediction["scores"].tolist(), values, strict=True):
        yield {
            "image_id": image_id,
            "category_id": category_ids[label],
            key: value,
            "score": score,
        }


def write_cityscapes_results(predictions: Mapping[str, dict], classes: Mapping[int, str], folder: Path) -> Path:
    """Write the Cityscapes benchmark's submission for instance segmentation: ``folder/cityscapes``.

    That is a ``CITY_SEQUENCE_FRAME.txt`` for each image with a line ``masks/FILE.png ID SCORE`` for each object.

    Args:
        predictions: image id -> prediction as `metrics` takes it.
        classes: label -> name of one of Cityscapes' classes.
        folder: to write to; it must exist.
    """

    def write(image_id: str) -> None:
        prediction = predictions[image_id]
        lines = []
        columns = zip(prediction["masks"], prediction["labels"].tolist(), prediction["scores"].tolist(), strict=True)
        for number, (mask, label, score) in enumerate(columns):
            name = f"masks/{image_id}_{number}.png"
            Image.fromarray(255 * mask_api.decode(mask)).save(unfinished / name, compress_level=1)
            lines.append(f"{name} {CITYSCAPES_IDS[classes[label]]} {score!r}\n")
        (unfinished / f"{image_id}.txt").write_text("".join(lines))

    with _replacing(folder / "cityscapes") as unfinished, ThreadPoolExecutor(os.cpu_count()) as pool:
        (unfinished / "masks").mkdir()
        list(track(pool.map(write, predictions), "writing masks", len(predictions)))
    return folder / "cityscapes"


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Fill a folder beside ``folder`` and put it in its place when it is whole."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.replace(folder)
