"""Anonymizes the people of a batch of images.

The result is that of the sequential procedure of Hukkelås & Lindseth 2023: person after person, a crop is cut
from the image as changed so far (black outside the image), resized to the crop size, replaced by the method,
resized back (bicubic, antialiased) and pasted where the mask, resized back (nearest), is True.

Resizing and the separable methods are linear along each axis and local, so they run as products with the few
rows and columns of small matrices that the pasted pixels need: the cost is that of the people's area, whatever
the size of the images.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from anonymization.banded import Band, apply, plan
from anonymization.boxes import crop_interpolation
from anonymization.conditions import Condition
from anonymization.methods import METHODS
from anonymization.methods.base import CropMethod, Fill, Method, Separable
from anonymization.regions import Regions
from anonymization.resampling import Interpolation, resize_matrix, resize_rows
from threads import one_thread


class Anonymizer:
    """Anonymizes batches of images under one condition.

    Args:
        condition: Which region of people is replaced, and how.
    """

    def __init__(self, condition: Condition) -> None:
        self.condition = condition

    def __call__(self, images: Sequence[Tensor], regions: Regions) -> list[Tensor]:
        """Replace the regions of a batch of images.

        A person's result does not depend on the rest of the batch, and neither the caller's autocast nor its
        precision of matrix products applies.

        Args:
            images: uint8 [3, H_i, W_i], on the device of ``regions``. Not modified.
            regions: The people of all images: ``Regions.cat`` of the images' own.

        Returns:
            The images: new ones where there are regions, the same objects where there are none.

        Raises:
            ValueError: The regions are of another kind than the condition's, or do not fit the images.
        """
        if self.condition.region == "none":
            return list(images)
        if regions.region != self.condition.region:
            raise ValueError(f"regions of kind {regions.region!r} given for the condition {str(self.condition)!r}")
        return anonymize(images, regions, METHODS[self.condition.method])


@torch.compiler.disable
@torch.no_grad()
def anonymize(images: Sequence[Tensor], regions: Regions, method: Method) -> list[Tensor]:
    """What ``Anonymizer`` does, for any method."""
    with one_thread():
        outputs = list(images)
        for index in set(regions.image_index.tolist()):
            image = images[index]
            if image.dtype != torch.uint8 or image.ndim != 3:
                raise ValueError(f"image {index} is {image.dtype} {list(image.shape)}: expected torch.uint8 [3, H, W]")
            outputs[index] = image.clone()
    people = _people(outputs, regions)
    with _full_precision(regions.masks.device):
        if isinstance(method, Fill | Separable):
            with one_thread():
                for person in people:
                    _paste(person, method.value if isinstance(method, Fill) else _separable(person, method))
        else:
            for wave in _waves(regions):
                _replace([people[i] for i in wave], method)
    return outputs


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products in float32, whatever the caller has set."""
    with torch.autocast(device.type, enabled=False), torch.autocast("cpu", enabled=False):
        if not hasattr(torch.backends, "fp32_precision"):  # before torch 2.9
            precision = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(precision)
            return
        # Not by the function above, which raises where the caller has used these settings.
        backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
        precisions = [backend.fp32_precision for backend in backends]
        for backend in backends:
            backend.fp32_precision = "ieee"
        try:
            yield
        finally:
            for backend, precision in zip(backends, precisions, strict=True):
                backend.fp32_precision = precision


class _Axis(NamedTuple):
    """One axis of a person's crop, in pixels."""

    start: int  # of the crop box in the image; may be negative
    box: int  # length of the crop box
    crop: int  # length of the crop
    image: int  # length of the image
    paste: slice  # the part of the image that is replaced

    @property
    def wanted(self) -> slice:
        """The part of the crop box that is pasted."""
        return slice(self.paste.start - self.start, self.paste.stop - self.start)


class _Person(NamedTuple):
    image: Tensor  # uint8 [3, H, W], written to
    rows: _Axis
    columns: _Axis
    interpolation: Interpolation
    seed: int
    mask: Tensor  # bool [h, w], of the crop
    paste_mask: Tensor  # uint8, of the part of the image that is replaced


def _people(images: Sequence[Tensor], regions: Regions) -> list[_Person]:
    image_index, seeds = regions.image_index.tolist(), regions.seeds.tolist()
    crop_boxes, paste_boxes = regions.crop_boxes.tolist(), regions.paste_boxes.tolist()
    paste_masks = regions.paste_masks.split([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in paste_boxes])
    people = []
    for index, seed, (x0, y0, x1, y1), (left, top, right, bottom), mask, paste_mask in zip(
        image_index, seeds, crop_boxes, paste_boxes, regions.masks, paste_masks, strict=True
    ):
        (_, height, width), (h, w) = images[index].shape, mask.shape
        if right > width or bottom > height:
            raise ValueError(
                f"region {[left, top, right, bottom]} is outside image {index} of {width} × {height} pixels"
            )
        visible = min(y1, height) - max(y0, 0), min(x1, width) - max(x0, 0)
        rows = _Axis(y0, y1 - y0, h, height, slice(top, bottom))
        columns = _Axis(x0, x1 - x0, w, width, slice(left, right))
        interpolation = crop_interpolation(regions.region, visible, (h, w))
        paste_mask = paste_mask.view(bottom - top, right - left)
        people.append(_Person(images[index], rows, columns, interpolation, seed, mask, paste_mask))
    return people


