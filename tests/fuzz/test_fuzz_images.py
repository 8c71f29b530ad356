"""Image files, damaged in their heads and bodies."""

import io

import numpy as np
import pytest
from bounds import inputs, read_or_refuse
from hypothesis import given
from mutations import damaged_pngs, mostly, mutated_bytes
from PIL import Image, ImageOps

from datamodules.folder import read_upright
from datamodules.pictures import encode_unchanged, strip_jpeg
from datamodules.record import Record

SIZE = 24, 40


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (3, 5, 3), np.uint8)).resize(SIZE[::-1], Image.Resampling.BICUBIC)


def encoded(picture, format_, **options):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    picture.save(buffer, format_, exif=exif, icc_profile=b"profile" * 9, **options)
    return buffer.getvalue()


def check_read(path, size=SIZE):
    """Check that an image is read, as the records of datasets read it, with the size it has, or refused."""
    record = Record("image", path, size, [])

    def read():
        # The quick look at all images, before the run, must be no stricter than the decoding.
        return record.image_problem(), record.read_image()

    outcome = read_or_refuse(read, path)
    if outcome is None:
        return None
    pixels = outcome[1]
    assert pixels.shape == (*size, 3) and pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize("mode", ["RGB", "P", "LA", "I;16"])
def test_png(picture, tmp_path, mode):
    path = tmp_path / "image.png"
    image = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
    good = encoded(image, "PNG")

    @inputs(60)
    @given(damaged_pngs(good))
    def fuzz(data):
        path.write_bytes(data)
        check_read(path)
        read_or_refuse(lambda: read_upright(path), path)

    fuzz()


def test_png_without_new_checksums_is_what_it_was_or_refused(picture, tmp_path):
    path = tmp_path / "image.png"
    good = encoded(picture, "PNG")
    expected = np.asarray(picture)
    compared = []

    @inputs(200)
    @given(mutated_bytes(good, 2))
    def fuzz(data):
        path.write_bytes(data)
        pixels = check_read(path)
        if pixels is not None:
            np.testing.assert_array_equal(pixels, expected)
            compared.append(True)

    fuzz()
    assert compared, "no damaged file was read"


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_blocks": 1}])
def test_jpeg(picture, tmp_path, options):
    """Its data has no checksum: what of it is read is Pillow's, and a copy has the same pixels."""
    path, copy = tmp_path / "image.jpg", tmp_path / "copy.jpg"
    good = encoded(picture, "JPEG", **options)
    compared = []

    @inputs(80)
    @given(mostly(mutated_bytes(good), mutated_bytes(good[:200]), once_in=10))
    def fuzz(data):
        path.write_bytes(data)
        pixels = check_read(path)
        read_or_refuse(lambda: read_upright(path), path)
        if pixels is not None:
            with Image.open(path) as file:
                turned = ImageOps.exif_transpose(file) if file.size != SIZE[::-1] else file
                np.testing.assert_array_equal(pixels, np.asarray(turned.convert("RGB")))
                compared.append(True)
            copied = read_or_refuse(lambda: encode_unchanged(pixels, path), path)
            if copied is not None and data.startswith(b"\xff\xd8"):
                copy.write_bytes(copied)
                with Image.open(copy) as file:
                    found = np.asarray(file.convert("RGB")).astype(int)
                assert np.abs(found - pixels).max() <= (0 if copied == strip_jpeg(data) else 40)

    fuzz()
    assert compared, "no damaged file was read"


@pytest.mark.parametrize("format_", ["WEBP", "TIFF", "BMP", "GIF"])
def test_other_formats(picture, tmp_path, format_):
    path = tmp_path / f"image.{format_.lower()}"
    buffer = io.BytesIO()
    picture.save(buffer, format_)
    good = buffer.getvalue()

    @inputs(40)
    @given(mutated_bytes(good))
    def fuzz(data):
        path.write_bytes(data)
        check_read(path)
        read_or_refuse(lambda: read_upright(path), path)

    fuzz()
