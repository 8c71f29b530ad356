"""What is written beside the pixels of an image, and that the pixels are those that were asked for."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from datamodules.pictures import encode, encode_unchanged, strip_jpeg
from errors import UserError

SECRET = b"nobody may read this"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GPS, ORIENTATION = 0x8825, 0x0112


def photograph(mode="RGB", size=(64, 48)):
    """A smooth picture, on which JPEG is nearly exact."""
    y, x = np.mgrid[: size[1], : size[0]]
    rgb = np.stack([x * 3, y * 4, (x + y) * 2], -1).astype(np.uint8)
    return Image.fromarray(rgb).convert(mode)


def segment(code, payload):
    return b"\xff" + bytes([code]) + (len(payload) + 2).to_bytes(2) + payload


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def exif(orientation=1):
    """Exif with a place and a thumbnail that is a JPEG of its own."""
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    tags[0x010E] = SECRET.decode()
    tags.get_ifd(GPS)[2] = (48.0, 51.0, 29.0)
    thumbnail = jpeg(Image.new("RGB", (16, 16), "red"))
    ifd = tags.get_ifd(1)  # IFD1
    ifd[0x0103], ifd[0x0201], ifd[0x0202] = 6, 0, len(thumbnail)
    return tags.tobytes() + thumbnail


def leaky_jpeg(image, orientation=1, **options):
    """A JPEG with everything beside the pixels that cameras and programs write."""
    data = jpeg(image, exif=exif(orientation), icc_profile=SRGB, comment=SECRET, **options)
    thumbnail = jpeg(Image.new("RGB", (8, 8)))
    extras = [
        segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\2\2" + bytes(range(12))),  # with a thumbnail of 2 × 2 pixels
        segment(0xE0, b"JFXX\0\x10" + thumbnail),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + SECRET),
        segment(0xE2, b"MPF\0" + SECRET),
        segment(0xED, b"Photoshop 3.0\0" + SECRET),
    ]
    return data[:2] + b"".join(extras) + data[2:] + jpeg(Image.new("RGB", (32, 32), "blue")) + SECRET


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def markers(data):
    """The codes of a JPEG's segments up to its first scan."""
    codes, at = [], 2
    while data[at + 1] != 0xDA:
        codes.append(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return codes


def check_clean(data):
    assert SECRET not in data
    with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif() and not image.getexif().get_ifd(GPS)
        assert not {"exif", "comment", "xmp", "photoshop", "mp", "XML:com.adobe.xmp", "Title"} & image.info.keys()
    if data.startswith(b"\xff\xd8"):
        assert data.count(b"\xff\xd8\xff") == 1 and data.endswith(b"\xff\xd9")  # no further picture
        assert not {*range(0xE1, 0xF0), 0xFE} - {0xE2, 0xEE} & {*markers(data)}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_an_unchanged_jpeg_keeps_its_compressed_pixels_only(tmp_path, mode, options):
    path = tmp_path / "a.jpg"
    path.write_bytes(leaky_jpeg(photograph(mode), **options))
    with Image.open(path) as file:
        assert SECRET in path.read_bytes() and file.getexif().get_ifd(GPS)  # there is something to leak
    data = encode_unchanged(pixels(path.read_bytes()), path)
    check_clean(data)
    np.testing.assert_array_equal(pixels(data), pixels(path.read_bytes()))
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == SRGB and image.mode == mode
        assert image.info.get("jfif") or mode == "CMYK"
    assert len(data) < len(jpeg(photograph(mode), **options)) + len(SRGB) + 100  # not compressed anew


def test_a_changed_jpeg_is_of_best_quality_and_clean(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(leaky_jpeg(photograph()))
    image = 255 - np.asarray(photograph())
    data = encode(image, path)
    check_clean(data)
    with Image.open(io.BytesIO(data)) as file:
        assert file.format == "JPEG" and file.info["icc_profile"] == SRGB
        assert all(table == [1] * 64 for table in file.quantization.values())  # quality 100
        assert [layer[1:3] for layer in file.layer] == [(1, 1)] * 3  # no chroma subsampling
    assert np.abs(pixels(data).astype(int) - image).max() <= 3


def test_a_turned_jpeg_is_encoded_anew(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(leaky_jpeg(photograph(), orientation=6))
    upright = np.rot90(pixels(path.read_bytes()), -1)
    data = encode_unchanged(upright, path)
    check_clean(data)
    assert np.abs(pixels(data).astype(int) - upright).max() <= 3


def test_a_jpeg_that_ends_within_a_marker_is_encoded_anew(tmp_path):
    """Pillow reads it, but not with the marker that an end would have to follow."""
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(photograph())[:-2] + b"\xff\xdd")
    with Image.open(path) as file:
        image = np.asarray(file.convert("RGB"))
    data = encode_unchanged(image, path)
    assert np.abs(pixels(data).astype(int) - image).max() <= 8
    check_clean(data)


def test_the_sample_is_kept_without_recompression(coco_sample):
    for path in sorted(coco_sample.glob("train2017/*.jpg")):
        data = path.read_bytes()
        stripped = strip_jpeg(data)
        assert len(data) - len(stripped) < 70_000 and set(markers(stripped)) <= set(markers(data))
        np.testing.assert_array_equal(pixels(stripped), pixels(data))


NOISE = st.tuples(st.sampled_from([*range(0xE0, 0xF0), 0xFE, 0xF0, 0xC8]), st.binary(max_size=40))


@settings(max_examples=60, deadline=None)
@given(st.lists(NOISE, max_size=5), st.binary(max_size=30), st.booleans())
def test_any_metadata_goes(segments, tail, progressive):
    plain = jpeg(photograph(size=(24, 16)), progressive=progressive)
    # A payload may not look like what is kept.
    foreign = b"".join(segment(code, b"?" + payload) for code, payload in segments)
    stripped = strip_jpeg(plain[:2] + foreign + plain[2:] + tail)
    assert stripped == strip_jpeg(plain) == plain


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF", "BMP"])
def test_lossless_formats_give_the_pixels_and_nothing_else(tmp_path, format_):
    path = tmp_path / "a"  # the format is that of the content, whatever the name
    options = {
        "PNG": {"exif": exif(), "icc_profile": SRGB},
        "WEBP": {"exif": exif(), "icc_profile": SRGB, "xmp": SECRET},
    }
    photograph().save(path, format_, **options.get(format_, {}))
    if format_ == "TIFF":
        tags = Image.Exif()
        tags[0x010E], tags[700] = SECRET.decode(), SECRET
        photograph().save(path, format_, exif=tags, icc_profile=SRGB)
    if format_ != "BMP":
        assert SECRET in path.read_bytes()
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for data in (encode(image, path), encode_unchanged(image, path)):
        assert SECRET not in data
        with Image.open(io.BytesIO(data)) as file:
            assert file.format == format_ and GPS not in file.getexif() and "exif" not in file.info
            assert file.info.get("icc_profile") == (None if format_ == "BMP" else SRGB)
        np.testing.assert_array_equal(pixels(data), image)


def test_a_png_has_no_chunks_but_those_of_its_pixels_and_profile(tmp_path):
    path = tmp_path / "a.png"
    photograph().save(path, exif=exif(), icc_profile=SRGB, dpi=(72, 72))
    data, at, chunks = encode(np.asarray(photograph()), path), 8, []
    while at < len(data):
        chunks.append(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4])
    assert chunks[:2] == [b"IHDR", b"iCCP"] and set(chunks[2:]) == {b"IDAT", b"IEND"} and at == len(data)
    with Image.open(io.BytesIO(data)) as file:
        file.verify()  # the checksums


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_any_kind_of_png_reads_as_what_was_asked_for(tmp_path, mode):
    path = tmp_path / "a.png"
    photograph(mode).save(path)
    image = pixels(path.read_bytes())
    data = encode_unchanged(image, path)
    np.testing.assert_array_equal(pixels(data), image)
    with Image.open(io.BytesIO(data)) as file:
        assert file.mode == ("L" if mode in ("1", "L", "LA") else "RGB")
    colourful = image.copy()
    colourful[3, 4] = 255, 0, 0
    np.testing.assert_array_equal(pixels(encode(colourful, path)), colourful)


def test_a_profile_of_other_colours_is_not_kept(tmp_path):
    path = tmp_path / "a.jpg"
    grey = SRGB[:16] + b"GRAY" + SRGB[20:]
    photograph("L").save(path, icc_profile=grey)
    image = np.asarray(photograph())
    with Image.open(io.BytesIO(encode(image, path))) as file:
        assert "icc_profile" not in file.info
    with Image.open(io.BytesIO(encode(np.repeat(image[..., :1], 3, -1), path))) as file:
        assert file.info["icc_profile"] == grey and file.mode == "L"


@pytest.mark.parametrize(
    ("format_", "picture", "options", "message"),
    [
        ("PNG", Image.new("I;16", (8, 8)), {}, "more than 8 bits"),
        ("TIFF", Image.new("F", (8, 8)), {}, "more than 8 bits"),
        ("GIF", Image.new("P", (8, 8)), {}, "GIF is not written"),
        ("PNG", Image.new("RGB", (8, 8)), {"save_all": True}, "has 2 pictures"),
        ("TIFF", Image.new("RGB", (8, 8)), {"save_all": True}, "has 2 pictures"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path, format_, picture, options, message):
    path = tmp_path / "a"
    if options:
        options = options | {"append_images": [Image.new("RGB", (8, 8), "red")]}
    picture.save(path, format_, **options)
    with pytest.raises(UserError, match=message):
        encode_unchanged(np.zeros((8, 8, 3), np.uint8), path)


def test_colours_of_16_bits_are_not_halved(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint16))
    with Image.open(tmp_path / "a.png") as file:
        assert file.mode == "RGB", "Pillow does not say so"
    with pytest.raises(UserError, match="more than 8 bits"):
        encode_unchanged(np.zeros((8, 8, 3), np.uint8), tmp_path / "a.png")


def test_the_first_picture_of_several_in_a_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    photograph().save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")])
    for data in (encode(pixels(path.read_bytes()), path), encode_unchanged(pixels(path.read_bytes()), path)):
        check_clean(data)
        with Image.open(io.BytesIO(data)) as file:
            assert file.format == "JPEG"
