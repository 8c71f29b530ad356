"""Regions of records, against those that training makes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs import load_config
from datamodules.base import DetectionDataset
from datamodules.geometry import Geometry
from datamodules.layouts import LAYOUTS
from datamodules.record import Record
from datamodules.regions import make_regions, record_regions
from errors import UserError
from metrics.rle import encode


@pytest.mark.parametrize("region", ["body", "face"])
@pytest.mark.parametrize("layout", ["cityscapes", "coco_instances", "coco_keypoints"])
def test_the_regions_are_those_of_training_without_augmentation(streetscenes, tmp_path, layout, region):
    root = streetscenes[layout.partition("_")[0]]
    overrides = ["data.streetscenes=null", f"data.layout={layout}", f"data.root={root}", f"data.index_dir={tmp_path}"]
    config = load_config("configs/quickstart.yaml", overrides)
    module = LAYOUTS[layout](config)
    records = module.read("train", region)
    dataset = DetectionDataset(
        records,
        with_masks="segm" in module.iou_types,
        with_keypoints="keypoints" in module.iou_types,
        geometry=Geometry([]),
        region=region,
        seed=0,
        anonymization_seed=3,
        training=True,
    )
    found = 0
    for index, record in enumerate(records):
        regions, expected = record_regions(record, region, seed=3), dataset[index][2]
        for name in ("seeds", "crop_boxes", "paste_boxes", "masks", "paste_masks"):
            assert torch.equal(getattr(regions, name), getattr(expected, name))
        assert regions.dropped == expected.dropped
        found += len(regions)
    assert found > 5


def record(*faces):
    return Record("a", Path("a.png"), (40, 60), [], faces=list(enumerate(faces)))


def test_a_face_box_is_clipped_to_its_image():
    inside, beyond = (record_regions(record([x0, 5, 20, 30]), "face", 0) for x0 in (0, -9))
    assert beyond.crop_boxes.tolist() == inside.crop_boxes.tolist()


@pytest.mark.parametrize(
    "box", [[70, 5, 80, 20], [9, 9, 9, 20], [20, 5, 10, 9], [float("nan"), 0, 9, 9], [-9, 0, 0, 9]]
)
def test_a_face_box_that_is_not_in_its_image_is_refused(box):
    with pytest.raises(UserError, match=r"a\.png: face box"):
        record_regions(record([1, 1, 9, 9], box), "face", 0)


def test_a_person_of_no_pixel_is_counted():
    masks = encode(np.pad(np.ones((1, 30, 20), np.uint8), [(0, 1), (5, 5), (20, 20)]))  # the second is empty
    two = Record("a", Path("a.png"), (40, 60), [], bodies=list(enumerate(masks)))
    assert [len(record_regions(two, "body", 0)), record_regions(two, "body", 0).dropped] == [1, 1]
    assert record_regions(replace(two, bodies=two.bodies[:1]), "body", 0).dropped == 0


def test_a_face_that_augmentation_has_moved_out_is_passed_over():
    two = record([1, 1, 9, 9], [20, 20, 30, 30])
    moved = np.array([[0, 5, 0, 9], [20, 20, 30, 30]], np.float32)
    regions = make_regions(two, "face", 0, (40, 60), [], moved, {})
    assert torch.equal(regions.seeds, record_regions(replace(two, faces=two.faces[1:]), "face", 0).seeds)
    with pytest.raises(ValueError, match="nan"):
        make_regions(two, "face", 0, (40, 60), [], np.full((2, 4), np.nan, np.float32), {})
