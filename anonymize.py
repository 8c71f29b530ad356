"""Write an anonymized copy of a dataset in its own layout, or of a plain folder of pictures."""

import argparse
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from anonymization.options import Generators
from errors import UserError, nearest, script

if TYPE_CHECKING:
    from anonymization.conditions import Condition
    from anonymization.engine import Anonymizer
    from configs import Config, FacesConfig
    from datamodules.originals import Original

EPILOG = """a dataset, with --config:
  condition             face/blur, body/mask_out, ...
  output=DIR            the copy; train on it with anonymization.copy=DIR
  split=train           the split whose images are anonymized
  copy_annotations=true copy the annotations too, to hand the folder on; by default they are links
  seed, data.root, ...  every key of the experiment, see configs/__init__.py

a folder of pictures, without --config:
  input=DIR             its pictures, those of its subfolders too
  condition, output, seed
  generators.face, ...  what realistic conditions draw people with: see docs/generators.md
  faces.detector, faces.score
  boxes=FILE.json       faces: {"name.jpg": [[x0, y0, x1, y1], ...], ...}; an entry for every picture
  masks=DIR             bodies: DIR/name.png with each person's number, from 1, or 0; one for every picture

both:
  workers=N             processes; default: one for each core, or 2 where generators share another device
  device=cpu            or cuda, cuda:1, ...
  --strict              stop at the first image that fails
  audit=true            look for faces in the result: see audit.py

An image that cannot be read, matched or anonymized is not written, but listed in DIR/failures.csv; exit code 3.
A run that was killed goes on when it is started again. Started several times at once, by torchrun or srun or with
RANK and WORLD_SIZE in the environment, each process makes its share, and the last one finishes the copy.

examples: python anonymize.py --config configs/coco_keypoints.yaml condition=face/blur output=data/coco_blurred
          python anonymize.py input=photos condition=face/blur output=photos_blurred
"""
FAILED = 3  # the exit code where an image is missing from the copy
SHARING_DEVICE = 2  # processes with a generator each: one reads and writes images while the other's are on the device
SPLITS = ("train", "val")


@dataclass
class Detection:
    """Which faces of a plain folder's pictures are found."""

    detector: str = "centerface"
    score: float = 0.3


@dataclass
class Job:
    """What a copy needs beside the dataset; see the command's help."""

    output: str
    workers: int | None = None
    device: str = "cpu"
    strict: bool = False
    audit: bool = False


@dataclass
class DatasetJob(Job):
    """A copy of a dataset."""

    split: str = "train"
    copy_annotations: bool = False


@dataclass
class FolderJob(Job):
    """A copy of a plain folder."""

    input: str = ""
    condition: str = "original"
    seed: int = 0
    generators: Generators = field(default_factory=Generators)
    faces: Detection = field(default_factory=Detection)
    boxes: str | None = None
    masks: str | None = None


