"""Anonymizes the people of a batch of images.

The result is that of the sequential procedure of Hukkelås & Lindseth 2023: person after person, a crop is cut
from the image as changed so far (black outside the image), resized to the crop size, replaced by the method,
resized back (bicubic, antialiased) and pasted where the mask, resized back (nearest), is True.

People who do not meet are replaced at once; nothing is computed but what lies in their boxes, so the cost is that of
the people's area, whatever the size of the images.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonymization import composite
from anonymization.boxes import BODY_CROP, FACE_CROP, REFINED_CROP, crop_interpolation
from anonymization.conditions import Condition
from anonymization.generators import load_generator
from anonymization.methods import METHODS
from anonymization.methods.base import CropMethod, Crops, Fill, Method, Separable
from anonymization.methods.histogram import RealisticHM
from anonymization.methods.latent_optimization import RealisticHMLO
from anonymization.methods.mask_out import GREY
from anonymization.methods.realistic import Realistic
from anonymization.options import Generators
from anonymization.regions import Regions, refined_regions
from anonymization.resampling import Interpolation, resize
from errors import UserError
from threads import one_thread

# Beside METHODS, those that draw people with a generator, by the name they have in a condition.
REALISTIC: dict[str, type[Realistic]] = {
    "realistic": Realistic,
    "realistic_refined": Realistic,
    "realistic_hm": RealisticHM,
    "realistic_hm_lo": RealisticHMLO,
}
CROPS = {"body": BODY_CROP, "face": FACE_CROP, "face_refined": REFINED_CROP}  # of each generator: height, width


class Anonymizer:
    """Anonymizes batches of images under one condition; picklable, without the generators it has loaded.

    Args:
        condition: Which region of people is replaced, and how.
        generators: What realistic conditions draw people with.

    Raises:
        UserError: A generator that the condition needs is not named, or ``chunk`` is no number of people.
    """

    def __init__(self, condition: Condition, generators: Generators | None = None) -> None:
        self.condition = condition
        self.generators = generators or Generators()
        for key in condition.generators:
            if getattr(self.generators, key) is None:
                raise UserError(f"generators.{key}: is missing; {condition} needs one: see docs/generators.md")
        if self.generators.chunk < 1:
            raise UserError(f"generators.chunk: {self.generators.chunk} is no number of people, 1 or more")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_realistic"}

    def load(self) -> dict[str, str]:
        """Load the condition's generators now rather than at the first call, and return their names by key.

        Raises:
            UserError: One cannot be loaded, or is not fit for the condition.
        """
        return {key: method.generator.name for key, method in self._realistic.items()}

    @cached_property
    def _realistic(self) -> dict[str, Realistic]:
        options, methods = self.generators, {}
        for key in self.condition.generators:
            generator = load_generator(f"generators.{key}", getattr(options, key), CROPS[key], options.diffusers)
            try:
                methods[key] = REALISTIC[self.condition.method](generator, options.chunk)
            except UserError as error:
                raise UserError(f"generators.{key}: {error}") from None
        return methods

    def __call__(self, images: Sequence[Tensor], regions: Regions) -> list[Tensor]:
        """Replace the regions of a batch of images.

        A person's result does not depend on the rest of the batch, nor on the caller's autocast or precision of
        matrix products: they are in double precision. Of a realistic condition that holds up to the rounding of the
        generator's arithmetic, which can differ with the number of people at once.

        Args:
            images: uint8 [3, H_i, W_i], on the device of ``regions``. Not modified.
            regions: The people of all images: ``Regions.cat`` of the images' own.

        Returns:
            The images: the same objects where there are no regions; new ones, views of one buffer, where there are.

        Raises:
            ValueError: The regions are of another kind than the condition's, or do not fit the images.
        """
        if self.condition.region == "none":
            return list(images)
        if regions.region != self.condition.region:
            raise ValueError(f"regions of kind {regions.region!r} given for the condition {str(self.condition)!r}")
        if not self.condition.generators:
            return anonymize(images, regions, METHODS[self.condition.method])
        results = list(images)
        for key, method in self._realistic.items():
            if key == "face_refined":
                regions = refined_regions(regions, [tuple(image.shape[1:]) for image in images])
            results = anonymize(results, regions, method, hidden=True)
        return results


@torch.compiler.disable
@torch.no_grad()
def anonymize(images: Sequence[Tensor], regions: Regions, method: Method, hidden: bool = False) -> list[Tensor]:
    """What ``Anonymizer`` does, for any method.

    Args:
        images: See there.
        regions: See there.
        method: What replaces the people.
        hidden: Nothing of anybody surrounds the person in a crop: who is to be replaced, and has not been yet, is grey
            there, and takes no part when the crop is resized. Inside the person's mask the crop is as it is, and the
            mask has all that pixels which are replaced become. For crop methods.

    Raises:
        ValueError: The regions do not fit the images, or the method does not return crops like those it got.
    """
    _check(images, regions)
    if len(regions) == 0:
        return list(images)
    device = regions.masks.device.type
    with torch.autocast(device, enabled=False):
        changed, image_index = np.unique(regions.image_index.numpy(), return_inverse=True)
        with one_thread():
            people = _People([images[i] for i in changed.tolist()], image_index, regions, hidden)
        if isinstance(method, Fill):
            with one_thread():
                for i in range(len(regions)):
                    people.paste(i, method.value)
        elif isinstance(method, Separable):
            with one_thread():
                for wave in _waves(regions):
                    _replace_separably(people, wave, method)
        else:
            for wave in _waves(regions):
                _replace_crops(people, wave, method)
    outputs = list(images)
    for i, image in zip(changed.tolist(), people.pixels.images, strict=True):
        outputs[i] = image
    return outputs


def _check(images: Sequence[Tensor], regions: Regions) -> None:
    for index, (_, _, right, bottom) in zip(regions.image_index.tolist(), regions.paste_boxes.tolist(), strict=True):
        image = images[index]
        if image.dtype != torch.uint8 or image.ndim != 3:
            raise ValueError(f"image {index} is {image.dtype} {list(image.shape)}: expected torch.uint8 [3, H, W]")
        if right > image.shape[2] or bottom > image.shape[1]:
            size = f"{image.shape[2]} × {image.shape[1]}"
            raise ValueError(f"a region reaches to {right}, {bottom}: outside image {index} of {size} pixels")


class _People:
    """The people of a batch, by number: what is cut of each from the images as they are now, and pasted into them.

    Where they are ``hidden``, their surroundings are cut from copies in which nobody is shown who is not yet replaced.
    """

    def __init__(
        self, images: Sequence[Tensor], image_index: np.ndarray, regions: Regions, hidden: bool = False
    ) -> None:
        self.pixels = composite.Pixels(images)
        self.image_index = image_index
        self.regions = regions
        self.crop_size = tuple(regions.masks.shape[1:])
        self.crop_boxes, self.paste_boxes = regions.crop_boxes.numpy(), regions.paste_boxes.numpy()
        areas = (self.paste_boxes[:, 2:] - self.paste_boxes[:, :2]).prod(axis=1)
        self.paste_starts = np.cumsum(areas) - areas
        self.paste_masks = regions.paste_masks.split(areas.tolist())
        self.masks = regions.masks
        self.surroundings = self.shown = None
        if hidden:
            # A pixel of the image is replaced whole, but of the pixels of an enlarged crop that it becomes, the mask
            # may have the first alone. What is left would show the person, or nothing.
            self.masks = regions.masks | torch.stack([self._covered(person) for person in range(len(regions))])
            self.surroundings = composite.Pixels(images)  # 0 where somebody is not shown
            self.shown = composite.Pixels([torch.full_like(image, 255) for image in images])
            for person in range(len(regions)):
                self._paste(self.surroundings, person, 0)
                self._paste(self.shown, person, 0)

    def crop(self, person: int) -> Tensor:
        """Uint8 [3, h, w]."""
        crop = self._crop(self.pixels, person)
        if self.surroundings is None:
            return crop
        # A pixel of the crop is the mean of those shown that it is resized from; grey where they have little weight.
        shown = self._crop(self.shown, person, outside=255).float() / 255
        around = (self._crop(self.surroundings, person) / shown.clamp(min=0.5)).round().clamp(0, 255).to(torch.uint8)
        return torch.where(self.masks[person], crop, torch.where(shown >= 0.5, around, GREY))

    def _covered(self, person: int) -> Tensor:
        """The crop pixels that are mostly of pixels of the image that are replaced: bool [h, w]."""
        (x0, y0, x1, y1), (left, top, right, bottom) = (
            self.crop_boxes[person].tolist(),
            self.paste_boxes[person].tolist(),
        )
        mask = self.paste_masks[person].view(bottom - top, right - left) * 255
        window = F.pad(mask, (left - x0, x1 - right, top - y0, y1 - bottom)).expand(3, -1, -1)
        _, height, width = self.pixels.images[self.image_index[person]].shape
        visible = min(y1, height) - max(y0, 0), min(x1, width) - max(x0, 0)
        resized = resize(window, self.crop_size, crop_interpolation(self.regions.region, visible, self.crop_size))
        return resized[0] > 127

    def _crop(self, pixels: composite.Pixels, person: int, outside: int = 0) -> Tensor:
        image = pixels.images[self.image_index[person]]
        x0, y0, x1, y1 = self.crop_boxes[person].tolist()
        _, height, width = image.shape
        window = image[:, max(y0, 0) : y1, max(x0, 0) : x1]
        visible = window.shape[1:]
        if visible != (y1 - y0, x1 - x0):
            beyond = max(-x0, 0), max(x1 - width, 0), max(-y0, 0), max(y1 - height, 0)
            window = F.pad(window, beyond, value=outside)
        return resize(window, self.crop_size, crop_interpolation(self.regions.region, visible, self.crop_size))

    def resized_back(self, person: int, crop: Tensor) -> Tensor:
        """The part of a crop, uint8 [3, h, w], that belongs into the paste box: uint8 [3, height, width]."""
        x0, y0, x1, y1 = self.crop_boxes[person].tolist()
        left, top, right, bottom = self.paste_boxes[person].tolist()
        resized = resize(crop, (y1 - y0, x1 - x0), Interpolation.BICUBIC)
        return resized[:, top - y0 : bottom - y0, left - x0 : right - x0]

    def paste(self, person: int, values: Tensor | int) -> None:
        """Write values, uint8 [3, height, width] of the paste box, or a constant, where the mask is 1."""
        self._paste(self.pixels, person, values)
        if self.surroundings is not None:
            self._paste(self.surroundings, person, values)
            self._paste(self.shown, person, 255)

    def _paste(self, pixels: composite.Pixels, person: int, values: Tensor | int) -> None:
        left, top, right, bottom = self.paste_boxes[person].tolist()
        target = pixels.images[self.image_index[person]][:, top:bottom, left:right]
        # target + mask · (values - target), modulo 256: torch.where takes ten times as long on bytes.
        target.addcmul_(self.paste_masks[person].view(bottom - top, right - left), values - target)


def _replace_separably(people: _People, wave: np.ndarray, method: Separable) -> None:
    boxes, regions = people.crop_boxes[wave], people.regions
    is_small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) <= composite.LARGEST
    small, large = wave[is_small], wave[~is_small]
    small_results = composite.replace(
        people.pixels,
        people.image_index[small],
        people.crop_boxes[small],
        people.paste_boxes[small],
        regions.paste_masks,
        people.paste_starts[small],
        people.crop_size,
        regions.region,
        method,
    )
    large_results = [people.resized_back(i, method.crop(people.crop(i))) for i in large.tolist()]
    for values, index in small_results:
        people.pixels.buffer.scatter_(0, index, values)
    for i, values in zip(large.tolist(), large_results, strict=True):
        people.paste(i, values)


def cut(images: Sequence[Tensor], regions: Regions) -> Crops:
    """The crops of all people of a batch of images as they are, in the order of the regions.

    Args:
        images: uint8 [3, H_i, W_i], on the device of ``regions``.
        regions: At least one.

    Raises:
        ValueError: The regions do not fit the images.
    """
    _check(images, regions)
    with one_thread():
        people = _People(images, regions.image_index.numpy(), regions)
        return _crops(people, np.arange(len(regions)))


def _crops(people: _People, wave: np.ndarray) -> Crops:
    regions, images = people.regions, torch.cat([people.crop(i)[None] for i in wave.tolist()])
    return Crops(
        images,
        people.masks[wave][:, None],
        regions.bodies[wave][:, None],
        regions.keypoints[wave].to(images.device),
        regions.seeds[wave],
    )


def _replace_crops(people: _People, wave: np.ndarray, method: CropMethod) -> None:
    with one_thread():
        crops = _crops(people, wave)
    results = method(crops)  # in the caller's number of threads: it may be a neural network
    if results.dtype != torch.uint8 or results.shape != crops.images.shape:
        given = f"{results.dtype} {list(results.shape)}"
        raise ValueError(f"the method returned {given}: expected torch.uint8 {list(crops.images.shape)}")
    with one_thread():
        for i, result in zip(wave.tolist(), results, strict=True):
            people.paste(i, people.resized_back(i, result))


def _waves(regions: Regions) -> list[np.ndarray]:
    """Split people into groups to replace at once, one group after the other, as if each came after the other.

    A group is cut as a whole, then pasted. So a person must come after the earlier people who paste pixels of its
    crop, and not before the earlier people whose crop has pixels that it pastes. No two of a group paste into
    overlapping boxes, since a person's crop contains its paste box.
    """
    crop, paste, image = regions.crop_boxes.numpy(), regions.paste_boxes.numpy(), regions.image_index.numpy()
    overlap = (crop[:, None, :2] < paste[:, 2:]) & (paste[:, :2] < crop[:, None, 2:])
    reads = overlap.all(axis=2) & (image[:, None] == image)  # [i, j]: the crop of i has pixels that j pastes
    level = np.zeros(len(regions), np.int64)
    for i in range(len(regions)):
        after = (level[:i] + 1) * reads[i, :i]
        not_before = level[:i] * reads[:i, i]
        level[i] = np.maximum(after, not_before).max(initial=0)
    return [np.flatnonzero(level == wave) for wave in range(level.max(initial=-1) + 1)]
