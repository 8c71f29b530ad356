"""The study's report is of its committed results."""

import html
from dataclasses import replace
from pathlib import Path

import pytest

from reporting.comparison import compare
from reporting.reading import read_reading
from reporting.results import collect
from reporting.tables import as_files

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


def test_the_reading_is_on_the_page(comparisons):
    page = html.unescape((STUDY / "report" / "index.html").read_text())
    for paragraph in read_reading(STUDY / "reading.txt", comparisons):
        assert paragraph in page, "run make study-report"
