"""Masks of an image in which every object has a value of its own."""

import cv2
import numpy as np
from faster_coco_eval.core import mask as mask_api

from datamodules.record import RLE


class Runs:
    """The pixels of a drawing as runs of equal values down its columns, of which any mask is made without the drawing.

    Args:
        values: uint8, uint16 or int32 [H, W].
    """

    def __init__(self, values: np.ndarray) -> None:
        self.size = values.shape
        columns = cv2.transpose(values).ravel()  # a tenth of the time of NumPy's
        changes = 1 + np.flatnonzero(columns[1:] != columns[:-1])
        self.bounds = np.concatenate([[0], changes, [columns.size]])
        self.values = columns[self.bounds[:-1]]

    def mask(self, chosen: np.ndarray) -> RLE:
        """Encode the pixels of the runs for which ``chosen``, bool [runs], is true."""
        edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False))
        counts = np.diff(self.bounds[edges], prepend=0, append=self.bounds[-1]).tolist()
        if counts[-1] == 0:
            counts.pop()
        return mask_api.frPyObjects({"size": list(self.size), "counts": counts}, *self.size)
