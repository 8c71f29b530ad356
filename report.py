"""Compare runs: tables as the paper has them, figures, a page. Or, as a first word, one of the commands below."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from errors import UserError, script

if TYPE_CHECKING:
    from reporting.comparison import Comparison

EPILOG = """commands:
  report.py examples    the same images under several conditions, side by side
  report.py wandb       the dashboards of a W&B project
(a folder of such a name is given as ./examples)

examples: python report.py outputs/quickstart --output outputs/quickstart/report
          python report.py --wandb my-team/anonbench --output report
"""


@script
def main() -> None:
    """Compare runs, or do what the first word says."""
    commands = {"examples": examples, "wandb": dashboards}
    first, *rest = sys.argv[1:] or [""]
    if first in commands:
        commands[first](rest)
    else:
        report(sys.argv[1:])


def report(arguments: list[str]) -> None:
    """Write the comparison of finished runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", type=Path, help="folders that train.py wrote, or results.json files")
    parser.add_argument("--wandb", metavar="ENTITY/PROJECT[/SWEEP]", help="take the runs from W&B instead")
    parser.add_argument(
        "--audits",
        nargs="+",
        type=Path,
        default=[],
        metavar="AUDIT",
        help="audited copies, or their audit.json: draws people's AP against the faces that are still found",
    )
    parser.add_argument(
        "--examples",
        action=argparse.BooleanOptionalAction,
        help="show training images in the page, as recorded too; by default drawn ones alone, which show nobody real",
    )
    parser.add_argument(
        "--reading",
        type=Path,
        metavar="FILE",
        help="a text for the page; {streetscenes body/blur AP_person change} in it becomes that number, "
        "{table_1 body/blur AP_person change} the paper's",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the page, the tables and the figures")
    chosen = parser.parse_args(arguments)
    if bool(chosen.results) == bool(chosen.wandb):
        parser.error("give either folders of results or --wandb")

    from reporting.comparison import compare
    from reporting.figures import write_figures, write_overview
    from reporting.findings import read_audits
    from reporting.page import find_examples, write_page
    from reporting.reading import read_reading
    from reporting.results import collect, collect_wandb

    audits = read_audits(chosen.audits)
    runs, problems = collect_wandb(chosen.wandb) if chosen.wandb else collect(chosen.results)
    comparisons = compare(runs)
    reading = read_reading(chosen.reading, comparisons) if chosen.reading else []
    show(comparisons, problems)
    write(comparisons, problems, chosen.output)
    figures = {
        comparison.name: write_figures(comparison, chosen.output / "figures", audits) for comparison in comparisons
    }
    examples = {comparison.name: find_examples(comparison, chosen.examples) for comparison in comparisons}
    for name, found in examples.items():
        if chosen.examples and not found.images:
            print(f"warning: {name}: examples: {found.note}", file=sys.stderr)
    page = write_page(
        comparisons,
        problems,
        chosen.output,
        figures=figures,
        overview=write_overview(comparisons, chosen.output / "figures"),
        examples=examples,
        audits=audits,
        reading=reading,
    )
    print(f"{page}; tables and figures beside it")


def show(comparisons: "list[Comparison]", problems: list[str]) -> None:
    """Print the tables, and on stderr the problems."""
    from rich.console import Console

    from reporting.tables import as_text, legend, paper_grid, paper_legend, results_grid, title

    console = Console(highlight=False, markup=False)
    for comparison in comparisons:
        console.print(title(comparison), style="bold")
        console.print(*as_text(results_grid(comparison), console.width), legend(comparison), sep="\n")
        if grid := paper_grid(comparison):
            console.print(*as_text(grid, console.width), paper_legend(comparison), sep="\n")
    for problem in problems + [f"{c.name}: {problem}" for c in comparisons for problem in c.problems]:
        print(f"warning: {problem}", file=sys.stderr)


def write(comparisons: "list[Comparison]", problems: list[str], output: Path) -> None:
    """Write the tables of each comparison, and everything as ``comparison.json``."""
    from outputs import write_atomically
    from reporting.tables import as_files

    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in as_files(comparisons, problems).items():
            write_atomically(output / name, content)
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written: {error}") from None


def examples(arguments: list[str]) -> None:
    """Draw the same images under several conditions."""
    parser = argparse.ArgumentParser(
        prog="report.py examples", description=examples.__doc__, epilog="key=value: overrides of the experiment's keys"
    )
    parser.add_argument("--config", required=True, help="experiment file that names the dataset")
    parser.add_argument("--conditions", nargs="+", required=True, help="original body/blur ...")
    parser.add_argument("--images", type=int, default=3, help="how many (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the images (default: 0)")
    parser.add_argument("--people", action="store_true", help="show a person of each image beside it, enlarged")
    parser.add_argument("--outline", action="store_true", help="draw a thin line around what is replaced")
    parser.add_argument("--output", type=Path, required=True, help="PNG or SVG file")
    chosen, overrides = parser.parse_known_args(arguments)

    from configs import load_config
    from reporting.examples import write_sheet

    conditions = list(dict.fromkeys(chosen.conditions))
    for condition in conditions:
        load_config(chosen.config, [*overrides, f"condition={condition}"])
    config = load_config(chosen.config, overrides)
    write_sheet(
        config, conditions, chosen.images, chosen.seed, chosen.output, outline=chosen.outline, people=chosen.people
    )
    print(f"examples in {chosen.output}")


def dashboards(arguments: list[str]) -> None:
    """Build or update the workspace and the report of a W&B project."""
    parser = argparse.ArgumentParser(prog="report.py wandb", description=dashboards.__doc__)
    parser.add_argument("--entity", required=True, help="team or user")
    parser.add_argument("--project", required=True)
    parser.add_argument("--sweep", metavar="ID", help="of this sweep alone")
    parser.add_argument(
        "--print",
        nargs="*",
        type=Path,
        metavar="RESULTS",
        help="ask and send nothing: print as JSON what would be sent of the runs in these folders (default: outputs)",
    )
    chosen = parser.parse_args(arguments)

    from reporting.dashboards import publish, specify

    if chosen.print is None:
        publish(chosen.entity, chosen.project, chosen.sweep)
    else:
        print(specify(chosen.entity, chosen.project, chosen.sweep, chosen.print or [Path("outputs")]))


if __name__ == "__main__":
    main()
