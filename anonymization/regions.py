"""The people of an image as regions to anonymize, built from one image's annotations in data-loader workers."""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple, Self

import cv2
import numpy as np
import torch
from torch import Tensor

from anonymization.boxes import (
    BODY_CROP,
    BODY_MIN_AREA,
    FACE_CROP,
    REFINED_CROP,
    REFINED_MIN_AREA,
    Box,
    body_crop_box,
    face_crop_box,
    refined_crop_box,
)
from anonymization.resampling import nearest_indices

# Hukkelås & Lindseth 2023: a person's mask is dilated by a disk of this share of sqrt(height · width) of the crop.
BODY_DILATION = 0.02
_RADIUS = int(math.sqrt(BODY_CROP[0] * BODY_CROP[1]) * BODY_DILATION)
_Y, _X = np.ogrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
_DISK = (_X**2 + _Y**2 <= _RADIUS**2).astype(np.uint8)

_NO_KEYPOINTS = np.zeros((17, 3), np.float32)


@dataclass(frozen=True)
class Regions:
    """The regions of the P people of a batch of images, in the order in which each image's people are replaced.

    Boxes are half-open (x0, y0, x1, y1) in image pixels. Only the masks follow ``to``: the rest steers the
    program and stays in host memory.

    Attributes:
        region: ``"body"`` or ``"face"``.
        image_index: int64 [P], index of the image in the batch.
        seeds: int64 [P], what a random method draws the person's replacement from; see ``person_seed``.
        crop_boxes: int64 [P, 4], the part of the image a method sees; may leave the image.
        paste_boxes: int64 [P, 4], around the image pixels that are replaced; inside the image.
        masks: bool [P, h, w], the crop pixels from which pixels of the image are replaced.
        packed_bodies: uint8 [P, h, w / 8], ``bodies`` in bits, as numpy packs them: most methods never look at them.
            None for faces.
        keypoints: float32 [P, 17, 3], COCO's: x and y in crop pixels, maybe outside the crop, and 1 where known;
            else all 0.
        paste_masks: uint8 [sum of paste box areas], 1 at the image pixels that are replaced: the paste boxes'
            masks, flattened, one after the other.
        dropped: People left as they are because their crop box is smaller than ``BODY_MIN_AREA``.
    """

    region: str
    image_index: Tensor
    seeds: Tensor
    crop_boxes: Tensor
    paste_boxes: Tensor
    masks: Tensor
    packed_bodies: Tensor | None
    keypoints: Tensor
    paste_masks: Tensor
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.crop_boxes)

    @property
    def bodies(self) -> Tensor:
        """The crop pixels of the person, bool [P, h, w]: ``masks`` before their dilation; of faces ``masks``."""
        if self.packed_bodies is None:
            return self.masks
        bits = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.packed_bodies.device)
        return (self.packed_bodies[..., None] >> bits & 1).flatten(-2).bool()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same regions with their masks on a device."""
        return self._with_masks(lambda masks: masks.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same regions with their masks in page-locked memory."""
        return self._with_masks(Tensor.pin_memory)

    def _with_masks(self, move: Callable[[Tensor], Tensor]) -> Self:
        packed_bodies = None if self.packed_bodies is None else move(self.packed_bodies)
        return replace(self, masks=move(self.masks), packed_bodies=packed_bodies, paste_masks=move(self.paste_masks))

    @classmethod
    def cat(cls, regions: Sequence[Self]) -> Self:
        """Join the regions of single images, in the order of the batch, into those of the batch.

        Raises:
            ValueError: ``regions`` is empty or mixes bodies with faces.
        """
        kinds = {r.region for r in regions}
        if len(kinds) != 1:
            raise ValueError(f"cannot join regions of the kinds {sorted(kinds)}: expected regions of one kind")
        packed_bodies = [r.packed_bodies for r in regions if r.packed_bodies is not None]
        return cls(
            kinds.pop(),
            torch.arange(len(regions)).repeat_interleave(torch.tensor([len(r) for r in regions])),
            torch.cat([r.seeds for r in regions]),
            torch.cat([r.crop_boxes for r in regions]),
            torch.cat([r.paste_boxes for r in regions]),
            torch.cat([r.masks for r in regions]),
            torch.cat(packed_bodies) if packed_bodies else None,
            torch.cat([r.keypoints for r in regions]),
            torch.cat([r.paste_masks for r in regions]),
            sum(r.dropped for r in regions),
        )


