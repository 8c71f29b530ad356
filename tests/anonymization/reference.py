"""The slow, obvious anonymizer: one person at a time with full-size masks, as Hukkelås & Lindseth 2023 work.

Written from their description with torchvision's operations, independent of the package under test.
"""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms.functional import InterpolationMode, gaussian_blur, resize

# Boxes up to this side, in pixels, are not rounded to bytes on the way; larger ones after every step.
LARGEST = 112

# Methods take crops, float [3, h, w] in grey levels, and return crops, float or as bytes.


def blur(crop):
    return gaussian_blur(crop, min(21, crop.shape[-1]), 7)


def mask_out(crop):
    return torch.full_like(crop, 128)


def pixelate(crop):
    return F.interpolate(F.adaptive_avg_pool2d(crop[None], 8), crop.shape[-2:], mode="nearest")[0]


def anonymize_bodies(image, masks, method):
    """Replace people given as masks (bool [N, H, W]) in an image (uint8 [3, H, W])."""
    image = image.clone()
    for i in masks.sum((1, 2)).argsort(stable=True).tolist():
        if masks[i].any():
            box = body_box(masks[i], image.shape[1:])
            if (box[2] - box[0]) * (box[3] - box[1]) >= 64:
                replace(image, box, cut_body(image, box), body_mask(masks[i], box), method)
    return image


def anonymize_faces(image, boxes, method, as_bytes=False):
    """Replace faces given as boxes (float [N, 4]) in an image (uint8 [3, H, W]); for as_bytes see cut_face."""
    image, size = image.clone(), image.shape[1:]
    boxes = torch.as_tensor(boxes).view(-1, 4).round().long()
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in areas.argsort(stable=True).tolist():
        box = face_box(boxes[i].tolist(), size)
        covered = torch.zeros(size, dtype=torch.bool)
        x0, y0, x1, y1 = boxes[i].tolist()
        covered[max(y0, 0) : y1, max(x0, 0) : x1] = True
        mask = torch.zeros(128, 128, dtype=torch.bool)
        cover(mask, covered, box)
        replace(image, box, cut_face(image, box, as_bytes), mask, method)
    return image


def replace(image, box, crop, mask, method):
    """Paste the method's result for a crop where its mask, resized to the box, is True."""
    x0, y0, x1, y1 = box
    result = method(crop.float())
    if max(y1 - y0, x1 - x0) > LARGEST:
        result = result.round().byte()
    if result.dtype == torch.uint8:
        result = resize_bytes(result, [y1 - y0, x1 - x0]).float()
    else:
        result = resize(result, [y1 - y0, x1 - x0], InterpolationMode.BICUBIC, antialias=True)
    mask = resize(mask[None].float(), [y1 - y0, x1 - x0], InterpolationMode.NEAREST)[0] > 0.5
    of_image, of_box = visible(image, box)
    mask, result = mask[of_box], result[:, *of_box]
    image[:, *of_image][:, mask] = result[:, mask].round().clamp(0, 255).byte()


def visible(image, box):
    """The part of a box inside the image: rows and columns of the image, and of the box."""
    of_image = [
        slice(max(start, 0), min(stop, length))
        for start, stop, length in zip(box[1::-1], box[:1:-1], image.shape[-2:], strict=True)
    ]
    of_box = [slice(s.start - start, s.stop - start) for s, start in zip(of_image, box[1::-1], strict=True)]
    return tuple(of_image), tuple(of_box)


def cut(image, box):
    """The pixels of a box, zero outside the image."""
    x0, y0, x1, y1 = box
    of_image, of_box = visible(image, box)
    crop = torch.zeros(*image.shape[:-2], y1 - y0, x1 - x0, dtype=image.dtype)
    crop[..., *of_box] = image[..., *of_image]
    return crop


def resize_bytes(crop, size):
    """Bicubic, by torch's own kernel for bytes, which rounds after each axis."""
    crop = crop.byte()[None].contiguous(memory_format=torch.channels_last)
    return F.interpolate(crop, size, mode="bicubic", antialias=True)[0]


def cut_body(image, box):
    rows, columns = visible(image, box)[0]
    crop = cut(image, box).float()
    if rows.stop - rows.start < 288 and columns.stop - columns.start < 160:
        return resize(crop, [288, 160], InterpolationMode.NEAREST)
    return resize_bytes(crop, [288, 160])


