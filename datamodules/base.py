"""What all datasets share: samples, batches, loaders, and anonymization of the batch on the device."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torchmetrics import Metric

from anonymization.conditions import parse_condition
from anonymization.engine import Anonymizer
from anonymization.regions import Regions, person_seed
from configs import Config
from datamodules.copies import Copy, check_copy, copy_folder
from datamodules.files import fingerprint
from datamodules.geometry import MIRRORED, Geometry
from datamodules.index import Plan, RecordIndex, read_index
from datamodules.record import Instance, Record, decode, relabelled
from datamodules.regions import face_boxes, make_regions
from errors import UserError, nearest
from metrics.coco import CocoAP

DIGITS = 16  # hexadecimal ones, of annotations' digests in a manifest


class Batch(NamedTuple):
    """Images of different sizes with their targets.

    Attributes:
        images: uint8 [3, H, W] each.
        targets: a dict each. In training as torchvision's detectors take it: ``boxes`` float32 [N, 4],
            ``labels`` int64 [N], ``masks`` uint8 [N, H, W] or ``keypoints`` float32 [N, 17, 3], without crowds.
            In validation as `metrics` takes it: ``boxes`` float64 [N, 4] with crowds, ``iscrowd`` bool [N], ``area``
            float64 [N], ``masks`` as COCO RLEs, ``void`` as `Record` has it, ``size`` (height, width). Always
            ``image_id`` str.
        regions: what to anonymize; None in validation and for the condition ``original``.
    """

    images: list[Tensor]
    targets: list[dict[str, Any]]
    regions: Regions | None


class DetectionDataset(Dataset):
    """Decoded samples of a list of records.

    The key of a sample is ``epoch * len(dataset) + index``, so that what is drawn for it depends on the
    seed, the epoch and the image, and on no worker's state.

    Args:
        records: the images.
        with_masks: targets have instance masks.
        with_keypoints: targets have keypoints.
        geometry: augmentation, training only.
        region: the region to prepare for anonymization: none, body or face.
        seed: of the run.
        anonymization_seed: what people's replacements are drawn from.
        training: make training targets and regions, else validation targets.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        with_masks: bool,
        with_keypoints: bool,
        geometry: Geometry,
        region: str,
        seed: int,
        anonymization_seed: int,
        training: bool,
    ) -> None:
        self.records = records
        self.with_masks = with_masks
        self.with_keypoints = with_keypoints
        self.geometry = geometry
        self.region = region
        self.seed = seed
        self.anonymization_seed = anonymization_seed
        self.training = training

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int) -> tuple[Tensor, dict[str, Any], Regions | None]:
        epoch, index = divmod(key, len(self.records))
        record = self.records[index]
        image = record.read_image()
        if not self.training:
            return _to_tensor(image), self._validation_target(record), None
        return self._training_sample(record, image, person_seed(self.seed, f"epoch {epoch}", index) % 2**32)

    def _validation_target(self, record: Record) -> dict[str, Any]:
        target = {
            "image_id": record.image_id,
            "size": record.size,
            # Double precision: a box must equal the annotation's to the last digit for the official numbers.
            "boxes": torch.tensor([i.box for i in record.instances], dtype=torch.float64).reshape(-1, 4),
            "labels": _labels(record.instances),
            "iscrowd": torch.tensor([i.crowd for i in record.instances], dtype=torch.bool),
            "area": torch.tensor([i.area for i in record.instances], dtype=torch.float64),
            "void": record.void,
        }
        if self.with_masks:
            target["masks"] = [i.mask for i in record.instances]
        if self.with_keypoints:
            target["keypoints"] = torch.from_numpy(_keypoints(record.instances))
        return target

    def _training_sample(
        self, record: Record, image: np.ndarray, geometry_seed: int
    ) -> tuple[Tensor, dict[str, Any], Regions | None]:
        instances = [i for i in record.instances if not i.crowd]
        bodies = record.bodies if self.region == "body" else []
        faces = face_boxes(record) if self.region == "face" else np.zeros((0, 4), np.float32)
        # A body that is also a training instance shares its decoded mask. An id alone does not tell: where people are
        # annotated in a file of their own, its numbers may be other objects' here.
        rows = {i.id: row for row, i in enumerate(instances)} if self.with_masks else {}
        rles = [i.mask for i in instances] if self.with_masks else []
        for id_, rle in bodies:
            if id_ not in rows or rles[rows[id_]] != rle:
                rows[id_] = len(rles)
                rles.append(rle)
        boxes = np.concatenate([_boxes(instances), faces])
        keypoints = _keypoints(instances if self.with_keypoints else [])
        poses = np.array([*record.keypoints.values()], np.float32).reshape(-1, 17, 3)
        joints = np.concatenate([keypoints, poses])

        corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]]
        points = np.concatenate([corners.reshape(-1, 2), joints[..., :2].reshape(-1, 2)])
        bitmaps = decode(rles, record.size)
        image, masks, points, mirrored = self.geometry(geometry_seed, image, bitmaps, points)
        size = image.shape[:2]
        corners, places = np.split(points, [4 * len(boxes)])
        boxes = _boxes_of(corners.reshape(-1, 4, 2), size)
        joints = _moved_keypoints(joints, places.reshape(-1, 17, 2), mirrored)
        keypoints, poses = _visible_keypoints(joints[: len(keypoints)], size), joints[len(keypoints) :]

        # torchvision refuses boxes without an area; such an object can teach nothing.
        count = len(instances)
        kept = torch.from_numpy((boxes[:count, 2:] > boxes[:count, :2]).all(1))
        target = {
            "image_id": record.image_id,
            "boxes": torch.from_numpy(boxes[:count])[kept],
            "labels": _labels(instances)[kept],
        }
        if self.with_masks:
            target["masks"] = torch.from_numpy(masks[:count])[kept]
        if self.with_keypoints:
            target["keypoints"] = torch.from_numpy(keypoints)[kept]

        regions = None
        if self.region != "none":
            people, faces_now = (masks[rows[id_]] for id_, _ in bodies), boxes[count:]
            if not self.geometry.is_exact:
                people = self.geometry.reached(geometry_seed, (bitmaps[rows[id_]] for id_, _ in bodies))
                filled = (_filled(box, record.size) for box in faces)
                reached = [_box_around(mask) for mask in self.geometry.reached(geometry_seed, filled)]
                faces_now = np.array(reached, np.float32).reshape(-1, 4)
            pose_of = dict(zip(record.keypoints, poses, strict=True))
            regions = make_regions(record, self.region, self.anonymization_seed, size, people, faces_now, pose_of)
        return _to_tensor(image), target, regions


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _boxes(instances: list[Instance]) -> np.ndarray:
    return np.array([i.box for i in instances], np.float32).reshape(-1, 4)


