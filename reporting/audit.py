"""The faces that a detector finds in an anonymized copy and in its originals.

A found face is inside a region when its centre lies in the box of one that was anonymized. Overlap would not do: the
region of a body is many times as large as its face, and one that covers half of a face has not hidden it. The box of a
body holds pixels beside it too, so a bystander's face can count as inside. The counts say where to look, not who can be
recognized: a detector finds many a blurred face, and every good generated one.

What is written lies in the copy, so it has no pixel of an original: whoever may see the copy may see the audit.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from datamodules.folder import LAYOUT, read_upright
from datamodules.manifest import MANIFEST, has_digest, read_manifest, sha256
from datamodules.pool import process_map
from datamodules.record import Record
from errors import UserError
from outputs import replacing, write_atomically

SHEET, REPORT = "audit.png", "audit.json"  # in the copy
COLUMNS, ROWS = 6, 2  # of each half of the sheet, at most
WIDTH = 2.2  # inches of one picture
DPI = 100


class Face(NamedTuple):
    """A face that was found."""

    box: list[float]  # x0, y0, x1, y1 in pixels
    score: float
    inside: bool


class Audited(NamedTuple):
    """The faces of an image, best score first."""

    before: list[Face]
    after: list[Face]


class Auditor:
    """Finds faces in an image of a copy and in its original; picklable.

    Args:
        copy: folder of the copy.
        manifest: of the copy.
        detect: uint8 [H, W, 3] RGB -> float32 [N, 5], boxes and scores; see `anonymization.detectors`.
    """

    def __init__(self, copy: Path, manifest: dict[str, Any], detect: Callable[[np.ndarray], np.ndarray]) -> None:
        self.copy, self.source, self.detect = copy, Path(manifest["source"]), detect
        self.images = manifest["images"]
        self.plain = manifest["layout"] == LAYOUT

    def __call__(self, name: str) -> Audited:
        """Look at one image.

        Raises:
            UserError: it or its original is not what the manifest says, or cannot be read.
        """
        entry, original, result = self.images[name], self.source / name, self.copy / name
        for path, digest in ((original, entry["source_sha256"]), (result, entry["sha256"])):
            if not has_digest(path, digest):
                raise UserError(f"{path}: is missing, or not what {self.copy / MANIFEST} says")
        after = read_upright(result)
        before = read_upright(original) if self.plain else Record(name, original, after.shape[:2], []).read_image()
        return Audited(self._faces(before, entry["regions"]), self._faces(after, entry["regions"]))

    def _faces(self, image: np.ndarray, regions: list[list[int]]) -> list[Face]:
        faces = []
        for x0, y0, x1, y1, score in self.detect(image).tolist():
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            inside = any(left <= x < right and top <= y < bottom for left, top, right, bottom in regions)
            faces.append(Face([round(c, 1) for c in (x0, y0, x1, y1)], round(score, 4), inside))
        return faces


def write_audit(
    copy: Path,
    detect: Callable[[np.ndarray], np.ndarray],
    settings: dict[str, Any],
    workers: int,
) -> dict[str, Any]:
    """Look at every image of a copy; write ``audit.json`` and ``audit.png`` into it.

    Args:
        copy: folder of a finished copy.
        detect: finds faces; picklable.
        settings: of the detector, for the record.
        workers: processes; 0 works in this one.

    Returns:
        What is in ``audit.json``.

    Raises:
        UserError: the folder is no finished copy, or an image is not what its manifest says.
    """
    manifest = read_manifest(copy / MANIFEST)
    for name in (SHEET, REPORT):
        if name in manifest["images"]:
            raise UserError(f"{copy / name}: is an image of the copy, and would be overwritten; give it another name")
    names = sorted(manifest["images"])
    audited = dict(zip(names, process_map(Auditor(copy, manifest, detect), names, workers, "auditing"), strict=True))
    report = {
        "condition": manifest["condition"],
        "source": manifest["source"],
        "manifest_sha256": sha256(copy / MANIFEST),
        "detector": settings,
        "inside": "the face's centre lies in the box of a region that was anonymized",
        "images": len(names),
        "before": _count([face for image in audited.values() for face in image.before]),
        "after": _count([face for image in audited.values() for face in image.after]),
        "per_image": {
            name: {
                "before": _count(image.before),
                "after": _count(image.after),
                "found": [face._asdict() for face in image.after],
            }
            for name, image in audited.items()
        },
    }
    left = [(name, face) for name, image in audited.items() for face in image.after]
    left.sort(key=lambda found: -found[1].score)
    try:
        with replacing(copy / SHEET) as temporary:
            _draw(copy, left, temporary)
        write_atomically(copy / REPORT, json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{copy} cannot be written: {error.strerror or error}") from None
    return report


def _count(faces: Sequence[Face]) -> dict[str, int]:
    inside = sum(face.inside for face in faces)
    return {"inside": inside, "elsewhere": len(faces) - inside}


def _draw(copy: Path, left: Sequence[tuple[str, Face]], output: Path) -> None:
    """The sheet: above the faces where nothing was anonymized, below those inside regions."""
    halves = {
        "elsewhere, where nothing was anonymized": [found for found in left if not found[1].inside],
        "inside the boxes of anonymized regions": [found for found in left if found[1].inside],
    }
    rows = [min(ROWS, math.ceil(len(found) / COLUMNS)) for found in halves.values()]
    heights = [max(count, 0.2) for count in rows]  # without faces room for the title alone
    figure = Figure((WIDTH * COLUMNS, WIDTH * 1.2 * sum(heights) + 1), dpi=DPI, layout="constrained")
    parts = figure.subfigures(2, height_ratios=heights)
    for (title, found), part, count in zip(halves.items(), parts, rows, strict=True):
        cells = part.subplots(count, COLUMNS).ravel() if count else []
        more = f" (the {len(cells)} with the highest scores)" if len(found) > len(cells) else ""
        part.suptitle(f"Faces found {title}: {len(found)}{more}")
        for axis in cells:
            axis.set_axis_off()
        for axis, (name, face) in zip(cells, found, strict=False):
            with Image.open(copy / name) as file:
                axis.imshow(file.convert("RGB"))
            x0, y0, x1, y1 = face.box
            axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="red"))
            x, y, reach = (x0 + x1) / 2, (y0 + y1) / 2, 1.5 * max(x1 - x0, y1 - y0)
            axis.set(xlim=(x - reach, x + reach), ylim=(y + reach, y - reach))
            axis.set_title(f"{Path(name).name}\nscore {face.score:.2f}", fontsize=7)
    figure.savefig(output, format="png", metadata={"Software": None})
