"""The people of a dataset, cut from its training images: what a generator learns from."""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as mask_api
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from anonymization.conditions import Condition
from anonymization.engine import CROPS, cut
from anonymization.methods.base import Crops
from anonymization.regions import refined_regions
from configs import Config, GeneratorExperiment
from datamodules.base import DetectionDataset, EpochSampler, check_unchanged
from datamodules.files import fingerprint
from datamodules.geometry import Geometry
from datamodules.layouts import build_datamodule
from datamodules.record import Record
from errors import UserError, nearest


class People(Sequence[Record]):
    """Records of images, each with one of its people alone: as many records as there are people.

    Args:
        records: of the images, with the people of ``region``.
        region: body or face.
        smallest: height in pixels of the smallest people or faces that are taken.
    """

    def __init__(self, records: Sequence[Record], region: str, smallest: float) -> None:
        self.records = records
        self.region = region
        self.places = [
            (place, number)
            for place, record in enumerate(records)
            for number, height in enumerate(_heights(record, region))
            if height >= smallest
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Record:
        place, number = self.places[index]
        record = self.records[place]
        bodies = record.bodies[number : number + 1] if self.region == "body" else []
        faces = record.faces[number : number + 1] if self.region == "face" else []
        ids = {id_ for id_, _ in chain(bodies, faces)}
        keypoints = {id_: joints for id_, joints in record.keypoints.items() if id_ in ids}
        return replace(record, instances=[], bodies=bodies, faces=faces, keypoints=keypoints)


def _heights(record: Record, region: str) -> list[float]:
    if region == "body":
        return [mask_api.toBbox(mask)[3].item() for _, mask in record.bodies]
    return [y1 - y0 for _, (_, y0, _, y1) in record.faces]


class PeopleDataset(Dataset):
    """Crops of people, each of one person; augmented as the detector's training images are.

    Args:
        people: see there.
        region: body, face or face_refined.
        geometry: augmentation.
        seed: of the run.
    """

    def __init__(self, people: People, region: str, geometry: Geometry, seed: int) -> None:
        self.region = region
        self.images = DetectionDataset(
            people,
            with_masks=False,
            with_keypoints=False,
            geometry=geometry,
            region=people.region,
            seed=seed,
            anonymization_seed=seed,
            training=True,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int) -> Crops | None:
        image, _, regions = self.images[key]
        if self.region == "face_refined":
            regions = refined_regions(regions, [image.shape[1:]])
        return cut([image], regions) if len(regions) else None


def collate(samples: list[Crops | None]) -> Crops:
    """Join crops; what is None, a person that augmentation has moved away or one that is too small, is left out.

    Raises:
        UserError: nobody is left.
    """
    people = [sample for sample in samples if sample is not None]
    if not people:
        raise UserError(f"generator.smallest: none of {len(samples)} people is large enough; give a larger one")
    return Crops(*(torch.cat([getattr(person, f.name) for person in people]) for f in fields(Crops)))


class PeopleDataModule(LightningDataModule):
    """The people of a dataset's training split, some of its images' held out for validation.

    Args:
        experiment: says which dataset, whose people, and what is held out.

    Raises:
        UserError: for an unknown region, layout or augmentation.
    """

    def __init__(self, experiment: GeneratorExperiment) -> None:
        super().__init__()
        self.experiment = experiment
        region = experiment.generator.region
        if region not in CROPS:
            raise UserError(f"generator.region: unknown '{region}'{nearest(region, CROPS)}")
        self.crop = CROPS[region]
        self.geometry = Geometry(experiment.data.geometry)
        config = Config(name=experiment.name, seed=experiment.seed, data=experiment.data, faces=experiment.faces)
        self.images = build_datamodule(config)
        self.fingerprints: dict[str, str] = {}  # of the files and folders that are read, by path
        # People are read as for drawing them; nothing is anonymized here.
        self.images.condition = Condition(region.removesuffix("_refined"), "realistic")

    def prepare_data(self) -> None:
        """Draw StreetScenes where the config says so."""
        self.images.prepare_data()

    def setup(self, stage: str) -> None:
        """Read the training split and find its people.

        Raises:
            UserError: there are none, or an image is missing or damaged.
        """
        generator = self.experiment.generator
        region = self.images.condition.region
        records = self.images.checked("train", region)
        self.fingerprints = {str(path): fingerprint(path) for path in self.images.sources("train", region)}
        kept = len(records) - round(len(records) * generator.held_out)
        order = np.arange(len(records))
        self.train = People(records.select(order < kept), region, generator.smallest)
        self.geometry.check(record.size for record in self.train)
        self.val = People(records.select(order >= kept), region, generator.smallest)
        for people, key in ((self.train, "data.root"), (self.val, "generator.held_out")):
            if not people:
                raise UserError(
                    f"{key}: {self.images.root} has no {region} of {generator.smallest} pixels or more to learn from"
                )
        if self.trainer is not None:
            batch = self.experiment.data.batch_size * self.trainer.world_size
            if len(self.train) < batch:
                raise UserError(
                    f"data.batch_size: there are {len(self.train)} people to learn from, for {batch} a step"
                )
            if len(self.val) < 2:  # of one there is no covariance
                raise UserError(f"generator.held_out: {generator.held_out} of the images have one person; 2 are needed")

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of people, the same for the same seed and epoch."""
        return self._loader(self.train, self.geometry, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """The held-out people in order, without augmentation."""
        return self._loader(self.val, Geometry([]), shuffle=False)

    def state_dict(self) -> dict[str, Any]:
        """Keep what the run has read."""
        return {"fingerprints": self.fingerprints}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that it reads the same again.

        Raises:
            UserError: the run has read other data.
        """
        check_unchanged(state_dict["fingerprints"], self.fingerprints)

    def _loader(self, people: People, geometry: Geometry, shuffle: bool) -> DataLoader:
        config, seed = self.experiment.data, self.experiment.seed
        dataset = PeopleDataset(people, self.experiment.generator.region, geometry, seed)
        return DataLoader(
            dataset,
            config.batch_size,
            sampler=EpochSampler(dataset, self.trainer, shuffle=shuffle, seed=seed),
            num_workers=config.num_workers,
            collate_fn=collate,
            drop_last=shuffle,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=config.num_workers > 0,
        )
