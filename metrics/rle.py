"""Instance masks as COCO run-length encodings (RLE), without a full-size bitmap per instance.

An RLE is `{"size": [height, width], "counts": bytes}`, as pycocotools and faster-coco-eval read and write it.
"""

import numpy as np
import torch
from faster_coco_eval.core import mask as mask_api
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

from threads import one_thread


def encode(bitmaps: np.ndarray) -> list[dict]:
    """Encodes bitmaps `[N, H, W]` (bool, or uint8 of 0 and 1) as N RLEs."""
    return mask_api.encode(np.asfortranarray(bitmaps.transpose(1, 2, 0), dtype=np.uint8))


def paste_masks_as_rle(mask_probs: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> list[dict]:
    """Pastes the mask head's output into the image, straight into RLEs.

    The RLEs are those of `torchvision.models.detection.roi_heads.paste_masks_in_image(...) > threshold` on
    the CPU, bit for bit, but the memory needed is that of the largest box, not of N images. Where torchvision
    raises (a box beyond the image border), the mask is empty.

    Args:
        mask_probs: mask probabilities in [0, 1], float `[N, 1, M, M]` or `[N, M, M]`.
        boxes: the boxes the masks belong to, float `[N, 4]`, `(x0, y0, x1, y1)` in pixels of the image.
        size: `(height, width)` of the image.
        threshold: a pixel belongs to the instance if its probability is above this.

    Returns:
        One RLE of the whole image for each instance.
    """
    mask_probs = mask_probs.detach().cpu().reshape(-1, 1, *mask_probs.shape[-2:])
    mask_probs, scale = expand_masks(mask_probs, padding=1)
    boxes = expand_boxes(boxes.detach().cpu(), scale).to(torch.int64).tolist()
    with one_thread():
        return [_paste_mask_as_rle(mask, box, size, threshold) for mask, box in zip(mask_probs, boxes, strict=True)]


def _paste_mask_as_rle(mask: Tensor, box: list[int], size: tuple[int, int], threshold: float) -> dict:
    """`torchvision.models.detection.roi_heads.paste_mask_in_image`, with the box in place of the image."""
    x0, y0, x1, y1 = box
    box_size = (max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1))
    top, left = max(y0, 0), max(x0, 0)
    bottom, right = min(y1 + 1, size[0]), min(x1 + 1, size[1])
    if bottom <= top or right <= left:
        return _rle_of_window(np.zeros((0, 0), bool), 0, 0, size)
    probs = F.interpolate(mask[None], size=box_size, mode="bilinear", align_corners=False)[0, 0]
    window = probs[top - y0 : bottom - y0, left - x0 : right - x0] > threshold
    return _rle_of_window(window.numpy(), top, left, size)


def _rle_of_window(window: np.ndarray, top: int, left: int, size: tuple[int, int]) -> dict:
    """The RLE of an image that is 0 but for `window`, bool `[h, w]`, at row `top` and column `left`."""
    height, width = size
    h, w = window.shape
    # RLEs run down the columns. A 0 above and below each makes every run begin and end in its column.
    columns = np.zeros((w, h + 2), bool)
    columns[:, 1:-1] = window.T
    column, row = np.divmod(np.flatnonzero(columns[:, 1:] != columns[:, :-1]), h + 1)
    changes = (left + column) * height + top + row
    # A run to the bottom of the image and one from the top of the next column are one run.
    changes, times = np.unique(changes, return_counts=True)
    changes = changes[times == 1]
    counts = np.diff(changes, prepend=0, append=height * width)
    if counts[-1] == 0:
        counts = counts[:-1]
    return mask_api.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
