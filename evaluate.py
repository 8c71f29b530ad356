"""Evaluate a checkpoint on original validation images, and write its predictions in the benchmark's own format."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import UserError, script

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from configs import Config
    from datamodules.base import DetectionDataModule
    from lightning_modules.detection import DetectionModule

EPILOG = """key=value: overrides of the experiment's keys, see configs/__init__.py.
Without --checkpoint the model is the one that model.weights names, of torchvision say: COCO_V1.

example: python evaluate.py --config outputs/RUN/config.yaml --checkpoint outputs/RUN/checkpoints/best.ckpt
"""


@script
def main() -> None:
    """Evaluate what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="experiment file, or the config.yaml of a run")
    parser.add_argument("--checkpoint", type=Path, help="last.ckpt or best.ckpt of a run")
    parser.add_argument("--output", type=Path, help="folder for metrics.json, matches.npz and the predictions")
    arguments, overrides = parser.parse_known_args()

    from configs import load_config

    evaluate(load_config(arguments.config, overrides), arguments.checkpoint, arguments.output)


def evaluate(config: "Config", checkpoint: Path | None, output: Path | None) -> dict[str, float]:
    """Print the average precisions of a model, write them and its predictions where there is an output.

    Args:
        config: names the dataset and the model.
        checkpoint: of train.py; None for the model that ``model.weights`` names.
        output: a folder.

    Returns:
        AP in percent by name, e.g. ``val/segm/AP_person``.

    Raises:
        UserError: naming the key or file that is wrong.
    """
    from dataclasses import replace

    from rich.console import Console

    from datamodules.layouts import build_datamodule
    from lightning_modules.detection import DetectionModule
    from lightning_modules.predictions import KeepPredictions
    from lightning_modules.progress import ProgressBar
    from lightning_modules.settings import build_trainer, fit_to_machine

    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output: {output} cannot be written: {error}") from None
    # Validation images are never anonymized: what the condition needs need not be there.
    datamodule = build_datamodule(replace(config, condition="original"))
    datamodule.prepare_data()
    datamodule.setup("validate")
    config = fit_to_machine(replace(config, optimizer=replace(config.optimizer, batch_size=None)))
    main_metric = f"val/{datamodule.iou_types[-1]}/AP"
    module = DetectionModule(config, len(datamodule.classes) + 1, datamodule.metrics(), main_metric)
    load(module, config, checkpoint, datamodule.classes)
    predictions = KeepPredictions()
    shows_progress = config.trainer.get("enable_progress_bar", True) and sys.stdout.isatty()
    arguments = config.trainer | {
        "use_distributed_sampler": False,  # the data module's sampler is distributed already
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": shows_progress,
    }
    trainer = build_trainer(**arguments, callbacks=[predictions, ProgressBar()] if shows_progress else [predictions])

    trainer.validate(module, datamodule=datamodule, verbose=False)
    if trainer.is_global_zero:
        Console().print(table(module.values))
        if output is not None:
            write(output, config, checkpoint, module, predictions.by_image, datamodule)
    return module.values


def load(module: Any, config: "Config", checkpoint: Path | None, classes: tuple[str, ...]) -> None:
    """Load a whole model: the checkpoint's, or the one that ``model.weights`` names.

    Raises:
        UserError: if there is none, or it is another model's or another dataset's.
    """
    from lightning_modules.models import load_weights, read_state

    if checkpoint is None:
        missing = load_weights(module.model, config.model, classes)
        if missing:
            raise UserError(
                f"model.weights: '{config.model.weights}' leaves {len(missing)} tensors of {config.model.name} "
                f"untrained ({missing[-1]}, ...); give --checkpoint FILE"
            )
        return
    try:
        module.model.load_state_dict(read_state(checkpoint, "--checkpoint"))
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise UserError(
            f"--checkpoint: {checkpoint} is not of {config.model.name} with {len(classes)} classes: {reason}"
        ) from None


def table(metrics: dict[str, float]) -> "Table":
    """Show AP in percent: a row a measure or class, a column box, mask or keypoints."""
    from rich.table import Table

    names = [name.split("/", 2) for name in metrics]  # a class may have more in its name
    types = list(dict.fromkeys(iou_type for _, iou_type, _ in names))
    shown = Table("", *types, title="AP in percent on original validation images")
    for measure in dict.fromkeys(measure for _, _, measure in names):
        values = [metrics.get(f"val/{iou_type}/{measure}") for iou_type in types]
        shown.add_row(measure, *("" if value is None else f"{value:.2f}" for value in values))
    return shown


def write(
    output: Path,
    config: "Config",
    checkpoint: Path | None,
    module: "DetectionModule",
    predictions: dict[str, dict[str, Any]],
    datamodule: "DetectionDataModule",
) -> None:
    """Write ``metrics.json``, ``matches.npz`` and the predictions, these as the benchmark takes them.

    That is COCO's results format, or the submission of the Cityscapes benchmark.

    Raises:
        UserError: if that cannot be.
    """
    import json
    from dataclasses import asdict

    from lightning_modules.predictions import write_cityscapes_results, write_coco_results
    from lightning_modules.results import versions
    from metrics.matches import write_matches
    from outputs import write_atomically

    classes = dict(enumerate(datamodule.classes, start=1))
    content = {
        "checkpoint": checkpoint and str(checkpoint),
        "split": config.data.val_split,
        "images": len(predictions),
        "metrics": module.values,
        "versions": versions(),
        "config": asdict(config),
    }
    try:
        if config.data.layout == "cityscapes":
            files = [write_cityscapes_results(predictions, classes, output)]
        else:
            files = write_coco_results(predictions, *own_ids(datamodule, predictions), output)
        write_matches(output / "matches.npz", module.matches)
        write_atomically(output / "metrics.json", json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from None
    print(f"metrics in {output / 'metrics.json'}; predictions in {', '.join(map(str, files))}")


def own_ids(datamodule: "DetectionDataModule", image_ids: "Iterable[str]") -> tuple[dict[str, Any], dict[int, int]]:
    """Return the dataset's own ids of images and of labels 1..K, as its file in COCO's format has them."""
    from datamodules.files import read_json

    sources = datamodule.sources(datamodule.config.val_split, "none")
    file = next((path for path in sources if path.suffix == ".json" and path.exists()), None)
    if file is None:  # BDD100K's bitmasks: categories 1 to 8, and images by name
        images = {id_: id_ for id_ in image_ids}
        categories = {name: id_ for id_, name in enumerate(type(datamodule).classes, start=1)}
    else:
        content = read_json(file, "it names the images and categories")
        images = {str(image["id"]): image["id"] for image in content["images"]}
        categories = {category["name"]: category["id"] for category in content["categories"]}
    return images, {label: categories[name] for label, name in enumerate(datamodule.classes, start=1)}


if __name__ == "__main__":
    main()
