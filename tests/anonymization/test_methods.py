import numpy as np
import pytest
import torch

from anonymization.methods.blur import KERNEL_SIZE, SIGMA, blur, blur_matrix
from anonymization.methods.pixelate import BLOCKS, mosaic_matrix, pixelate
from tests.anonymization import reference

CROPS = ((288, 160), (128, 128))
each_crop = pytest.mark.parametrize("size", CROPS)


def crop(size, seed=0):
    return torch.randint(256, (3, *size), generator=torch.Generator().manual_seed(seed)).double()


def mapped(matrix, image):
    rows, columns = (matrix(length).double() for length in image.shape[1:])
    return rows @ image @ columns.T


@each_crop
@pytest.mark.parametrize(("matrix", "method"), [(blur_matrix, reference.blur), (mosaic_matrix, reference.pixelate)])
def test_matrix_is_the_method(size, matrix, method):
    torch.testing.assert_close(mapped(matrix, crop(size)), method(crop(size)), atol=1e-3, rtol=0)


@each_crop
@pytest.mark.parametrize(("method", "matrix"), [(blur, blur_matrix), (pixelate, mosaic_matrix)])
def test_crop_is_mapped_by_the_matrix_of_its_axes(size, method, matrix):
    difference = method(crop(size).byte()).double() - mapped(matrix, crop(size))
    assert difference.abs().max() <= 0.5 + 1e-3


def spectrum(image):
    """Amplitudes of the cosines of m / (2 (n - 1)) cycles per pixel (DCT-I), which reflection leaves unmixed."""
    for axis in (1, 2):
        n = image.shape[axis]
        mirrored = np.concatenate([image, np.flip(image, axis).take(range(1, n - 1), axis)], axis)
        image = np.fft.fft(mirrored, axis=axis).take(range(n), axis)
    return np.abs(image)


@each_crop
def test_blur_leaves_of_high_frequencies_what_its_kernel_bounds(size):
    image = crop(size)
    before, after = spectrum(image.numpy()), spectrum(mapped(blur_matrix, image).numpy())
    frequencies = [np.arange(n) / (2 * (n - 1)) for n in size]
    # |sum of k(x) cos(2πfx)| <= k(0) / sin(πf) for weights that fall on both sides of k(0).
    weights = np.exp(-0.5 * (np.arange(KERNEL_SIZE) - KERNEL_SIZE // 2) ** 2 / SIGMA**2)
    largest = weights.max() / weights.sum()
    bounds = [np.minimum(1, largest / np.sin(np.pi * np.maximum(f, 1e-9))) for f in frequencies]
    assert (after <= before * np.multiply.outer(*bounds) + 1).all()

    rows, columns = (f > 0.06 for f in frequencies)
    assert (after[:, rows] ** 2).sum() < 0.081**2 * (before[:, rows] ** 2).sum()
    high = np.ix_(range(3), rows, columns)
    assert (after[high] ** 2).sum() < 0.081**4 * (before[high] ** 2).sum()


@each_crop
def test_mosaic_is_of_few_colours(size):
    """Any two crops with the same block means are pixelated alike, and nothing but these means is left."""
    image = crop(size)
    means = image.view(3, BLOCKS, size[0] // BLOCKS, BLOCKS, size[1] // BLOCKS).mean((2, 4))
    result = mapped(mosaic_matrix, image)
    torch.testing.assert_close(result[:, :: size[0] // BLOCKS, :: size[1] // BLOCKS], means, atol=1e-3, rtol=0)
    assert all(len(channel.round(decimals=3).unique()) <= BLOCKS**2 for channel in result)
    assert torch.linalg.matrix_rank(mosaic_matrix(size[0])) == BLOCKS