def _labels(instances: list[Instance]) -> Tensor:
    return torch.tensor([i.label for i in instances], dtype=torch.int64)


def _keypoints(instances: list[Instance]) -> np.ndarray:
    return np.array([i.keypoints for i in instances], np.float32).reshape(-1, 17, 3)


def _boxes_of(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes float32 [N, 4] around moved corners [N, 4, 2], clipped to the image."""
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    height, width = size
    return np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)


def _filled(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw a box that lies in an image as a mask, uint8 [H, W], of all pixels that it touches."""
    mask = np.zeros(size, np.uint8)
    x0, y0, x1, y1 = box
    mask[math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)] = 1
    return mask


def _box_around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 around a mask uint8 [H, W]; a box without area around an empty one."""
    x, y, width, height = cv2.boundingRect(mask)
    return x, y, x + width, y + height


def _moved_keypoints(keypoints: np.ndarray, places: np.ndarray, mirrored: bool) -> np.ndarray:
    """Keypoints float32 [N, 17, 3] at their new places [N, 17, 2]; 0 where unlabelled."""
    moved = np.concatenate([places, keypoints[..., 2:]], axis=-1)
    moved[keypoints[..., 2] == 0] = 0
    return (moved[:, MIRRORED] if mirrored else moved).astype(np.float32)


def _visible_keypoints(keypoints: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Keypoints [N, 17, 3], of which those that left the image become unlabelled."""
    outside = ((keypoints[..., :2] < 0) | (keypoints[..., :2] > np.array(size[::-1]))).any(-1)
    return np.where(outside[..., None], np.float32(0), keypoints)


