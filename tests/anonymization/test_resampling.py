import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anonymization.banded import Band, apply, plan
from anonymization.resampling import Interpolation, nearest_indices, resize_matrix

LENGTHS = (1, 2, 3, 7, 23, 64, 127, 128, 129, 160, 201, 288, 289, 500)


@pytest.mark.parametrize("crop", [128, 160, 288])
def test_nearest_indices_are_those_of_torch(crop):
    for length in range(1, 1100):
        for source, target in ((crop, length), (length, crop)):
            expected = F.interpolate(torch.arange(source).view(1, 1, -1).float(), target, mode="nearest").flatten()
            assert nearest_indices(source, target).tolist() == expected.tolist()


@pytest.mark.parametrize("crop", [128, 160, 288])
def test_bicubic_matrix_resizes_as_torch_does(crop):
    for length in LENGTHS:
        for source, target in ((crop, length), (length, crop)):
            image = torch.rand(1, 1, source, 5, generator=torch.Generator().manual_seed(0))
            expected = F.interpolate(image, (target, 5), mode="bicubic", antialias=True)
            torch.testing.assert_close(resize_matrix(source, target, Interpolation.BICUBIC) @ image, expected)


def test_area_matrix_resizes_as_opencv_does():
    for length in range(128, 600, 7):
        image = np.random.default_rng(length).random((length, length), np.float32)
        expected = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)
        matrix = resize_matrix(length, 128, Interpolation.AREA).numpy()
        np.testing.assert_allclose(matrix @ image @ matrix.T, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("box", "crop", "offset", "wanted"),
    [
        (80, 128, 0, slice(35, 50)),
        (80, 128, -30, slice(35, 50)),
        (80, 128, 45, slice(36, 37)),
        (700, 288, -350, slice(0, 700)),
        (700, 288, -20, slice(100, 400)),
    ],
)
def test_part_of_a_chain_of_maps_is_that_part_of_the_whole(box, crop, offset, wanted):
    """Boxes cut from 200 × 200 pixels that are zero outside, resized to a crop and back."""
    source = torch.randint(256, (3, 200, 200), generator=torch.Generator().manual_seed(0)).float()
    padded = F.pad(source, [1000] * 4)[:, 1000 + offset :, 1000 + offset :][:, :box, :box]
    enter, leave = (resize_matrix(*lengths, Interpolation.BICUBIC) for lengths in ((box, crop), (crop, box)))
    whole = (enter @ padded @ enter.T).round().clamp(0, 255)
    whole = (leave @ whole @ leave.T).round().clamp(0, 255)

    columns = slice(wanted.start + 1, wanted.stop) if wanted.stop - wanted.start > 1 else wanted
    bands = [Band(matrix, torch.device("cpu")) for matrix in (enter, leave)]
    plans = [plan(bands, part, offset, 200) for part in (wanted, columns)]
    assert (apply(source, *plans) - whole[:, wanted, columns]).abs().max() <= 1
    for needed, _ in plans:
        assert 0 <= needed.start < needed.stop <= 200
        assert needed.stop - needed.start < wanted.stop - wanted.start + 24


def test_blocks_leave_out_most_of_the_zeros():
    matrix = resize_matrix(288, 700, Interpolation.BICUBIC)
    (part,) = plan([Band(matrix, torch.device("cpu"))], slice(0, 700), 0, 288).parts
    assert matrix.count_nonzero() < sum(block.numel() for block, _ in part.blocks) < matrix.numel() / 6
