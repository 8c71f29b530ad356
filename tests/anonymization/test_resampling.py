import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from anonymization.resampling import Interpolation, nearest_indices, resize, resize_matrix

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
            image = torch.rand(1, 1, source, 5, generator=torch.Generator().manual_seed(0)).double()
            expected = F.interpolate(image, (target, 5), mode="bicubic", antialias=True)
            torch.testing.assert_close(resize_matrix(source, target, Interpolation.BICUBIC) @ image, expected)


def test_area_matrix_resizes_as_opencv_does():
    for length in range(128, 600, 7):
        image = np.random.default_rng(length).random((length, length))
        expected = cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)
        matrix = resize_matrix(length, 128, Interpolation.AREA).numpy()
        np.testing.assert_allclose(matrix @ image @ matrix.T, expected, atol=1e-5)


@pytest.mark.parametrize("interpolation", Interpolation)
def test_images_are_resized_as_their_axes_are(interpolation):
    """Within a grey level where the library rounds after each axis; not of noise, for it also clips after each."""
    coarse = np.random.default_rng(0).integers(60, 190, (9, 7, 3)).astype(np.float32)
    for (h, w), size in (((300, 200), (288, 160)), ((400, 700), (128, 128)), ((150, 150), (128, 128))):
        image = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
        image = torch.from_numpy(image).permute(2, 0, 1)
        rows, columns = (resize_matrix(n, m, interpolation) for n, m in zip((h, w), size, strict=True))
        expected = (rows @ image.double() @ columns.T).round()
        difference = (resize(image.contiguous(), size, interpolation).double() - expected).abs()
        assert difference.max() <= (interpolation is not Interpolation.NEAREST)
        assert torch.equal(resize(image, size, interpolation), resize(image.contiguous(), size, interpolation))
