"""The comparison as one HTML page that needs nothing beside it: no network, no server, no other file."""

import base64
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from anonymization.conditions import CONDITIONS, parse_condition
from configs import Config
from errors import UserError
from outputs import write_atomically
from reporting.colours import colour
from reporting.comparison import Cell, Comparison, Row
from reporting.findings import main_metric, people_metric
from reporting.results import Run
from reporting.sentences import answer, basis, beside_paper, describe, describe_overview, same_people
from reporting.significance import METHOD
from reporting.tables import Entry, headings, legend, paper_grid, paper_legend, results_grid, title
from threads import one_thread

CITATION = Path(__file__).parents[1] / "CITATION.cff"
COLUMNS = 12  # metrics of a table at most, so that it can be printed
IMAGES = 3  # of the examples
BESIDE_RUN = {  # what train.py leaves beside results.json, by what the page calls it
    "config": "config.yaml",
    "log": "csv/version_*/metrics.csv",
    "training images": "images/train.png",
    "predictions": "images/val.png",
}


@dataclass(frozen=True)
class Picture:
    """An image in the page."""

    source: str  # data URI
    alt: str


@dataclass(frozen=True)
class Examples:
    """What the page shows of the dataset."""

    note: str
    images: dict[str, dict[str, Picture]] = field(default_factory=dict)  # by image and condition, original first
    real: bool = False  # whether people in the originals are, as far as is known


@dataclass(frozen=True)
class Table:
    """Metrics in columns, conditions in lines."""

    headings: list[str]
    lines: list[tuple[Row, list[tuple[Entry, float | None]]]]  # entries with the number to sort by


