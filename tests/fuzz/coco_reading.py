"""What pycocotools reads of a file in COCO's format."""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from datamodules.record import Record, decode


def check_equal(records: list[Record], classes: tuple[str, ...], content: dict[str, Any]) -> None:
    """Check that records have the objects, in their order, that pycocotools finds."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    images = {str(id_): image for id_, image in coco.imgs.items()}
    assert sorted(record.image_id for record in records) == sorted(images)
    for record in records:
        image = images[record.image_id]
        assert record.size == (image["height"], image["width"]) and record.path.name == image["file_name"]
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(annotations) == len(record.instances)
        masks = decode([instance.mask for instance in record.instances], record.size)
        for annotation, instance, mask in zip(annotations, record.instances, masks, strict=True):
            x, y, width, height = annotation["bbox"]
            assert instance.box == (x, y, x + width, y + height) and instance.area == annotation["area"]
            assert classes[instance.label - 1] == coco.cats[annotation["category_id"]]["name"]
            assert instance.crowd == bool(annotation.get("iscrowd", 0) or annotation.get("ignore", 0))
            if instance.keypoints is not None:
                np.testing.assert_array_equal(instance.keypoints.ravel(), np.float32(annotation["keypoints"]))
            np.testing.assert_array_equal(mask, coco.annToMask(annotation))
