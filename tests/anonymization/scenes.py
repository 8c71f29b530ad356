"""Random images with people: blobs, overlapping, cut by the border, of one pixel or larger than the image."""

from typing import NamedTuple

import cv2
import numpy as np
import torch


class Scene(NamedTuple):
    image: torch.Tensor  # uint8 [3, H, W]
    masks: np.ndarray  # bool [N, H, W], some empty
    faces: np.ndarray  # float [M, 4]

    @property
    def size(self):
        return tuple(self.image.shape[1:])


def draw(seed, largest=400):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(16, largest, 2).tolist())
    people = rng.integers(0, 7)
    masks = np.zeros((people, *size), bool)
    for mask in masks:
        mask[:] = _blobs(rng, size)
    faces = [_face(rng, size) for _ in range(people)]
    return Scene(torch.from_numpy(_image(rng, size)), masks, np.array(faces).reshape(-1, 4))


def _image(rng, size):
    match rng.integers(3):
        case 0:  # noise
            return rng.integers(0, 256, (3, *size), dtype=np.uint8)
        case 1:  # saturated dots: resizing overshoots at every one of them
            return np.where(rng.random((3, *size)) < rng.random(), 255, 0).astype(np.uint8)
        case _:  # smooth shapes
            coarse = rng.integers(0, 256, (3, 9, 7)).astype(np.float32)
            image = [cv2.resize(c, size[::-1], interpolation=cv2.INTER_CUBIC) for c in coarse]
            return np.clip(image, 0, 255).astype(np.uint8)


def _blobs(rng, size):
    mask = np.zeros(size, np.uint8)
    for _ in range(rng.integers(0, 4)):
        center = rng.integers(-5, np.array(size[::-1]) + 5).tolist()
        axes = np.exp(rng.uniform(0, np.log(max(size)))) * rng.uniform(0.02, 0.6, 2)
        cv2.ellipse(mask, center, axes.astype(int).tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
    return mask.astype(bool)


def _face(rng, size):
    extent = np.exp(rng.uniform(0.5, np.log(max(size)))) * rng.uniform(0.5, 1, 2)
    middle = rng.uniform(0, 1, 2) * size[::-1]
    face = np.concatenate([middle - extent / 2, middle + extent / 2])
    limits = np.array([*size[::-1], *size[::-1]])
    if rng.random() < 0.7:
        face = face.clip(0, limits)
    # Whole pixels, at least one of them inside.
    face = face.round()
    face[:2] = np.minimum(face[:2], limits[:2] - 1)
    face[2:] = np.maximum(face[2:], np.maximum(face[:2] + 1, 1))
    return face