def write_page(
    comparisons: Sequence[Comparison],
    problems: Sequence[str],
    output: Path,
    *,
    figures: Mapping[str, Mapping[str, Path]],
    overview: Mapping[str, Path],
    examples: Mapping[str, Examples],
    audits: Sequence[dict[str, Any]] = (),
    reading: Sequence[str] = (),
) -> Path:
    """Write ``index.html``; the same input makes the same bytes.

    Args:
        comparisons: a section each.
        problems: of reading the runs.
        output: folder of the page, which its links start from.
        figures: by name of the comparison what `figures.write_figures` has written.
        overview: what `figures.write_overview` has written.
        examples: by name of the comparison what `find_examples` has found.
        audits: that the figures were drawn with.
        reading: paragraphs of what its authors read in the numbers.

    Returns:
        The page.

    Raises:
        UserError: it cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["colour"] = colour
    sections = [
        {
            "comparison": comparison,
            "title": title(comparison),
            "answer": answer(comparison),
            "tables": list(_tables(comparison)),
            "legend": legend(comparison),
            "changes": list(_change_tables(comparison)),
            "same_people": same_people(comparison),
            "paper": _paper(comparison),
            "figures": [
                _figure(path, describe(key, comparison, audits), output)
                for key, path in figures[comparison.name].items()
            ],
            "examples": examples[comparison.name],
            "setting": _setting(comparison.runs),
            "run_headings": headings(_run_metrics(comparison)),
            "runs": [_run(run, comparison, output) for run in sorted(comparison.runs, key=_place)],
            "versions": _versions(comparison.runs),
        }
        for comparison in comparisons
    ]
    html = environment.get_template("page.html").render(
        sections=sections,
        basis=basis(comparisons),
        reading=reading,
        real=[c.name for c in comparisons if examples[c.name].real],
        problems=[*problems, *(f"{c.name}: {problem}" for c in comparisons for problem in c.problems)],
        overview=[_figure(path, describe_overview(comparisons), output) for path in overview.values()],
        method=METHOD,
        **_citation(),
    )
    page = output / "index.html"
    try:
        write_atomically(page, html)
    except OSError as error:
        raise UserError(f"--output: {page} cannot be written: {error.strerror or error}") from None
    return page


def find_examples(comparison: Comparison, wanted: bool | None) -> Examples:
    """Make the pictures of a comparison's conditions from the dataset that its runs name, where it is still there.

    Args:
        comparison: of one experiment.
        wanted: None takes those of drawn scenes alone, as other originals show real people.
    """
    conditions = [row.condition for row in comparison.rows if row.runs and row.condition != "original"]
    if wanted is False or not conditions:
        return Examples(
            "They were left out." if conditions else "There are none, for want of a run on anonymized images."
        )
    # One with generators, where there are any; the rest is the same under every condition.
    run = max(comparison.runs, key=lambda run: len(parse_condition(run.condition).generators))
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), run.config))
    except (OmegaConfBaseException, ValueError, TypeError):
        return Examples(f"There are none, as the config in {run.path} is not of this version.")
    real = config.data.streetscenes is None
    if real and wanted is None:
        return Examples(
            "They were left out, as they would include originals, which may show real people. For those who may see "
            "them, report.py --examples makes a page that has them."
        )
    if not Path(config.data.root).is_dir():
        return Examples(f"There are none, as the dataset is not here: {config.data.root} does not exist.")

    from reporting.examples import example_pairs, in_words

    try:
        # The generators of drawn people are small.
        with nullcontext() if real else one_thread():
            pairs = example_pairs(config, conditions, IMAGES, seed=0)
    except UserError as error:
        return Examples(f"There are none: {error}")
    images = {}
    for pair in pairs:
        files = {"original": pair.original, **pair.anonymized}
        images[pair.image_id] = {
            condition: Picture(_data_uri("image/jpeg", file), f"Training image {pair.image_id}, {in_words(condition)}")
            for condition, file in files.items()
        }
    return Examples("Training images, chosen at random among those with people.", images, real)


def _tables(comparison: Comparison) -> Iterator[Table]:
    for part in _parts(comparison, comparison.metrics):
        grid = results_grid(part)
        lines = [line[len(grid.left) :] for group in grid.groups for line in group]
        cells = [[row.cells.get(metric) for metric in part.metrics] for row in part.rows]
        numbers = [[cell and cell.mean for cell in of_row] for of_row in cells]
        entries = [list(zip(*pair, strict=True)) for pair in zip(lines, numbers, strict=True)]
        yield Table(grid.metrics, list(zip(part.rows, entries, strict=True)))


def _change_tables(comparison: Comparison) -> Iterator[Table]:
    """The changes with their intervals, of the metrics that have any."""
    cells = [cell for row in comparison.rows for cell in row.cells.items()]
    with_interval = {metric for metric, cell in cells if cell.interval is not None}
    metrics = [metric for metric in comparison.metrics if metric in with_interval]
    rows = [row for row in comparison.rows if any(cell.delta is not None for cell in row.cells.values())]
    for part in _parts(comparison, metrics):
        lines = [(row, [_change(row.cells.get(metric)) for metric in part.metrics]) for row in rows]
        yield Table(headings(part.metrics), lines)


def _change(cell: Cell | None) -> tuple[Entry, float | None]:
    if cell is None or cell.delta is None:
        return Entry(""), None
    interval = cell.interval
    note = ", ".join(interval.ends()) if interval else ""
    return Entry(f"{cell.delta:+z.1f}", note, bold=bool(interval and interval.excludes_0)), cell.delta


def _parts(comparison: Comparison, metrics: list[str]) -> Iterator[Comparison]:
    for start in range(0, len(metrics), COLUMNS):
        yield replace(comparison, metrics=metrics[start : start + COLUMNS])


def _paper(comparison: Comparison) -> dict[str, Any] | None:
    grid = paper_grid(comparison)
    if grid is None:
        return None
    known = len(grid.left)
    rows = [row for row in comparison.rows if row.condition in comparison.paper.rows]
    groups = []
    for row, (printed, *ours) in zip(rows, grid.groups, strict=True):
        numbers = [cell.mean for cell in comparison.paper.rows[row.condition].values()]
        lines = [list(zip(printed[known:], numbers, strict=True))]
        lines += [[(entry, None) for entry in line[known:]] for line in ours]
        names = [line[known - 1].value for line in (printed, *ours)]
        groups.append((row, list(zip(names, lines, strict=True))))
    return {
        "headings": grid.metrics,
        "groups": groups,
        "legend": paper_legend(comparison),
        "agreement": beside_paper(comparison),
    }


def _place(run: Run) -> tuple[int, int]:
    return list(CONDITIONS).index(run.condition), run.seed


def _run_metrics(comparison: Comparison) -> list[str]:
    metrics = (main_metric(comparison), people_metric(comparison))
    return list(dict.fromkeys(metric for metric in metrics if metric is not None))


def _run(run: Run, comparison: Comparison, output: Path) -> dict[str, Any]:
    folder = run.path.parent
    found = {name: sorted(folder.glob(pattern)) for name, pattern in BESIDE_RUN.items()} if run.path.is_file() else {}
    files = [("results", run.path), *((name, path) for name, paths in found.items() for path in paths)]
    commit, _, dirty = (run.commit or "").partition("-")
    return {
        "of": run,
        "metrics": [run.metrics.get(metric) for metric in _run_metrics(comparison)],
        "time": None if run.wall_time_s is None else str(timedelta(seconds=round(run.wall_time_s))),
        "commit": commit[:10] + ("-dirty" if dirty else ""),
        # A run at W&B has no files here.
        "links": [(name, _link(path, output)) for name, path in files] if run.path.is_file() else [],
    }


def _setting(runs: Sequence[Run]) -> str:
    """Say in a line what was trained and how; all values where settings differ, which is a problem said elsewhere."""

    def values(*keys: str) -> str:
        found = []
        for run in runs:
            node: Any = run.config
            for key in keys:
                node = node.get(key) if isinstance(node, dict) else None
            found.append("" if node is None else str(node))
        return " or ".join(filter(None, dict.fromkeys(found)))

    steps, images = (
        " or ".join(dict.fromkeys(str(n) for run in runs if (n := getattr(run, key)) is not None))
        for key in ("steps", "images_per_step")
    )
    parts = {
        "dataset": values("data", "name"),
        "model": values("model", "name"),
        "trained from": values("model", "weights"),
        "steps": steps,
        "images a step": images,
        "precision": values("trainer", "precision"),
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items() if value)


def _versions(runs: Sequence[Run]) -> str:
    packages = dict.fromkeys(package for run in runs for package in run.versions)
    return ", ".join(
        f"{package} {' or '.join(dict.fromkeys(run.versions[package] for run in runs if package in run.versions))}"
        for package in packages
    )


def _citation() -> dict[str, str]:
    citation = yaml.safe_load(CITATION.read_text())
    paper = citation["preferred-citation"]
    identifier = paper["identifiers"][0]["value"]
    names = [(author["given-names"], author["family-names"]) for author in paper["authors"]]
    fields = {
        "title": paper["title"],
        "author": " and ".join(f"{family}, {given}" for given, family in names),
        "booktitle": paper["collection-title"],
        "year": paper["year"],
        "note": identifier,
    }
    lines = [f"  {key} = {{{value}}}" for key, value in fields.items()]
    authors = " and ".join(" ".join(name) for name in names)
    key = unicodedata.normalize("NFKD", names[0][1]).encode("ascii", "ignore").decode().lower() + str(paper["year"])
    return {
        "please": citation["message"],
        "reference": f"{authors}: {paper['title']} {paper['collection-title']}, {paper['year']}; {identifier}.",
        "bibtex": ",\n".join([f"@inproceedings{{{key}", *lines]) + "\n}",
    }


def _figure(path: Path, alt: str, output: Path) -> tuple[Picture, str, str]:
    """A figure, and the links to its files."""
    vector = path.with_suffix(".svg")
    picture = Picture(_data_uri("image/svg+xml", vector.read_bytes()), alt)
    return picture, _link(path, output), _link(vector, output)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _link(path: Path, output: Path) -> str:
    return quote(Path(os.path.relpath(path, output)).as_posix())
