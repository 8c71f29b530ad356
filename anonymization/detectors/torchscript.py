"""A face detector from a TorchScript file, such as EgoBlur's (Raina et al. 2023, arXiv:2308.13093)."""

import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from anonymization.detectors.suppression import suppress
from errors import UserError


class TorchScript:
    """Calls a model as the script of EgoBlur's first generation calls ``ego_blur_face.jit``.

    The model takes a uint8 tensor [3, H, W], BGR, of any size and returns boxes (float [N, 4], x0, y0, x1, y1 in
    pixels), labels (not used), scores (float [N]) and the image's size (not used).

    Args:
        path: the model file.
        score: the least score of a face, in [0, 1]. EgoBlur's own is 0.9.
        device: "cpu", or "cuda" with an optional ":index".

    Raises:
        UserError: if the file or the device is missing; when called, if the file is no such model.
    """

    def __init__(self, path: str, score: float, device: str = "cpu") -> None:
        self.path = path
        self.score = score
        self.device = device
        if not Path(path).is_file():
            raise UserError(f"faces.detector: model file {path} does not exist")
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device: torch has no '{device}' here: {str(error).splitlines()[0]}") from None

    def __reduce__(self) -> tuple[type, tuple[str, float, str]]:
        return TorchScript, (self.path, self.score, self.device)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """See `FaceDetector`."""
        bgr = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy()).to(self.device)
        model = self._model
        try:
            with torch.inference_mode():
                boxes, _, scores, _ = model(bgr)
            return suppress(boxes.reshape(-1, 4), scores, self.score, image.shape[:2])
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, AttributeError, IndexError, RuntimeError, torch.jit.Error) as error:
            reason = str(error).strip().splitlines()[-1]  # before it there is the module's own traceback
            raise UserError(
                f"{self.path}: does not return boxes, labels, scores and size of a uint8 [3, H, W] image: {reason}"
            ) from None

    @cached_property
    def _model(self) -> torch.jit.ScriptModule:
        try:
            with warnings.catch_warnings():
                # torch would have it replaced by torch.export, but EgoBlur comes as nothing else.
                warnings.simplefilter("ignore", FutureWarning)
                return torch.jit.load(self.path, map_location=self.device).eval()
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{self.path}: not a TorchScript model: {str(error).splitlines()[0]}") from None
