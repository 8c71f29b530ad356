"""Writing an image in the format of its source file, with its colour profile and nothing else that was beside it."""

import io
import re
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from errors import UserError

# The formats that can be written, with Pillow's arguments for each.
FORMATS = {
    "JPEG": {"quality": 100, "subsampling": 0},  # Hukkelås & Lindseth 2023
    "PNG": {},  # see _png
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
}
GREY = ("1", "L", "LA")  # Pillow's modes of pictures without colours
DEEP = ("I", "F")  # the first letter of its modes of more than 8 bits, which do not become RGB

# JPEG (ITU-T T.81, table B.1): a marker that begins a segment; entropy-coded data has none.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xDA
_DECODING = {*range(0xC0, 0xD0), *range(0xDA, 0xE0)} - {0xC8}  # frames, tables, scans; neither APPn nor COM


def encode(image: np.ndarray, source: Path) -> bytes:
    """Encode an image in the format of ``source``: lossless, but JPEG at quality 100 without chroma subsampling.

    Grey stays grey where the image is; palettes and alpha, which no anonymized image fits, become RGB.

    Args:
        image: uint8 [H, W, 3] RGB.
        source: the file whose format and colour profile are kept.

    Raises:
        UserError: the format cannot be written, or the file holds what one 8-bit RGB image cannot.
    """
    with Image.open(source) as file:
        # MPO: a camera's JPEG followed by further ones, such as previews, which are not kept.
        format_ = "JPEG" if file.format == "MPO" else file.format
        if format_ not in FORMATS:
            raise UserError(f"{source}: {file.format} is not written; convert it to one of {', '.join(FORMATS)}")
        if file.format != "MPO" and getattr(file, "n_frames", 1) > 1:
            raise UserError(f"{source}: has {file.n_frames} pictures; only files of one are anonymized")
        stored = [str(tile[3]) for tile in getattr(file, "tile", [])]  # Pillow halves the bits of some as it reads them
        if file.mode.startswith(DEEP) or any(";16" in mode for mode in stored):
            raise UserError(f"{source}: has more than 8 bits a colour (mode {file.mode}); convert it to 8 bits")
        profile = file.info.get("icc_profile") or b""
        grey = file.mode in GREY and bool((image == image[..., :1]).all())
    image = image[..., 0] if grey else image
    # A profile's colour space stands at byte 16 (ICC.1, 7.2): one of CMYK, say, is wrong for what is written.
    profile = profile if profile[16:20] == (b"GRAY" if grey else b"RGB ") else b""
    if format_ == "PNG":
        return _png(image, profile)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format_, **FORMATS[format_], **({"icc_profile": profile} if profile else {}))
    return buffer.getvalue()


def _png(image: np.ndarray, profile: bytes) -> bytes:
    # OpenCV, matching runs only, took 90 ms for 1024 × 2048 pixels in 3.3 MB; Pillow's fastest level 210 ms in 3.6 MB,
    # its default 840 ms in 3.2 MB. OpenCV writes no profile.
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE])[1].tobytes()
    if not profile:
        return data
    chunk = b"iCCP" + b"ICC Profile\0\0" + zlib.compress(profile)
    first = 8 + 25  # the signature and IHDR
    return data[:first] + (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) + data[first:]


def encode_unchanged(image: np.ndarray, source: Path) -> bytes:
    """Encode an image that is as ``source`` shows it: a JPEG keeps its compressed data, if it was not turned.

    Args:
        image: uint8 [H, W, 3] RGB.
        source: the file it was read from.

    Raises:
        UserError: see `encode`.
    """
    data = source.read_bytes()
    if data.startswith(_START):
        data = strip_jpeg(data)
        # One that is cut off may not survive this; it is encoded anew.
        with suppress(OSError, SyntaxError), Image.open(io.BytesIO(data)) as file:
            if np.array_equal(file.convert("RGB"), image):
                return data
    return encode(image, source)


def strip_jpeg(data: bytes) -> bytes:
    """Keep of a JPEG what decoding its first picture needs: frames, tables, scans, JFIF, Adobe's marker and ICC.

    Gone are Exif, XMP, comments, thumbnails (those inside JFIF too) and everything after the picture's end.
    """
    kept, at = [_START], 2
    while (marker := _MARKER.search(data, at)) and marker[0] != _END:
        start, code = marker.start(), marker[0][1]
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        segment = data[start:at]
        if code in _DECODING or (code == 0xE2 and segment[4:16] == b"ICC_PROFILE\0"):
            kept.append(segment)
        elif code == 0xE0 and segment[4:9] == b"JFIF\0":
            kept.append(b"\xff\xe0\x00\x10" + segment[4:16] + b"\0\0")  # a thumbnail of 0 × 0 pixels
        elif code == 0xEE and segment[4:9] == b"Adobe":
            kept.append(b"\xff\xee\x00\x0e" + segment[4:16])
        if code == _SCAN:
            following = _MARKER.search(data, at)
            end = following.start() if following else len(data)
            kept.append(data[at:end])
            at = end
    return b"".join([*kept, _END])