def cut_face(image, box, as_bytes=False):
    """The crop of a face: as bytes, or as it comes from the bicubic kernel if its box is small.

    Between black and white the kernel overshoots. As bytes the crop loses that, which the authors' code does and
    nothing asks for; without them enlarging, blurring and resizing back are one linear map.
    """
    rows, columns = visible(image, box)[0]
    crop = cut(image, box)
    if (rows.stop - rows.start) * (columns.stop - columns.start) < 128 * 128:
        if as_bytes or crop.shape[1] > LARGEST:
            return resize_bytes(crop, [128, 128])
        return resize(crop.float(), [128, 128], InterpolationMode.BICUBIC, antialias=True)
    crop = cv2.resize(crop.permute(1, 2, 0).numpy(), (128, 128), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(crop).permute(2, 0, 1)


def body_mask(mask, box):
    """The mask of the crop: resized, dilated by a disk, but not in padding."""
    crop = resize(cut(mask, box)[None].float(), [288, 160], InterpolationMode.NEAREST)
    y, x = torch.meshgrid(torch.arange(-4, 5), torch.arange(-4, 5), indexing="ij")
    disk = (x * x + y * y <= 16).float()
    crop = F.conv2d(crop[None], disk[None, None], padding=4)[0, 0] > 0.5
    x0, y0, x1, y1 = box
    for row in range(288):
        if (row + 1) * (y1 - y0) / 288 <= -y0 or row * (y1 - y0) / 288 >= mask.shape[0] - y0:
            crop[row] = False
    for column in range(160):
        if (column + 1) * (x1 - x0) / 160 <= -x0 or column * (x1 - x0) / 160 >= mask.shape[1] - x0:
            crop[:, column] = False
    cover(crop, mask, box)
    return crop


def cover(crop_mask, mask, box):
    """Add to a crop's mask the crop pixels from which the pixels of a full-size mask are pasted."""
    of_image, of_box = visible(mask, box)
    sources = (
        F.interpolate(torch.arange(n).view(1, 1, n).float(), stop - start, mode="nearest").long().flatten()[part]
        for n, start, stop, part in zip(crop_mask.shape, box[1::-1], box[:1:-1], of_box, strict=True)
    )
    rows, columns = sources
    y, x = mask[of_image].nonzero(as_tuple=True)
    crop_mask[rows[y], columns[x]] = True


def grow(start, end, length, limit):
    """Lengthen an interval around its middle, then slide it pixel by pixel while that brings more of it inside."""
    while end - start < length:
        if (length - (end - start)) % 2 == 0:
            start -= 1
        end += 1
    if start < 0 and end > limit:
        return start, end
    while start < 0 and end < limit:
        start, end = start + 1, end + 1
    while end > limit and start > 0:
        start, end = start - 1, end - 1
    return start, end


def body_box(mask, size):
    height, width = size
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    margin = int(((y1 - y0) * (x1 - x0)) ** 0.5 * 0.1)
    x0, x1, y0, y1 = (
        *grow(x0, x1, min(x1 - x0 + margin, width), width),
        *grow(y0, y1, min(y1 - y0 + margin, height), height),
    )
    if (y1 - y0) / (x1 - x0) < 1.8:
        y0, y1 = grow(y0, y1, int((x1 - x0) * 1.8), height)
    elif (y1 - y0) / (x1 - x0) > 1.8:
        x0, x1 = grow(x0, x1, int((y1 - y0) / 1.8), width)
    h, w, area = y1 - y0, x1 - x0, mask.sum()
    if 1 - area / (h * w) > 0.3:
        return x0, y0, x1, y1
    scale = torch.sqrt(area / 0.7 / (h * w))
    x0, x1 = grow(x0, x1, math.ceil(scale * w), width)
    y0, y1 = grow(y0, y1, math.ceil(scale * h), height)
    return x0, y0, x1, y1


def face_box(face, size):
    x0, y0, x1, y1 = face
    side = max(x1 - x0, y1 - y0)
    if x0 < 0 or y0 < 0 or x1 > size[1] or y1 > size[0] or side > min(size):
        half = max(int(side * 1.7 / 2), 1)
        x, y = x0 + (x1 - x0) // 2, y0 + (y1 - y0) // 2
        return x - half, y - half, x + half, y + half
    margin = min(int(side * 0.35), (min(size) - side) // 2)
    box = [0, 0, 0, 0]
    for axis, limit in ((0, size[1]), (1, size[0])):
        start, end = face[axis], face[axis + 2]
        start -= (side - (end - start)) // 2
        for length in (side, side + 2 * margin):
            start -= (length - side) // 2
            start = int(np.clip(start, 0, limit - length))
        box[axis], box[axis + 2] = start, start + side + 2 * margin
    return tuple(box)
