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


@pytest.mark.parametrize("offset", [-30, 0, 45])
def test_part_of_a_chain_of_maps_is_that_part_of_the_whole(offset):
    """Of a source of 100 pixels that is zero outside, cut at an offset, enlarged and reduced again."""
    source = torch.randint(256, (3, 100, 100), generator=torch.Generator().manual_seed(0)).float()
    padded = F.pad(source, (40, 40, 40, 40))[:, 40 + offset :, 40 + offset :][:, :80, :80]
    enter = resize_matrix(80, 128, Interpolation.BICUBIC)
    leave = resize_matrix(128, 80, Interpolation.BICUBIC)
    whole = (enter @ padded @ enter.T).round().clamp(0, 255)
    whole = (leave @ whole @ leave.T).round().clamp(0, 255)

    bands = [Band(matrix, torch.device("cpu")) for matrix in (enter, leave)]
    rows, columns = slice(35, 50), slice(36, 37)
    plans = [plan(bands, part, offset, 100) for part in (rows, columns)]
    assert (apply(source, *plans) - whole[:, rows, columns]).abs().max() <= 1
    for (matrices, needed), part in zip(plans, (rows, columns), strict=True):
        assert needed.stop - needed.start < part.stop - part.start + 12
        assert [m.shape[1] for m in matrices] == [needed.stop - needed.start, matrices[0].shape[0]]