def person_seed(seed: int, image_id: str, instance_id: int) -> int:
    """A person's own seed, in [0, 2⁶³): the same in every epoch, batch, process and on every machine."""
    digest = hashlib.blake2b(f"{seed}/{instance_id}/{image_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def body_regions(
    masks: Iterable[np.ndarray],
    size: tuple[int, int],
    seeds: Sequence[int],
    keypoints: Sequence[np.ndarray | None] | None = None,
) -> Regions:
    """The regions of one image's people, from their instance masks.

    Every pixel of a mask is replaced, and a margin around it. Paste order: by mask area, smallest first, equal
    areas as given. Empty masks are passed over; people under ``BODY_MIN_AREA`` are counted in ``dropped``.

    Args:
        masks: One bool or uint8 array [H, W] per person, nonzero on the person. May be a generator: one mask is
            held at a time.
        size: Height and width of the image.
        seeds: One seed per mask.
        keypoints: What is known of each person's pose: None, or float [17, 3] of x and y in image pixels and a
            number above 0 where they are known.

    Raises:
        ValueError: A mask has another shape or dtype, or there are not as many seeds, or keypoints, as masks.
    """
    people, dropped = [], 0
    poses = [None] * len(seeds) if keypoints is None else keypoints
    for index, (mask, seed, pose) in enumerate(zip(masks, seeds, poses, strict=True)):
        if mask.shape != tuple(size) or mask.dtype not in (np.bool_, np.uint8):
            raise ValueError(f"mask {index} is {mask.dtype} {mask.shape}: expected bool or uint8 {tuple(size)}")
        rows = np.flatnonzero(mask.view(np.uint8).max(axis=1))
        if not len(rows):
            continue
        y0, y1 = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(mask[y0:y1].view(np.uint8).max(axis=0))
        x0, x1 = int(columns[0]), int(columns[-1]) + 1
        person = mask[y0:y1, x0:x1] != 0
        area = np.count_nonzero(person)
        box = body_crop_box((x0, y0, x1, y1), area, size)
        if (box[2] - box[0]) * (box[3] - box[1]) < BODY_MIN_AREA:
            dropped += 1
            continue
        crop_mask, body = _body_masks(person, (x0, y0, x1, y1), box, size)
        crop_pose = _crop_keypoints(pose, box, BODY_CROP)
        packed = np.packbits(body, axis=1)
        people.append(_Person(area, seed, box, crop_mask, packed, crop_pose, *_paste(crop_mask, box, size)))
    people.sort(key=attrgetter("area"))
    return _regions("body", BODY_CROP, people, dropped)


