"""Face detectors, one file each, behind one call."""

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np

from errors import UserError, nearest

NAMES = ("centerface", "torchscript:PATH")


class FaceDetector(Protocol):
    """Finds faces. It can be pickled: another process loads its own model, at its first image."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Find the faces of an image.

        Args:
            image: uint8 [H, W, 3], RGB.

        Returns:
            float32 [N, 5]: x0, y0, x1, y1 in image pixels, inside the image and with an area, and the score in
            [0, 1], not less than the detector's least. Best score first.
        """
        ...


def face_detector(name: str, score: float, device: str = "cpu", *others: str) -> FaceDetector:
    """Make a detector.

    Args:
        name: "centerface", or "torchscript:PATH" for a model file.
        score: the least score of a face, in [0, 1].
        device: "cpu", or "cuda" with an optional ":index".
        others: what else the name could be, for the message that it is none.

    Raises:
        UserError: for an unknown name, a score out of range, or where a package, file or device is missing.
    """
    if not 0 <= score <= 1:
        raise UserError(f"faces.score: {score} is not between 0 and 1")
    kind, _, path = name.partition(":")
    if name == "centerface":
        from anonymization.detectors.centerface import CenterFace

        return CenterFace(score, device)
    if kind == "torchscript" and path:
        from anonymization.detectors.torchscript import TorchScript

        return TorchScript(path, score, device)
    raise UserError(f"faces.detector: unknown detector '{name}'{nearest(name, (*NAMES, *others))}")


def file_digest(name: str) -> str | None:
    """The SHA-256 of the model file that a detector's name ends with; None where there is no file in it."""
    path = Path(name.removeprefix("torchscript:"))
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
