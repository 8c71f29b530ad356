"""The layouts that can be read, by the name they have in a config's ``data.layout``."""

from datamodules.base import DetectionDataModule
from datamodules.cityscapes import CityscapesDataModule
from datamodules.coco import CocoInstancesDataModule, CocoKeypointsDataModule

LAYOUTS: dict[str, type[DetectionDataModule]] = {
    "cityscapes": CityscapesDataModule,
    "coco_instances": CocoInstancesDataModule,
    "coco_keypoints": CocoKeypointsDataModule,
}