def _body_masks(person: np.ndarray, tight: Box, box: Box, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The dilated mask of the crop and, without dilation, the body (bool), from the mask in its tight box (bool)."""
    (h, w), (height, width) = BODY_CROP, (box[3] - box[1], box[2] - box[0])
    rows = nearest_indices(height, h) + (box[1] - tight[1])
    columns = nearest_indices(width, w) + (box[0] - tight[0])
    top, bottom = np.searchsorted(rows, (0, person.shape[0]))
    left, right = np.searchsorted(columns, (0, person.shape[1]))
    body = np.zeros(BODY_CROP, bool)
    body[top:bottom, left:right] = person[rows[top:bottom]][:, columns[left:right]]
    mask = cv2.dilate(body.view(np.uint8), _DISK).view(bool)

    # No dilation into the black padding outside the image.
    mask[: max(0, -box[1]) * h // height] = False
    mask[h - max(0, box[3] - size[0]) * h // height :] = False
    mask[:, : max(0, -box[0]) * w // width] = False
    mask[:, w - max(0, box[2] - size[1]) * w // width :] = False

    # Parts of a person thinner than a crop pixel can fall between the samples of the nearest resize. The authors
    # leave visible what the dilation does not reach of them; here it is added. In an enlarged box nothing is missed.
    if height <= h and width <= w and box[0] >= 0 and box[1] >= 0 and box[2] <= size[1] and box[3] <= size[0]:
        return mask, body
    rows = nearest_indices(h, height)[tight[1] - box[1] : tight[3] - box[1]]
    columns = nearest_indices(w, width)[tight[0] - box[0] : tight[2] - box[0]]
    missed = person > mask[:, columns][rows]
    if missed.any():
        y, x = np.nonzero(missed)
        mask[rows[y], columns[x]] = body[rows[y], columns[x]] = True
    return mask, body


def face_regions(
    boxes: np.ndarray,
    size: tuple[int, int],
    seeds: Sequence[int],
    keypoints: Sequence[np.ndarray | None] | None = None,
) -> Regions:
    """The regions of one image's faces, from their boxes.

    Every pixel of a box, rounded to whole pixels, is replaced. Paste order: by area of the rounded box, smallest
    first, equal areas as given.

    Args:
        boxes: Array-like [N, 4], (x0, y0, x1, y1) in pixels.
        size: Height and width of the image.
        seeds: One seed per box.
        keypoints: What is known of each person's pose, as `body_regions` takes it.

    Raises:
        ValueError: A box is not finite, empty, flipped or outside the image, or there are not as many seeds, or
            keypoints, as boxes.
    """
    height, width = size
    people = []
    poses = [None] * len(seeds) if keypoints is None else keypoints
    for index, (face, seed, pose) in enumerate(zip(np.reshape(boxes, (-1, 4)).tolist(), seeds, poses, strict=True)):
        x0, y0, x1, y1 = face
        if not (all(map(math.isfinite, face)) and max(x0, 0) < min(x1, width) and max(y0, 0) < min(y1, height)):
            raise ValueError(f"face box {index} is {face}: expected x0 < x1 and y0 < y1, within {width} × {height}")
        # A face that lies between two pixel centres still covers a pixel.
        x0, y0 = min(round(x0), width - 1), min(round(y0), height - 1)
        x1, y1 = max(round(x1), x0 + 1, 1), max(round(y1), y0 + 1, 1)
        rounded = x0, y0, x1, y1
        people.append(_face(rounded, seed, face_crop_box(rounded, size), FACE_CROP, pose, size))
    people.sort(key=attrgetter("area"))
    return _regions("face", FACE_CROP, people)


def refined_regions(regions: Regions, sizes: Sequence[tuple[int, int]]) -> Regions:
    """The regions of large faces that are generated once more, in crops of ``REFINED_CROP``, in the same order.

    Those are the faces with a crop box of at least ``REFINED_MIN_AREA``. What was replaced is replaced again: the
    paste box, which is the face box within the image, rounded outwards to pixels of the first crop.

    Args:
        regions: Of the faces of a batch.
        sizes: Height and width of each image of the batch.

    Returns:
        Regions on the same device, each with its former seed.
    """
    boxes, sides = regions.crop_boxes.numpy(), (regions.crop_boxes[:, 2:] - regions.crop_boxes[:, :2]).numpy()
    large = np.flatnonzero(sides.prod(axis=1) >= REFINED_MIN_AREA)
    keypoints = regions.keypoints.numpy().astype(np.float64)  # of the crop, and from here on of the image
    keypoints[..., :2] = keypoints[..., :2] * (sides / FACE_CROP[::-1])[:, None] + boxes[:, None, :2]
    people = []
    for i in large.tolist():
        face, size = tuple(regions.paste_boxes[i].tolist()), sizes[regions.image_index[i]]
        people.append(_face(face, int(regions.seeds[i]), refined_crop_box(face), REFINED_CROP, keypoints[i], size))
    refined = replace(_regions("face", REFINED_CROP, people), image_index=regions.image_index[large])
    return refined.to(regions.masks.device)


def _face(
    face: Box, seed: int, box: Box, crop: tuple[int, int], keypoints: np.ndarray | None, size: tuple[int, int]
) -> "_Person":
    """The person of a face box in whole pixels, cut with a square box into a crop."""
    mask, area = _face_mask(face, box, crop, size), (face[2] - face[0]) * (face[3] - face[1])
    return _Person(area, seed, box, mask, None, _crop_keypoints(keypoints, box, crop), *_paste(mask, box, size))


def _face_mask(face: Box, box: Box, crop: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The mask of the crop (bool): what the visible pixels of the face box are pasted from."""
    (h, w), side = crop, box[2] - box[0]
    rows = nearest_indices(h, side)[max(face[1], 0) - box[1] : min(face[3], size[0]) - box[1]]
    columns = nearest_indices(w, side)[max(face[0], 0) - box[0] : min(face[2], size[1]) - box[0]]
    mask = np.zeros(crop, bool)
    mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return mask


def _crop_keypoints(keypoints: np.ndarray | None, box: Box, crop: tuple[int, int]) -> np.ndarray:
    """Keypoints of the image, [17, 3], as those of a crop of a box: float32 [17, 3], 0 where they are not known."""
    if keypoints is None:
        return _NO_KEYPOINTS
    (x0, y0, x1, y1), (h, w) = box, crop
    known = keypoints[:, 2] > 0
    moved = np.zeros((17, 3), np.float32)
    moved[known, :2] = (keypoints[known, :2] - (x0, y0)) * (w / (x1 - x0), h / (y1 - y0))
    moved[known, 2] = 1
    return moved


class _Person(NamedTuple):
    area: int
    seed: int
    crop_box: Box
    mask: np.ndarray
    packed_body: np.ndarray | None
    keypoints: np.ndarray
    paste_box: Box
    paste_mask: np.ndarray


def _paste(mask: np.ndarray, box: Box, size: tuple[int, int]) -> tuple[Box, np.ndarray]:
    """Where in the image a mask of a crop, resized to its box, is True: a box around that, and its mask (uint8)."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    rows = nearest_indices(mask.shape[0], box[3] - box[1])
    columns = nearest_indices(mask.shape[1], box[2] - box[0])
    top, bottom = (min(max(box[1] + int(i), 0), size[0]) for i in np.searchsorted(rows, (y, y + h)))
    left, right = (min(max(box[0] + int(i), 0), size[1]) for i in np.searchsorted(columns, (x, x + w)))
    rows, columns = rows[top - box[1] : bottom - box[1]], columns[left - box[0] : right - box[0]]
    return (left, top, right, bottom), mask[:, columns][rows].view(np.uint8)


def _regions(region: str, crop: tuple[int, int], people: list[_Person], dropped: int = 0) -> Regions:
    height, width = crop
    packed_bodies = np.array([p.packed_body for p in people if p.packed_body is not None], np.uint8)
    return Regions(
        region,
        torch.zeros(len(people), dtype=torch.int64),
        torch.tensor([p.seed for p in people], dtype=torch.int64),
        torch.tensor([p.crop_box for p in people], dtype=torch.int64).view(-1, 4),
        torch.tensor([p.paste_box for p in people], dtype=torch.int64).view(-1, 4),
        torch.from_numpy(np.array([p.mask for p in people], bool).reshape(-1, height, width)),
        torch.from_numpy(packed_bodies.reshape(-1, height, width // 8)) if region == "body" else None,
        torch.from_numpy(np.array([p.keypoints for p in people], np.float32).reshape(-1, 17, 3)),
        torch.from_numpy(np.concatenate([np.empty(0, np.uint8), *(p.paste_mask.ravel() for p in people)])),
        dropped,
    )
