"""Find the faces of a dataset split, once, and keep those of its people: what face/ conditions anonymize."""

import argparse
import fcntl
import json
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from errors import UserError, nearest, script
from outputs import write_atomically

if TYPE_CHECKING:
    import numpy as np

    from anonymization.detectors import FaceDetector
    from configs import Config, FacesConfig
    from datamodules.record import Record

EPILOG = """arguments:
  split=train           or val
  output=FILE           default: faces.file, else the layout's own file in data.root
  workers=N             processes; default: one for each core, or 2 where they share another device
  device=cpu            or cuda, cuda:1, ...
  faces.detector        centerface, torchscript:PATH (EgoBlur's ego_blur_face.jit, say), coco-keypoints,
                        or FILE.json: boxes to match anew
  faces.score           least score of a face
  data.root, ...        every key of the experiment, see configs/__init__.py

Started several times at once, by torchrun or srun or with RANK and WORLD_SIZE in the environment, each process takes
its share of the images, and the last one writes the file.

example: python annotate.py --config configs/cityscapes.yaml faces.detector=centerface
"""
SPLITS = ("train", "val")
SHARING_DEVICE = 2  # processes: one reads an image while the other's is on the device

Found = tuple["np.ndarray", list[tuple[int, int]]]  # boxes float32 [N, 5] of all faces; (face, person) pairs
Finder = Callable[["Record"], Found]


class Faces(NamedTuple):
    """What was found in one image."""

    image_id: str
    people: int
    found: int  # faces, whether or not they are a person's
    boxes: list[list[float]]  # x0, y0, x1, y1 in pixels and a score, of the faces that are a person's
    owners: list[int]  # whose: places among the image's people


class Unreadable(NamedTuple):
    """An image that cannot be read."""

    image_id: str
    problem: str


@dataclass
class Job:
    """What is annotated beside the experiment's keys; see the command's help."""

    split: str = "train"
    output: str | None = None
    workers: int | None = None
    device: str = "cpu"


