import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as pycoco_mask
from torchvision.models.detection.roi_heads import paste_masks_in_image

from metrics.rle import encode, paste_masks_as_rle


def reference(mask_probs: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold=0.5) -> list[dict]:
    bitmaps = paste_masks_in_image(mask_probs, boxes, size)[:, 0] > threshold
    return pycoco_mask.encode(np.asfortranarray(bitmaps.permute(1, 2, 0).numpy().astype(np.uint8)))


def smooth_masks(count: int, generator: torch.Generator, size: int = 28) -> torch.Tensor:
    coarse = torch.rand(count, 1, 5, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


def random_boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """Boxes of all sizes, many over the border of the image, none wholly outside."""
    extent = torch.tensor([size[1], size[0]])
    centre = torch.rand(count, 2, generator=generator) * (extent - 1)
    half = extent * torch.rand(count, 2, generator=generator) ** 3
    return torch.cat([centre - half, centre + half], dim=1)


@pytest.mark.parametrize("seed", range(20))
def test_equals_torchvision_and_pycocotools(seed):
    generator = torch.Generator().manual_seed(seed)
    size = tuple(torch.randint(1, 120, (2,), generator=generator).tolist())
    boxes = random_boxes(30, size, generator)
    clipped = torch.maximum(torch.minimum(boxes, torch.tensor(size).flip(0).repeat(2)), torch.tensor(0.0))
    for masks in (smooth_masks(30, generator), torch.rand(30, 1, 28, 28, generator=generator)):
        for some in (boxes, clipped):
            assert paste_masks_as_rle(masks, some, size) == reference(masks, some, size)
            assert paste_masks_as_rle(masks, some, size, 0.3) == reference(masks, some, size, 0.3)


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 60, 40),  # the image
        (-30, -20, 90, 60),  # more than the image
        (-10, 5, 70, 30),  # from side to side
        (5, -10, 30, 50),  # from top to bottom: runs go on from column to column
        (59.5, 39.5, 60, 40),  # the last pixel
        (12.2, 7.9, 12.3, 8.0),  # within a pixel
        (20, 20, 20, 20),  # nothing
        (30, 20, 10, 5),  # turned round
        (0, 0, 1, 1),
    ],
)
@pytest.mark.parametrize("value", [0.0, 0.5, 0.7, 1.0])
def test_equals_torchvision_at_the_borders(box, value):
    masks, boxes = torch.full((1, 1, 14, 14), value), torch.tensor([box], dtype=torch.float32)
    assert paste_masks_as_rle(masks, boxes, (40, 60)) == reference(masks, boxes, (40, 60))


@pytest.mark.parametrize("box", [(-50, 5, -20, 30), (5, -50, 30, -20), (90, 5, 120, 30), (5, 70, 30, 99)])
def test_a_box_beyond_the_image_is_empty(box):
    rle = paste_masks_as_rle(torch.ones(1, 28, 28), torch.tensor([box], dtype=torch.float32), (40, 60))
    assert rle == pycoco_mask.encode(np.zeros((40, 60, 1), np.uint8, order="F"))


def test_shapes():
    masks = torch.rand(3, 28, 28)
    boxes = torch.tensor([[1.0, 2.0, 30.0, 20.0]]).repeat(3, 1)
    assert paste_masks_as_rle(masks, boxes, (40, 60)) == paste_masks_as_rle(masks[:, None], boxes, (40, 60))
    for none in (torch.zeros(0, 1, 28, 28), torch.zeros(0, 28, 28)):
        assert paste_masks_as_rle(none, torch.zeros(0, 4), (40, 60)) == []


@given(st.integers(0, 5), st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_encode_equals_pycocotools(count, height, width, random):
    bits = [random.random() < 0.5 for _ in range(count * height * width)]
    bitmaps = np.array(bits, bool).reshape(count, height, width)
    expected = [pycoco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8))) for bitmap in bitmaps]
    assert encode(bitmaps) == expected
    assert encode(bitmaps.astype(np.uint8)) == expected