def _paste(person: _Person, values: Tensor | int) -> None:
    """Write values, uint8 [3, h, w] of the paste box or a constant, where the mask is 1."""
    target = person.image[:, person.rows.paste, person.columns.paste]
    # target + mask · (values - target), modulo 256: torch.where takes ten times as long on bytes.
    target.addcmul_(person.paste_mask, values - target)


def _separable(person: _Person, method: Separable) -> Tensor:
    """The crop cut, mapped and resized back: uint8 [3, h, w] of the paste box."""
    device, plans = person.image.device, []
    for axis in (person.rows, person.columns):
        if person.interpolation is Interpolation.NEAREST:
            # The crop's pixels are those of the image: nothing is rounded on the way.
            bands = [_through(method, axis.box, axis.crop, device)]
        else:
            enter = _enter(axis.box, axis.crop, person.interpolation, device)
            bands = [enter, _leave(method, axis.box, axis.crop, device)]
        plans.append(plan(bands, axis.wanted, axis.start, axis.image))
    return apply(person.image, *plans).to(torch.uint8)


def _replace(people: Sequence[_Person], method: CropMethod) -> None:
    """Replace people none of whose crops shows another's result."""
    crops = torch.stack([_cut(person) for person in people])
    masks = torch.stack([person.mask for person in people])[:, None]
    results = method(crops, masks, torch.tensor([person.seed for person in people]))
    for person, result in zip(people, results, strict=True):
        plans = []
        for axis in (person.rows, person.columns):
            leave = _leave(None, axis.box, axis.crop, result.device)
            plans.append(plan([leave], axis.wanted, 0, axis.crop))
        _paste(person, apply(result, *plans).to(torch.uint8))


def _cut(person: _Person) -> Tensor:
    """The crop: float32 [3, h, w], whole grey levels."""
    plans = []
    for axis in (person.rows, person.columns):
        enter = _enter(axis.box, axis.crop, person.interpolation, person.image.device)
        plans.append(plan([enter], slice(0, axis.crop), axis.start, axis.image))
    return apply(person.image, *plans)


def _waves(regions: Regions) -> list[list[int]]:
    """Split people into groups to replace at once, one group after the other, as if each came after the other.

    A group is cut as a whole, then pasted in order. So a person must come after the earlier people who paste
    pixels of its crop, and not before the earlier people whose crop has pixels that it pastes.
    """
    crop, paste, image = regions.crop_boxes.numpy(), regions.paste_boxes.numpy(), regions.image_index.numpy()
    overlap = (crop[:, None, :2] < paste[:, 2:]) & (paste[:, :2] < crop[:, None, 2:])
    reads = overlap.all(axis=2) & (image[:, None] == image)  # [i, j]: the crop of i has pixels that j pastes
    level = np.zeros(len(regions), np.int64)
    for i in range(len(regions)):
        after = (level[:i] + 1) * reads[i, :i]
        not_before = level[:i] * reads[:i, i]
        level[i] = np.maximum(after, not_before).max(initial=0)
    return [np.flatnonzero(level == wave).tolist() for wave in range(level.max(initial=-1) + 1)]


# The matrices depend on two lengths only. Those of enlarged crops, the frequent ones, are at most as large as the
# crop and all fit into their cache (40 MB); larger boxes are rarer and take up to a megabyte per axis.
@lru_cache(maxsize=512)
def _through(method: Separable, box: int, crop: int, device: torch.device) -> Band:
    """From the crop box through crop and method back to the crop box, without rounding in between."""
    nearest = resize_matrix(box, crop, Interpolation.NEAREST)
    return Band(resize_rows(method.matrix(crop) @ nearest, box), device)


@lru_cache(maxsize=128)
def _enter(box: int, crop: int, interpolation: Interpolation, device: torch.device) -> Band:
    """From the crop box to the crop."""
    return Band(resize_matrix(box, crop, interpolation), device)


@lru_cache(maxsize=128)
def _leave(method: Separable | None, box: int, crop: int, device: torch.device) -> Band:
    """From the crop through the method, if any, to the crop box."""
    return Band(resize_rows(torch.eye(crop) if method is None else method.matrix(crop), box), device)
