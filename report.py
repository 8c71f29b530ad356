"""Compare runs: a table of AP by condition, and pictures of the conditions."""

import argparse
from pathlib import Path

from errors import UserError, script


@script
def main() -> None:
    """Write the table of finished runs, or (``examples``) the same images under several conditions."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table", help="compare finished runs")
    table.add_argument("results", nargs="+", type=Path, help="folders that train.py wrote, or results.json files")
    table.add_argument("--output", type=Path, required=True, help="folder for table.md")
    examples = commands.add_parser("examples", help="the same images under several conditions")
    examples.add_argument("--config", required=True, help="experiment file that names the dataset")
    examples.add_argument("--conditions", nargs="+", required=True, help="original body/blur ...")
    examples.add_argument("--images", type=int, default=3, help="how many (default: 3)")
    examples.add_argument("--people", action="store_true", help="show a person of each image, enlarged")
    examples.add_argument("--output", type=Path, required=True, help="PNG file")
    arguments, overrides = parser.parse_known_args()
    if arguments.command == "table":
        if overrides:
            parser.error(f"unrecognized arguments: {' '.join(overrides)}")
        write_table(arguments.results, arguments.output)
    else:
        from configs import load_config
        from reporting.examples import people_side_by_side, side_by_side

        conditions = list(dict.fromkeys(arguments.conditions))
        for condition in conditions:
            load_config(arguments.config, [*overrides, f"condition={condition}"])
        draw = people_side_by_side if arguments.people else side_by_side
        draw(load_config(arguments.config, overrides), conditions, arguments.images, arguments.output)
        print(f"examples in {arguments.output}")


def write_table(results: list[Path], output: Path) -> None:
    """Print a table for each dataset and write them as ``table.md``."""
    from rich.console import Console

    from reporting.results import collect
    from reporting.tables import as_markdown, as_text, summarize

    runs = collect(results)
    console, markdown = Console(), []
    for dataset in sorted({run.dataset for run in runs}):
        own = [run for run in runs if run.dataset == dataset]
        task = "keypoints" if "val/keypoints/AP" in own[0].metrics else "segm"
        people = [m for m in ("val/segm/AP_person", "val/segm/AP_pedestrian", "val/segm/AP_car") if m in own[0].metrics]
        metrics = [f"val/{task}/AP", f"val/{task}/AP50", *people]
        rows = summarize(own, metrics)
        console.print(
            as_text(rows, metrics, f"{dataset}: AP in percent on original validation images (change to original)")
        )
        markdown.append(f"## {dataset}\n\n{as_markdown(rows, metrics)}")
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "table.md").write_text("\n".join(markdown))
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from None
    print(f"table in {output / 'table.md'}")


if __name__ == "__main__":
    main()