@script
def main() -> None:
    """Annotate the split that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s --config FILE [key=value ...]",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="experiment file, e.g. configs/cityscapes.yaml")
    arguments, rest = parser.parse_known_args()

    from configs import load_config, parse_arguments, split_arguments

    own, overrides = split_arguments(Job, rest)
    job = parse_arguments(Job, own)
    output = None if job.output is None else Path(job.output)
    annotate(load_config(arguments.config, overrides), job.split, output, job.workers, job.device)


def annotate(
    config: "Config",
    split: str = "train",
    output: Path | None = None,
    workers: int | None = None,
    device: str = "cpu",
) -> None:
    """Write the face boxes of a split in the authors' layout; go on where an interrupted run stopped.

    Of several processes (see `processes.share`) each takes its share of the images; the last one writes the file.

    Args:
        config: names the dataset and, in ``faces``, the detector.
        split: train or val.
        output: the file; by default ``faces.file``, else the layout's own in ``data.root``.
        workers: processes; by default one for each core, or `SHARING_DEVICE`. 0: only this one.
        device: of the detector: cpu, cuda, cuda:1, ...

    Raises:
        UserError: for a wrong setting, or a file that cannot be written; and, when all is done, where an image cannot
            be read: a file without its faces would leave them in sight, so none is written.
    """
    from anonymization.detectors import file_digest
    from datamodules.layouts import build_datamodule
    from datamodules.pool import process_map
    from processes import cores, share

    if split not in SPLITS:
        raise UserError(f"split: unknown split '{split}'{nearest(split, SPLITS)}")
    if workers is not None and workers < 0:
        raise UserError(f"workers: {workers} is no number of processes")
    datamodule, layout = build_datamodule(config), config.data.layout
    datamodule.prepare_data()
    path = output or datamodule.faces_file(split)
    if path.is_dir():
        raise UserError(f"output: {path} is a folder; give output=FILE.json")
    if path.exists():
        print(f"already there: {path} (delete it to find faces anew)")
        return
    if config.faces.detector == "coco-keypoints" and "keypoints" not in datamodule.iou_types:
        other = "; data.layout=coco_keypoints has them" if layout == "coco_instances" else ""
        raise UserError(f"faces.detector: coco-keypoints needs keypoints, which layout {layout} has not{other}")
    records = datamodule.read(split, "body")
    # Elsewhere there is nobody to whom a face could belong; the authors do not look there either.
    places = {record.image_id: place for place, record in enumerate(records) if record.bodies}
    images = Images(records, make_finder(config.faces, places, device))
    detector = config.faces.detector
    settings = {
        "data": [layout, str(datamodule.root.absolute()), split],
        "annotations": datamodule.annotations(split, "body"),
        "faces.detector": detector,
        "its file": file_digest(detector),
        "faces.score": config.faces.score,
    }
    if workers is None:
        workers = cores() if device == "cpu" else SHARING_DEVICE

    number, count = share()
    own = list(places)[number::count]
    with Progress.open(path, settings, (number, count)) as progress:
        todo = [image_id for image_id in own if image_id not in progress.done]
        if len(todo) < len(own):
            print(f"going on with {progress.path}: {len(todo)} of {len(own)} images left")
        try:
            for result in process_map(images, [places[image_id] for image_id in todo], workers, "finding faces"):
                progress.add(result)
        except KeyboardInterrupt:
            sys.exit(f"interrupted; the same command goes on from {progress.path}")
        progress.read()
        if path.exists():  # another process was the last one
            progress.remove()
        elif places.keys() - progress.done.keys() - progress.unreadable.keys():
            print(f"share {number + 1} of {count} is done; {path} is written by the one that ends last")
        else:
            for image_id in progress.unreadable.keys() - set(todo):  # others could not read it, perhaps long ago
                progress.add(images(places[image_id]))
    problems = [progress.unreadable[image_id] for image_id in places if image_id in progress.unreadable]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems and not config.data.skip_bad_images:
        raise UserError(
            f"{path} is not written: {len(problems)} of {len(places)} images cannot be read; mend them and run the "
            "same command, which keeps what is found so far, or leave them out with data.skip_bad_images=true"
        )
    if path.exists() or places.keys() - progress.done.keys() - progress.unreadable.keys():
        return

    found = [progress.done[image_id] for image_id in places if image_id in progress.done]
    write(path, found, layout)
    progress.remove()
    people, matched, seen = sum(f.people for f in found), sum(len(f.boxes) for f in found), sum(f.found for f in found)
    share = f" ({matched / people:.0%} of the people)" if people else ""
    print(f"{split}: {len(found)} of {len(records)} images with people, {people} people")
    print(f"{seen} faces found, {matched} matched{share}")
    print(f"{people - matched} people, whose faces were not found, stay as they are under face/ conditions")
    print(f"{seen - matched} faces, which are of no single person's mask, do too: behind glass, say, or in a group")
    for image_id in progress.unreadable:
        print(f"image {image_id}, which could not be read, counts as one without faces", file=sys.stderr)
    print(f"faces in {path}")


def make_finder(config: "FacesConfig", image_ids: Collection[str], device: str) -> Finder:
    """Make what finds the faces of a record, as ``faces.detector`` says.

    Raises:
        UserError: for an unknown detector, or one that does not work here.
    """
    if config.detector == "coco-keypoints":
        return annotated_faces
    if config.detector.endswith(".json"):
        return partial(given_faces, read_boxes(Path(config.detector), config.score, image_ids))

    import numpy as np

    from anonymization.detectors import face_detector

    detector = face_detector(config.detector, config.score, device, "coco-keypoints", "FILE.json")
    detector(np.zeros((64, 64, 3), np.uint8))  # a model that does not work says so now, not in every worker
    return partial(detected_faces, detector)


def detected_faces(detector: "FaceDetector", record: "Record") -> Found:
    """Detect faces in the image and match them to the people."""
    from anonymization.matching import match_faces

    boxes = detector(record.read_image())
    return boxes, match_faces(boxes, [mask for _, mask in record.bodies])


def given_faces(boxes: dict[str, "np.ndarray"], record: "Record") -> Found:
    """Match the boxes that a file has for the image to the people."""
    import numpy as np

    from anonymization.matching import match_faces

    own = boxes.get(record.image_id, np.zeros((0, 5), np.float32))
    return own, match_faces(own, [mask for _, mask in record.bodies])


def annotated_faces(record: "Record") -> Found:
    """Make a box for each person from the person's own keypoints."""
    import numpy as np

    from anonymization.detectors.keypoints import face_box

    keypoints = {instance.id: instance.keypoints for instance in record.instances}
    boxes = [face_box(keypoints[id_], record.size) for id_, _ in record.bodies]
    owners = [person for person, box in enumerate(boxes) if box is not None]
    scored = np.array([[*boxes[person], 1] for person in owners], np.float32).reshape(-1, 5)
    return scored, list(enumerate(owners))


def read_boxes(path: Path, score: float, image_ids: Collection[str]) -> dict[str, "np.ndarray"]:
    """Read face boxes in either of the authors' layouts, matched or not.

    Args:
        path: JSON of {image id: boxes} or {image id: {"boxes": boxes}}; a box is x0, y0, x1, y1 in pixels and maybe a
            score, else its score is 1.
        score: the least score of a box.
        image_ids: of the images that have people.

    Returns:
        float32 [N, 5] for each image id.

    Raises:
        UserError: if the file is missing, of another form, or about other images.
    """
    import numpy as np

    from datamodules.files import image_of, read_json

    content = read_json(path, "faces.detector says that it holds face boxes")
    faces = {}
    try:
        for image_id, entry in content.items():
            boxes = entry["boxes"] if isinstance(entry, dict) else entry
            scored = np.array([[*box, 1.0][:5] for box in boxes], np.float32).reshape(-1, 5)
            image = image_of(image_id)
            if image in faces:
                raise ValueError(f"image {image} is there twice")
            faces[image] = scored[scored[:, 4] >= score]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not of the form {{image id: [[x0, y0, x1, y1], ...]}}: {error!r}") from None
    if image_ids and not any(image_id in faces for image_id in image_ids):
        raise UserError(f"{path}: none of its image ids is one of this split's, such as '{next(iter(image_ids))}'")
    return faces


