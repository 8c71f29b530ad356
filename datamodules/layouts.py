"""The layouts that can be read, by the name they have in a config's ``data.layout``."""

from configs import Config
from datamodules.base import DetectionDataModule
from datamodules.bdd100k import Bdd100kDataModule
from datamodules.cityscapes import CityscapesDataModule
from datamodules.coco import CocoInstancesDataModule, CocoKeypointsDataModule, OwnDataModule
from errors import UserError, nearest

LAYOUTS: dict[str, type[DetectionDataModule]] = {
    "cityscapes": CityscapesDataModule,
    "bdd100k": Bdd100kDataModule,
    "coco_instances": CocoInstancesDataModule,
    "coco_keypoints": CocoKeypointsDataModule,
    "own": OwnDataModule,
}


def build_datamodule(config: Config) -> DetectionDataModule:
    """Build the data module of a config's ``data.layout``.

    Raises:
        UserError: for an unknown layout, condition or augmentation.
    """
    layout = config.data.layout
    if layout not in LAYOUTS:
        raise UserError(f"data.layout: unknown layout '{layout}'{nearest(layout, LAYOUTS)}")
    return LAYOUTS[layout](config)
