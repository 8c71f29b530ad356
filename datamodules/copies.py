"""Training on an anonymized copy: whether the folder that a config names is the copy that the run needs."""

import shlex
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning.utilities import rank_zero_warn

from anonymization.conditions import parse_condition
from configs import Config
from datamodules.manifest import JOURNALS, MANIFEST, first_difference, read_manifest, sha256
from datamodules.originals import pictures
from errors import UserError

# Images whose content is compared with the manifest, spread evenly over the names. To read all of them would take
# minutes at every start; a copy that was overwritten or compressed anew as a whole shows in any few.
COMPARED = 50


class Copy(NamedTuple):
    """A copy that is trained on."""

    folder: Path
    images: int
    regions: int  # that were anonymized in them, each counted once
    sha256: str  # of its manifest

    def as_result(self) -> dict[str, Any]:
        """Give what the results of a run say of it, beside the regions, which they have of every run."""
        return {"folder": str(self.folder), "sha256": self.sha256, "images": self.images}


def copy_folder(config: Config) -> Path | None:
    """The folder that ``anonymization.copy`` names; None where the run reads the originals.

    Raises:
        UserError: the name has a placeholder that nothing is known for.
    """
    name = config.anonymization.copy
    if name is None or config.condition == "original":
        return None
    try:
        return Path(name.format(condition=config.condition.replace("/", "-"), seed=config.anonymization_seed))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"anonymization.copy: '{name}': {error!r}; {{condition}} and {{seed}} may be in it") from None


def check_copy(
    folder: Path, images: Path, config: Config, generators: dict[str, str], annotations: dict[str, str]
) -> Copy:
    """Check that a folder holds a finished copy of the run's training images under its condition and seed.

    Args:
        folder: of the copy.
        images: folder of the training images in it.
        config: of the run.
        generators: the names of the condition's generators, by key.
        annotations: digests of what says who is in the images now.

    Raises:
        UserError: naming what the manifest has, what the run needs, and the command that makes it.
    """
    path = folder / MANIFEST
    for journal in sorted(folder.glob(JOURNALS)):
        raise UserError(f"{journal}: the copy is not finished; {_command(config, folder)} goes on with it")
    if not path.exists():
        raise UserError(f"anonymization.copy: {path} does not exist; {_command(config, folder)} makes it")
    manifest = read_manifest(path)
    needed = {
        "layout": config.data.layout,
        "split": "train",
        "source": str(Path(config.data.root).resolve()),
        "condition": config.condition,
        "seed": config.anonymization_seed,
        "annotations": annotations,
    }
    if generators:
        needed["generators"] = generators
    if difference := first_difference(needed, manifest):
        key, theirs, ours = difference
        raise UserError(
            f"{path}: has {key} {theirs}, this run needs {ours}; name another folder in anonymization.copy, as "
            f"{_command(config, Path('DIR'))} makes it"
        )
    _check_images(folder, images, config, manifest)
    return Copy(folder, len(manifest["images"]), manifest["regions"], sha256(path))


def _check_images(folder: Path, images: Path, config: Config, manifest: dict[str, Any]) -> None:
    path, command = folder / MANIFEST, _command(config, folder)
    if manifest["failures"] and not config.data.skip_bad_images:
        raise UserError(
            f"{path}: has failures {manifest['failures']}, this run needs 0; mend what failures.csv beside it has and "
            f"{command} makes the rest, or data.skip_bad_images=true trains without them"
        )
    there, listed = pictures(folder, images), manifest["images"].keys()
    for name in sorted(there - listed):
        raise UserError(f"{folder / name}: is not in {path}, so nobody knows whether it is anonymized; remove it")
    existing = {name for name in listed if (folder / name).is_file()}  # a picture may have no suffix of one
    for name in sorted(listed - existing):
        missing = f"{folder / name}: is missing, {path} has it; {command} makes it again"
        if not config.data.skip_bad_images:
            raise UserError(missing)
        rank_zero_warn(f"left out: {missing}")
    names = sorted(existing)
    for name in names[:: 1 + (len(names) - 1) // COMPARED]:
        if sha256(folder / name) != manifest["images"][name]["sha256"]:
            raise UserError(f"{folder / name}: is not the image that {path} has; {command} makes it again")


def _command(config: Config, output: Path) -> str:
    keys = parse_condition(config.condition).generators
    arguments = [
        f"data.root={config.data.root}",
        f"condition={config.condition}",
        f"anonymization.seed={config.anonymization_seed}",
        *(f"generators.{key}={getattr(config.generators, key)}" for key in keys),
        f"output={output}",
    ]
    return shlex.join(["python", "anonymize.py", "--config", "FILE", *arguments])