class Images:
    """The faces of the image at a place in a split, for worker processes.

    Args:
        records: of the split.
        finder: of faces.
    """

    def __init__(self, records: "Sequence[Record]", finder: Finder) -> None:
        self.records = records
        self.finder = finder

    def __call__(self, place: int) -> Faces | Unreadable:
        """Look at one image."""
        record = self.records[place]
        try:
            boxes, pairs = self.finder(record)
        except UserError as error:
            return Unreadable(record.image_id, str(error))
        kept = [boxes[face].tolist() for face, _ in pairs]
        return Faces(record.image_id, len(record.bodies), len(boxes), kept, [person for _, person in pairs])


class Progress:
    """What is found so far, beside the output: an interrupted run goes on with it.

    The file's first line names the settings; each image adds a line when it is done. Each of several processes has a
    file of its own and reads those of the others.

    Args:
        output: what is made.
        settings: that it is made with.
        share: which of the shares of the images is this process's, from 0, and how many there are.

    Attributes:
        path: this process's file.
        done: what was found, by image id.
        unreadable: why nothing was, by image id.
    """

    def __init__(self, output: Path, settings: dict[str, Any], share: tuple[int, int]) -> None:
        number, count = share
        self.path = output.with_name(f"{output.name}{f'.{number + 1}-of-{count}' if count > 1 else ''}.partial")
        self.output, self.settings = output, settings
        self.done: dict[str, Faces] = {}
        self.unreadable: dict[str, str] = {}
        self._file: BinaryIO

    @classmethod
    def open(cls, output: Path, settings: dict[str, Any], share: tuple[int, int] = (0, 1)) -> Self:
        """Open the file of an output, or begin it, and read what there is.

        Raises:
            UserError: if it cannot be written, was begun with other settings, or is another process's.
        """
        progress = cls(output, settings, share)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            progress._file = progress.path.open("a+b")
        except OSError as error:
            raise UserError(
                f"{output} cannot be written ({error.strerror}); output=FILE writes elsewhere, and faces.file=FILE "
                "makes training and anonymize.py read it there"
            ) from None
        try:
            fcntl.flock(progress._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{progress.path} is being written by another process") from None
        except OSError:
            pass  # a file system without locks: there two runs are the caller's to keep apart
        progress._file.seek(0)
        lines = _whole(progress._file.read())
        progress._file.truncate(sum(map(len, lines)))
        if not lines:
            progress._write(settings)
        progress.read()
        return progress

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self) -> None:
        """Take up what all processes have found so far.

        Raises:
            UserError: if one of them has other settings.
        """
        unreadable = dict(self.unreadable)
        for path in self._files():
            with suppress(FileNotFoundError):  # removed just now by the process that wrote the output
                lines = _whole(path.read_bytes())
                if lines and lines[0] != _line(self.settings):
                    raise UserError(
                        f"{path} was begun with other settings: delete it, or go on with {lines[0].decode()}"
                    )
                for content in map(json.loads, lines[1:]):
                    if len(content) == len(Faces._fields):
                        self.done[content[0]] = Faces(*content)
                    else:
                        unreadable[content[0]] = Unreadable(*content).problem
        self.unreadable = {id_: problem for id_, problem in unreadable.items() if id_ not in self.done}

    def add(self, result: Faces | Unreadable) -> None:
        """Keep what became of an image at once."""
        if isinstance(result, Unreadable):
            self.unreadable[result.image_id] = result.problem
        else:
            self.done[result.image_id] = result
            self.unreadable.pop(result.image_id, None)
        self._write(result)

    def remove(self) -> None:
        """Remove the files, as the output is written."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{escape(self.output.name)}.*partial"))

    def _write(self, content: Any) -> None:
        self._file.write(_line(content))
        self._file.flush()


def _whole(content: bytes) -> list[bytes]:
    """The lines of a file, without a last one that was cut off."""
    return [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def _line(content: Any) -> bytes:
    return json.dumps(content).encode() + b"\n"


def write(path: Path, found: list[Faces], layout: str) -> None:
    """Write the authors' file for a layout, in which an image without a face has no entry.

    COCO's says whose face it is, Cityscapes' has scores, and BDD100K's boxes alone: their code reads no more.

    Args:
        path: the file.
        found: of each image, in the order of the file.
        layout: of the dataset.
    """
    content = {}
    for faces in found:
        boxes = faces.boxes if layout == "cityscapes" else [box[:4] for box in faces.boxes]
        if faces.found:
            with_owners = {"boxes": boxes, "keypoint_indices": faces.owners}
            content[faces.image_id] = boxes if layout in ("cityscapes", "bdd100k") else with_owners
    write_atomically(path, json.dumps(content))


if __name__ == "__main__":
    main()
