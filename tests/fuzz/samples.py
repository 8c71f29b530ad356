"""What must hold of a dataset's records and targets, whatever its files say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from configs import load_config
from datamodules.base import DetectionDataModule, DetectionDataset
from datamodules.geometry import Geometry
from datamodules.layouts import LAYOUTS
from datamodules.record import Record, decode
from datamodules.regions import record_regions
from errors import UserError

FLIP = Geometry([{"HorizontalFlip": {"p": 0.5}}])


def datamodule(layout: str, root: Path, condition: str) -> DetectionDataModule:
    """Make the reader of a layout, with the people that a condition needs."""
    generators = ["generators.body=unused", "generators.face=unused"]
    overrides = [f"data.root={root}", "data.streetscenes=null", f"condition={condition}", *generators]
    return LAYOUTS[layout](load_config(f"configs/{layout}.yaml", overrides))


def read(module: DetectionDataModule) -> list[Record]:
    """Read the training records, and make the samples of training and of validation from them.

    Raises:
        UserError: where the reader refuses them.
        AssertionError: where something came through that should not have.
    """
    plan = module.plan("train", module.condition.region)
    records = [plan.read_record(*job) for job in plan.jobs]
    for record in records:
        check_record(record, len(plan.classes))
    masks, keypoints = "segm" in module.iou_types, "keypoints" in module.iou_types
    settings = {"with_masks": masks, "with_keypoints": keypoints, "geometry": FLIP, "seed": 0, "anonymization_seed": 0}
    for training in (True, False):
        region = module.condition.region if training else "none"
        dataset = DetectionDataset(records, region=region, training=training, **settings)
        for index, record in enumerate(records):
            if problem := record.image_problem():  # such images are refused, or left out, before they are read
                raise UserError(f"{record.path} {problem}")
            image, target, _ = dataset[index]
            assert image.dtype == torch.uint8 and tuple(image.shape[1:]) == record.size
            assert ((target["labels"] >= 1) & (target["labels"] <= len(plan.classes))).all()
            boxes = target["boxes"]
            assert boxes.isfinite().all()
            if training:
                check_training_target(target, record.size)
    for record in records:
        if module.condition.region != "none":
            record_regions(record, module.condition.region, 0)
    return records


def check_training_target(target: dict, size: tuple[int, int]) -> None:
    """Check what torchvision's detectors learn from."""
    boxes, (height, width) = target["boxes"], size
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
    assert (boxes <= torch.tensor([width, height, width, height])).all()
    if "masks" in target:
        assert target["masks"].shape == (len(boxes), *size) and (target["masks"] <= 1).all()
    if "keypoints" in target:
        keypoints = target["keypoints"]
        assert keypoints.shape == (len(boxes), 17, 3) and keypoints.isfinite().all()
        seen = keypoints[keypoints[..., 2] > 0]
        assert (seen[:, :2] >= 0).all() and (seen[:, :2] <= torch.tensor([width, height])).all()


def check_record(record: Record, classes: int) -> None:
    """Check everything in a record that is a number or a mask."""
    assert min(record.size) > 0
    ids = [instance.id for instance in record.instances]
    assert len(set(ids)) == len(ids)
    for instance in record.instances:
        x0, y0, x1, y1 = instance.box
        assert np.isfinite(np.array(instance.box, float)).all() and x0 <= x1 and y0 <= y1
        assert 1 <= instance.label <= classes
        assert np.isfinite(instance.area) and instance.area >= 0
        if instance.keypoints is not None:
            check_keypoints(instance.keypoints, (0, 1, 2))
    _check_masks([i.mask for i in record.instances], record.size)
    _check_masks([mask for _, mask in record.bodies], record.size)
    _check_masks([record.void] if record.void else [], record.size)
    for people in (record.bodies, record.faces):
        assert len({id_ for id_, *_ in people}) == len(people)
    for joints in record.keypoints.values():
        check_keypoints(joints, (0, 1))


def check_keypoints(joints: np.ndarray, visibilities: Sequence[int]) -> None:
    """Check the keypoints of a person."""
    assert joints.shape == (17, 3) and joints.dtype == np.float32
    assert np.isfinite(joints).all() and np.isin(joints[:, 2], visibilities).all()


def _check_masks(masks: list[dict], size: tuple[int, int]) -> None:
    bitmaps = decode(masks, size)
    assert bitmaps.shape == (len(masks), *size) and bitmaps.max(initial=0) <= 1