@script
def main() -> None:
    """Write the copy that the command line describes."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s (--config FILE | input=DIR) condition=CONDITION output=DIR [key=value ...] [--strict]",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="experiment file that names the dataset, e.g. configs/coco_keypoints.yaml")
    arguments, rest = parser.parse_known_args()
    rest = ["strict=true" if a == "--strict" else a.removeprefix("--") for a in rest]
    keys = {a.partition("=")[0] for a in rest}
    if arguments.config is None and "input" not in keys:
        raise UserError("what to anonymize is missing: --config FILE for a dataset, input=DIR for a folder of pictures")
    if arguments.config is not None and (wrong := keys & {"input", "boxes", "masks"}):
        raise UserError(f"{min(wrong)}: is for a folder of pictures, without --config")

    from configs import load_config, parse_arguments, split_arguments

    try:
        if arguments.config is None:
            complete = anonymize_folder(parse_arguments(FolderJob, rest))
        else:
            own, overrides = split_arguments(DatasetJob, rest)
            complete = anonymize_dataset(load_config(arguments.config, overrides), parse_arguments(DatasetJob, own))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    if not complete:
        sys.exit(FAILED)


def anonymize_dataset(config: "Config", job: DatasetJob) -> bool:
    """Copy a dataset with the images of one split anonymized, and say whether all of them are there.

    Raises:
        UserError: naming the key, file or annotation that is wrong.
    """
    from datamodules.layouts import build_datamodule
    from datamodules.originals import dataset_original

    changing_condition(config.condition)
    datamodule = build_datamodule(config)
    check_job(job, config.faces, datamodule.anonymizer)
    datamodule.prepare_data()
    root = datamodule.root
    if not root.is_dir():
        raise UserError(f"data.root: folder {root} does not exist")
    if job.split not in SPLITS:
        raise UserError(f"split: unknown split '{job.split}'{nearest(job.split, SPLITS)}")
    original = dataset_original(datamodule, job.split, job.copy_annotations)
    complete = run(original, datamodule.anonymizer, config.anonymization_seed, job, config.faces)
    print(f"links into {root}, where nothing is anonymized: {', '.join(original.linked) or 'none'}")
    if config.data.val_split == job.split:
        print(f"data.val_split={job.split}: a run on this copy would evaluate on anonymized images")
    return complete


def anonymize_folder(job: FolderJob) -> bool:
    """Copy a folder of pictures with the people anonymized, and say whether all pictures are there.

    Raises:
        UserError: naming the key or file that is wrong.
    """
    from anonymization.detectors import face_detector, file_digest
    from anonymization.engine import Anonymizer
    from datamodules.files import fingerprint
    from datamodules.folder import LAYOUT, FolderRecords, detected_faces, given_bodies, given_faces
    from datamodules.manifest import sha256
    from datamodules.originals import Original

    condition = changing_condition(job.condition)
    anonymizer = Anonymizer(condition, job.generators)
    check_job(job, job.faces, anonymizer)
    root = Path(job.input).absolute()
    if not root.is_dir():
        raise UserError(f"input: folder {root} does not exist")
    fit, unfit = ("boxes", "masks") if condition.region == "face" else ("masks", "boxes")
    if getattr(job, unfit) is not None:
        raise UserError(f"{unfit}: {condition} takes {fit}= instead")
    if condition.region == "body":
        if job.masks is None:
            raise UserError(f"masks: is missing; {condition} needs a folder with a mask of each picture's people")
        path = Path(job.masks).absolute()
        find, people = given_bodies(path, root), {"masks": str(path), "masks_sha256": fingerprint(path, pixels=True)}
    elif job.boxes is not None:
        path = Path(job.boxes).absolute()
        find, people = given_faces(path, root), {"faces_sha256": sha256(path)}
    else:
        path = None
        find = detected_faces(face_detector(job.faces.detector, job.faces.score, job.device))
        digest = file_digest(job.faces.detector)
        people = {"faces": asdict(job.faces) | ({"sha256": digest} if digest else {})}
    records = FolderRecords(root, find, [path] if path else [])
    if not len(records):
        raise UserError(f"input: folder {root} is empty")
    names = [path.relative_to(root).as_posix() for path in records.paths]
    original = Original(root, records, names, {"layout": LAYOUT, **people})
    return run(original, anonymizer, job.seed, job, job.faces)


def run(original: "Original", anonymizer: "Anonymizer", seed: int, job: Job, faces: "FacesConfig | Detection") -> bool:
    """Make the copy, look for faces in it where the job says so, and say whether every image is there."""
    from datamodules.copying import FAILURES, make_copy
    from processes import cores, share

    output, workers = Path(job.output), job.workers
    if workers is None:
        workers = SHARING_DEVICE if anonymizer.condition.generators and job.device != "cpu" else cores()
    number, count = share()
    result = make_copy(original, output, anonymizer, seed, job.device, workers, job.strict, (number, count))
    if job.strict and result.failures:
        for name, problem in result.failures.items():
            print(f"stopped at {name}: {problem}", file=sys.stderr)
        return False
    if not result.finished:
        print(
            f"share {number + 1} of {count} is done: {len(result.images)} images, {len(result.failures)} failures; "
            f"{output} is finished by the one that ends last"
        )
        return not result.failures
    if job.audit:
        from audit import audit

        audit(output, faces.detector, faces.score, job.device, workers)
    print(
        f"{len(result.images)} images in {output}: {result.regions} regions anonymized, "
        f"{result.dropped} people left as they are because too small"
    )
    if result.failures:
        print(f"{len(result.failures)} images failed and are not there; they are listed in {output / FAILURES}")
    return not result.failures


def check_job(job: Job, faces: "FacesConfig | Detection", anonymizer: "Anonymizer") -> None:
    """Refuse at once what would only show later.

    Raises:
        UserError: naming the key that is wrong.
    """
    import torch

    if job.workers is not None and job.workers < 0:
        raise UserError(f"workers: {job.workers} is no number of processes")
    try:
        torch.empty(1, device=job.device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch has no CUDA
        raise UserError(f"device: '{job.device}' cannot be used: {str(error).splitlines()[0]}") from None
    if job.audit:
        from anonymization.detectors import face_detector

        face_detector(faces.detector, faces.score, job.device)
    anonymizer.load()


def changing_condition(name: str) -> "Condition":
    """Read a condition that changes images.

    Raises:
        UserError: it is unknown, or ``original``.
    """
    from anonymization.conditions import CONDITIONS, parse_condition

    condition = parse_condition(name)
    if condition.region == "none":
        raise UserError(f"condition: {name} anonymizes nothing; give condition= one of {', '.join(CONDITIONS[1:])}")
    return condition


if __name__ == "__main__":
    main()
