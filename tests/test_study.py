"""The study's report is of its committed results."""

import html
from dataclasses import replace
from pathlib import Path

import pytest

from configs.grid import read_cells
from reporting.comparison import compare
from reporting.reading import read_reading
from reporting.results import collect
from reporting.sentences import describe, describe_overview
from reporting.tables import as_files
from sweep import check

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "docs" / "study"
SWEEPS = ("streetscenes", "streetscenes_keypoints", "streetscenes_no_person")


@pytest.fixture(scope="module")
def comparisons():
    runs, problems = collect([STUDY / sweep for sweep in SWEEPS])
    assert not problems
    # A clone without its history cannot compare the commits of runs; make study-report has done so.
    return compare([replace(run, commit=None) for run in runs])


def test_the_report_is_of_the_results(comparisons):
    files = {name: content for name, content in as_files(comparisons, []).items() if name.endswith((".md", ".tex"))}
    assert len(files) >= 2 * len(SWEEPS)
    for name, content in files.items():  # the others have digits that depend on the machine
        assert (STUDY / "report" / name).read_text() == content, "run make study-report"


def test_the_reading_and_what_figures_show_is_on_the_page(comparisons):
    page = html.unescape((STUDY / "report" / "index.html").read_text())
    said = [*read_reading(STUDY / "reading.txt", comparisons), describe_overview(comparisons)]
    said += [describe(figure, comparison) for comparison in comparisons for figure in ("delta", "metrics")]
    for text in said:
        assert text in page, "run make study-report"


@pytest.mark.parametrize("sweep", SWEEPS)
def test_no_cell_is_missing(monkeypatch, sweep):
    monkeypatch.chdir(ROOT)
    path = Path("sweeps", f"{sweep}.yaml")
    wanted = {run_dir.name for run_dir in check(path, read_cells(path))}
    assert wanted == {results.parent.name for results in (STUDY / sweep).glob("*/results.json")}