def collate(samples: list[tuple[Tensor, dict[str, Any], Regions | None]]) -> Batch:
    """Gather samples as lists: images of one batch differ in size."""
    images, targets, regions = map(list, zip(*samples, strict=True))
    return Batch(images, targets, None if regions[0] is None else Regions.cat(regions))


class EpochSampler(DistributedSampler):
    """A process's share of an epoch, yielding ``epoch * len(dataset) + index``: see `DetectionDataset`.

    Args:
        dataset: what is loaded.
        trainer: says which process this is, and with which epoch a resumed run begins; None for one process alone.
        shuffle: in an order that the seed and the epoch fix.
        seed: of the run.
    """

    def __init__(self, dataset: Dataset, trainer: Trainer | None, *, shuffle: bool, seed: int) -> None:
        replicas, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        super().__init__(dataset, replicas, rank, shuffle=shuffle, seed=seed)
        self.epoch = trainer.current_epoch if trainer else 0  # Lightning draws the first order before the epoch starts

    def __iter__(self) -> Any:
        return (self.epoch * len(self.dataset) + index for index in super().__iter__())


class DetectionDataModule(LightningDataModule):
    """A dataset under one condition. A subclass says how its files lie.

    The training split is anonymized on the device, batch by batch, or read from a copy where that was done before; the
    validation split never is.

    Args:
        config: of the run.
    """

    classes: tuple[str, ...]  # names of labels 1..K, as `read` found them, without data.ignore_classes
    iou_types: ClassVar[tuple[str, ...]]  # what is evaluated: bbox, segm, keypoints
    annotation_paths: ClassVar[tuple[str, ...]]  # in the root: what a copy of the dataset needs beside the images
    faces_name: ClassVar[str]  # of the file with a split's face boxes in the root
    posed_regions: ClassVar[tuple[str, ...]] = ("body", "face")  # whose people can have keypoints

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.run_config = config
        self.config = config.data
        self.faces = config.faces
        self.seed = config.seed
        self.root = Path(config.data.root)
        self.condition = parse_condition(config.condition)
        self.anonymizer = Anonymizer(self.condition, config.generators)
        self.copy_folder = copy_folder(config)
        self.copy: Copy | None = None  # what is in that folder, once it is checked
        self.region = "none" if self.copy_folder else self.condition.region  # that training batches are anonymized in
        self.anonymized_regions = 0  # in this process's training batches so far
        self.geometry = Geometry(config.data.geometry)  # here, so that a wrong name ends the run at once
        self.generators: dict[str, str] = {}  # those of the condition, with digests of their weights, by key
        self.fingerprints: dict[str, str] = {}  # of what a training run reads: files and folders by path, generators
        self.train: Sequence[Record] = []
        self.val: Sequence[Record] = []

    def image_folder(self, split: str) -> Path:
        """Return the folder of a split's images, relative to the root."""
        raise NotImplementedError

    def faces_file(self, split: str) -> Path:
        """Return the file with a split's face boxes: ``faces.file``, or the layout's own in the root."""
        return Path(self.faces.file or self.root / self.faces_name.format(split=split))

    def keypoints_file(self, split: str) -> Path:
        """Return the file with the keypoints of a split's people, for layouts without any of their own."""
        return self.root / f"annotated_keypoints_{split}.json"

    def posed(self, region: str) -> bool:
        """Say whether the people of a region are read with their poses: where a generator draws them."""
        is_drawn = region == self.condition.region and bool(self.condition.generators)
        return is_drawn and region in self.posed_regions

    def sources(self, split: str, region: str) -> list[Path]:
        """List the files and folders that the records of a split are made of, there or not."""
        raise NotImplementedError

    def annotations(self, split: str, region: str) -> dict[str, str]:
        """Digest what says who is in a split's images: `sources` without the images, by path from the root."""
        images = self.root / self.image_folder(split)
        paths = [path for path in self.sources(split, region) if path != images]
        return {os.path.relpath(path, self.root): fingerprint(path)[:DIGITS] for path in paths}

    def plan(self, split: str, region: str) -> Plan:
        """Look at a split's annotations as a whole and say how its records are made.

        Raises:
            UserError: naming the file and object that is missing or wrong.
        """
        raise NotImplementedError

    def read(self, split: str, region: str) -> RecordIndex:
        """Read the records of split ``train`` or ``val``, with the people of ``region`` (none, body, face).

        The first time this goes through the annotations; later it only opens the index in ``data.index_dir``.

        Raises:
            UserError: naming the file and object that is missing or wrong.
        """
        people = f"posed_{region}" if self.posed(region) else region
        name = (self.config.layout, split, people, *sorted(self.config.ignore_classes))
        records = read_index(
            Path(self.config.index_dir),
            name,
            self.sources(split, region),
            lambda: self._without_ignored(self.plan(split, region)),
            self.is_trainable,
        )
        self.classes = records.classes
        return records

    def _without_ignored(self, plan: Plan) -> Plan:
        ignored = self.config.ignore_classes
        for name in ignored:
            if name not in plan.classes:
                raise UserError(f"data.ignore_classes: unknown class '{name}'{nearest(name, plan.classes)}")
        classes = tuple(name for name in plan.classes if name not in ignored)
        if not classes:
            raise UserError(f"data.ignore_classes: {', '.join(ignored)} leaves no class to learn")
        labels = {1 + plan.classes.index(name): label for label, name in enumerate(classes, start=1)}
        return Plan(classes, partial(_read_relabelled, plan.read_record, labels), plan.jobs)

    def metrics(self) -> list[Metric]:
        """Make the average precisions that the dataset is evaluated by; here COCO's."""
        return [CocoAP(self.iou_types, dict(enumerate(self.classes, start=1)))]

    @staticmethod
    def is_trainable(record: Record) -> bool:
        """Say whether an image has anything to learn from; others are left out of training, as is standard."""
        return any(not i.crowd for i in record.instances)

    def prepare_data(self) -> None:
        """Draw StreetScenes where the config says so."""
        if self.config.streetscenes is not None:
            from datamodules import streetscenes

            drawing = self.config.streetscenes
            streetscenes.write(
                layout=streetscenes_layout(self.config.layout),
                output=self.root,
                train=drawing.train,
                val=drawing.val,
                seed=drawing.seed,
                size=tuple(drawing.size),
                people=drawing.people,
                workers=max(1, self.config.num_workers),
            )

    def check_anonymization(self) -> None:
        """Load the condition's generators and check the copy that is trained on, where there are such.

        Raises:
            UserError: a generator cannot be loaded, or the copy is not what the run needs.
        """
        self.generators = self.anonymizer.load()
        if self.copy_folder and self.copy is None:
            annotations, images = self.annotations("train", self.condition.region), self.image_folder("train")
            self.copy = check_copy(self.copy_folder, images, self.run_config, self.generators, annotations)

    def setup(self, stage: str) -> None:
        """Read the splits once and look at every image file before any training."""
        if self.val:
            return
        if not self.root.is_dir():
            raise UserError(f"data.root: folder {self.root} does not exist")
        if stage == "fit":
            self.check_anonymization()
            records = self._training_source().checked("train", self.region)
            self.train = records.select(records.trainable)
            if not self.train:
                raise UserError(f"data.root: {self.root} has no training image with a usable annotation")
            self.geometry.check(record.size for record in self.train)
        self.val = self.checked(self.config.val_split, "none")
        if not self.val.trainable.any():
            raise UserError(f"data.root: {self.root} has no validation image with a usable annotation")
        if stage == "fit" and self.val.classes != records.classes:
            differing = set(self.val.classes).symmetric_difference(records.classes) or {"the order"}
            raise UserError(
                f"data.root: {self.root}: classes of train and {self.config.val_split} differ in "
                f"{', '.join(sorted(differing))}"
            )
        if stage == "fit":
            read = [*self._training_source().sources("train", self.region)]
            read += self.sources(self.config.val_split, "none")
            self.fingerprints = {str(path): fingerprint(path) for path in read}
            self.fingerprints |= {f"generators.{key}": name for key, name in self.generators.items()}

    def _training_source(self) -> "DetectionDataModule":
        if self.copy is None:
            return self
        data = replace(self.config, root=str(self.copy.folder), streetscenes=None)
        return type(self)(replace(self.run_config, condition="original", data=data))

    def checked(self, split: str, region: str) -> RecordIndex:
        """Read the records of a split and look at their image files.

        Raises:
            UserError: naming an image that is missing or damaged, unless such are left out.
        """
        records = self.read(split, region)
        good = np.ones(len(records), bool)
        bad = []
        for place in np.flatnonzero(records.suspect):
            record = records[place]
            if problem := record.image_problem():  # what can be mended without a trace, a permission say, may be mended
                good[place] = False
                bad.append(f"{record.path} {problem}")
        if bad and not self.config.skip_bad_images:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            raise UserError(f"{bad[0]}{more}; data.skip_bad_images=true leaves such images out")
        if bad:
            rank_zero_warn(f"{split}: left out {len(bad)} of {len(records)} images:\n" + "\n".join(bad))
        return records.select(good)

    def train_dataloader(self) -> DataLoader:
        """Shuffled training batches, the same for the same seed and epoch."""
        return self._loader(self.train, training=True)

    def val_dataloader(self) -> DataLoader:
        """Validation batches in order, never anonymized."""
        return self._loader(self.val, training=False)

    def _loader(self, records: Sequence[Record], training: bool) -> DataLoader:
        dataset = DetectionDataset(
            records,
            with_masks="segm" in self.iou_types,
            with_keypoints="keypoints" in self.iou_types,
            geometry=self.geometry,
            region=self.region if training else "none",
            seed=self.seed,
            anonymization_seed=self.run_config.anonymization_seed,
            training=training,
        )
        sampler = EpochSampler(dataset, self.trainer, shuffle=training, seed=self.seed)
        return DataLoader(
            dataset,
            self.config.batch_size,
            sampler=sampler,
            num_workers=self.config.num_workers,
            collate_fn=collate,
            # A loader draws a number where it begins. One that persists does so once, which a restart would repeat at
            # another place: of training's random numbers validation takes none.
            generator=None if training else torch.Generator(),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.config.num_workers > 0,
            worker_init_fn=_single_threaded,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Anonymize a training batch on the device."""
        if not self.trainer.training or batch.regions is None:
            return batch
        images = self.anonymizer(batch.images, batch.regions)
        self.anonymized_regions += len(batch.regions)
        return batch._replace(images=images)

    def count_regions(self) -> int:
        """Count the regions that all processes have anonymized, which all have to ask for at the same time.

        Those of a copy are the ones in its images, each counted once.
        """
        if self.copy is not None:
            return self.copy.regions
        strategy = self.trainer.strategy
        count = torch.tensor(self.anonymized_regions, device=strategy.root_device)
        return int(strategy.reduce(count, reduce_op="sum"))

    def state_dict(self) -> dict[str, Any]:
        """Keep the count of anonymized regions over a restart, and what the run has read."""
        return {"anonymized_regions": self.count_regions(), "fingerprints": self.fingerprints}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the count of an interrupted run, in one process.

        Raises:
            UserError: the run has read other data.
        """
        check_unchanged(state_dict.get("fingerprints", {}), self.fingerprints)
        self.anonymized_regions = state_dict["anonymized_regions"] if self.trainer.is_global_zero else 0


def check_unchanged(before: dict[str, str], now: dict[str, str]) -> None:
    """Check that a run which goes on reads what it has read.

    Args:
        before: fingerprints by what they are of.
        now: the same.

    Raises:
        UserError: one is another.
    """
    for what, theirs in before.items():
        if now.get(what, theirs) != theirs:
            raise UserError(
                f"{what}: has changed since this run began; put back what it was, or begin anew in another output_dir"
            )


def _read_relabelled(read_record: Callable[..., Record], labels: dict[int, int], *job: Any) -> Record:
    return relabelled(read_record(*job), labels)


def streetscenes_layout(layout: str) -> str:
    """Name the layout that StreetScenes writes for a reader: both COCO readers share COCO's."""
    return layout.partition("_")[0]


def _single_threaded(_: int) -> None:
    # Workers are the parallelism; OpenCV's own threads would only compete with them.
    cv2.setNumThreads(0)
