"""What an anonymized copy is made of: a dataset's images, and the files that belong to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from datamodules.files import read_json
from datamodules.record import Record

if TYPE_CHECKING:
    from datamodules.base import DetectionDataModule  # workers need nothing of it, and Lightning takes seconds

STREETSCENES = "streetscenes.json"  # says that a drawn dataset is there; without it training would draw a new one


@dataclass(frozen=True)
class Original:
    """What is copied.

    Attributes:
        root: its folder, which is never written to.
        records: of the images, with the people of the condition's region.
        names: the images' paths, relative to the root: one for each record.
        about: what the manifest says of it.
        linked: paths in the root that the copy has as links.
        copied: paths in the root that the copy has as they are.
        problems: why files that no record is about are not in the copy, by name.
    """

    root: Path
    records: Sequence[Record]
    names: Sequence[str]
    about: dict[str, Any]
    linked: Sequence[str] = ()
    copied: Sequence[str] = ()
    problems: dict[str, str] = field(default_factory=dict)


def dataset_original(datamodule: "DetectionDataModule", split: str, copy_annotations: bool) -> Original:
    """Describe a dataset of which the images of one split are anonymized.

    The validation images are links, as nobody could train on the copy without them; so are the annotations.

    Args:
        datamodule: of the dataset, under the condition of the copy.
        split: train or val.
        copy_annotations: copy the annotations, for a copy that is handed on.

    Raises:
        UserError: naming the file or annotation that is wrong.
    """
    root, region, images = datamodule.root, datamodule.condition.region, datamodule.image_folder(split)
    records = datamodule.read(split, region)
    names = _names(root, records)
    about = {
        "layout": datamodule.config.layout,
        "split": split,
        "annotations": datamodule.annotations(split, region),
    }
    unmatched = sorted(pictures(root, images) - set(names))
    problems = dict.fromkeys(unmatched, "no annotation is about this image")
    if region == "face":
        faces = datamodule.faces_file(split)
        content = read_json(faces, "it has the faces")
        given = sum(bool(entry["boxes"] if isinstance(entry, dict) else entry) for entry in content.values())
        if lost := given - sum(bool(record.faces) for record in records):
            problems[faces.name] = f"has faces in {lost} images that are not among this split's"

    annotations = [name for name in (*datamodule.annotation_paths, STREETSCENES) if (root / name).exists()]
    validation = datamodule.image_folder("val").as_posix()
    linked = [validation] if split == "train" and (root / validation).exists() else []
    copied = annotations if copy_annotations else []
    return Original(
        root, records, names, about, linked if copy_annotations else [*annotations, *linked], copied, problems
    )


def _names(root: Path, records: Sequence[Record]) -> list[str]:
    return [record.path.relative_to(root).as_posix() for record in records]


def pictures(root: Path, folder: Path) -> set[str]:
    """The files in a folder of the root that are pictures by their names, relative to the root."""
    suffixes = Image.registered_extensions()
    return {p.relative_to(root).as_posix() for p in (root / folder).rglob("*") if p.suffix.lower() in suffixes}
