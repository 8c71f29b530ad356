"""A comparison in every form of a table."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_runs import run, runs_of_paper

import reporting.comparison
from reporting.comparison import compare
from reporting.paper import paper_tables
from reporting.significance import Interval
from reporting.tables import as_csv, as_files, as_json, as_latex, as_markdown, as_text, legend, paper_grid, results_grid

PRINTED = Path(__file__).parents[3] / "shared" / "paper" / "tables.json"
AP, PERSON = "val/segm/AP", "val/segm/AP_person"
TABLES = pytest.mark.parametrize("table", paper_tables(), ids=lambda table: f"table {table.number}")
MARKDOWN = re.compile(r"(?P<bold>\*\*)?(?P<mean>[\d.]+) ± (?P<stderr>[\d.]+)(\*\*)?( \((?P<delta>[-+][\d.]+)\))?")
LATEX = re.compile(
    r"(?P<bold>\\textbf{)?(?P<mean>[\d.]+) \$\\pm\$ (?P<stderr>[\d.]+)}?( \((?P<delta>(\$-\$|\+)[\d.]+)\))?"
)


def lines_of(text, start, end, separator):
    """Cells of the lines of a table that begin so, without its head."""
    lines = [line.removeprefix(start).removesuffix(end) for line in text.splitlines() if line.endswith(end)]
    return [[cell.strip() for cell in line.split(separator)] for line in lines]


def check_as_printed(table, lines, form):
    """The cells are those of the paper, and the bold ones the highest of their region, where that has two or more."""
    conditions = []
    region = None
    for line in lines:
        region, method, runs = line[0] or region, *(cell.replace("\\_", "_") for cell in line[1:3])
        conditions.append(method if region == "none" else f"{region}/{method}")
        assert runs == "2"
        cells = [form.fullmatch(cell) for cell in line[3:]]
        for cell, expected in zip(cells, table.rows[conditions[-1]].values(), strict=True):
            delta = cell["delta"] and float(cell["delta"].replace("$", ""))
            assert (float(cell["mean"]), float(cell["stderr"]), delta) == expected
    assert conditions == list(table.rows)
    for place, metric in enumerate(table.metrics, start=3):
        for _, group in groupby(zip(conditions, lines, strict=True), key=lambda item: item[0].partition("/")[0]):
            group = [(table.rows[c][metric].mean, form.fullmatch(line[place])["bold"] is not None) for c, line in group]
            best = max(mean for mean, _ in group)
            assert [bold for _, bold in group] == [len(group) > 1 and mean == best for mean, _ in group]


@pytest.fixture(autouse=True)
def without_intervals(monkeypatch):
    monkeypatch.setattr(reporting.comparison, "delta_intervals", lambda runs, originals, metrics: {})


@TABLES
def test_the_papers_tables_are_rebuilt_in_markdown(table):
    (comparison,) = compare(runs_of_paper(table))
    text = as_markdown(comparison).partition("## Beside the paper")[0]
    check_as_printed(table, lines_of(text, "| ", " |", " | ")[2:], MARKDOWN)


@TABLES
def test_the_papers_tables_are_rebuilt_in_latex(table):
    (comparison,) = compare(runs_of_paper(table))
    check_as_printed(table, lines_of(as_latex(results_grid(comparison), "", ""), "", r" \\", " & ")[1:], LATEX)


def test_the_paper_is_what_was_printed():
    """The shipped numbers are those read off the paper, and its differences are those of the means as printed."""
    if not PRINTED.is_file():
        pytest.skip("the paper's numbers are not beside the repository")
    tasks = {"box": "bbox", "kp": "keypoints", "segm": "segm", "AP": "segm", "AP50": "segm"}
    for table, expected in zip(paper_tables(), json.loads(PRINTED.read_text())["tables"].values(), strict=True):
        names = [re.fullmatch(r"(?:(box|kp|segm)_)?(.*)", name).groups(default="segm") for name in expected["metrics"]]
        assert table.metrics == tuple(f"val/{tasks[task]}/{name}" for task, name in names)
        for (condition, cells), row in zip(table.rows.items(), expected["rows"], strict=True):
            assert condition == ("original" if row["region"] == "none" else f"{row['region']}/{row['method']}")
            assert [cell._asdict() for cell in cells.values()] == list(row["values"].values())
            for metric, cell in cells.items():
                if condition != "original":
                    assert cell.delta == pytest.approx(cell.mean - table.rows["original"][metric].mean, abs=1e-9)


@TABLES
def test_the_paper_beside_itself_has_no_difference(table):
    (comparison,) = compare(runs_of_paper(table))
    grid = paper_grid(comparison)
    assert [group[0][1].value for group in grid.groups] == [row.method for row in comparison.rows]
    for printed, ours, difference in grid.groups:
        assert [(e.value, e.note) for e in printed[3:]] == [(e.value, e.note) for e in ours[3:]]
        assert {(e.value, e.note) for e in difference[3:]} == {("+0.0", "overlap")}


def test_the_paper_stands_beside_what_differs_or_is_missing():
    table = paper_tables()[3]
    runs = [r for r in runs_of_paper(table) if r.condition in ("original", "face/blur")]
    shifted = {"original": 0.0, "face/blur": 0.36}
    runs = [replace(r, metrics={m: v + shifted[r.condition] for m, v in r.metrics.items()}) for r in runs]
    runs = [r for r in runs if r.condition != "original" or r.seed == 0]
    (comparison,) = compare(runs)
    text = as_markdown(comparison).partition("## Beside the paper")[2]
    assert lines_of(text, "| ", " |", " | ")[2:8] == [
        ["none", "original", "paper", "40.9 ± 0.0", "37.0 ± 0.0", "55.3 ± 0.1"],
        ["", "", "these runs", "40.9", "37.0", "55.2"],
        ["", "", "difference", "+0.0", "+0.0", "-0.1"],
        ["face", "blur", "paper", "40.7 ± 0.0 (-0.2)", "36.9 ± 0.1 (-0.1)", "51.9 ± 0.1 (-3.4)"],
        ["", "", "these runs", "41.1 ± 0.0 (+0.2)", "37.3 ± 0.1 (+0.3)", "52.3 ± 0.1 (-2.9)"],
        ["", "", "difference", "+0.4 (apart)", "+0.4 (apart)", "+0.4 (apart)"],
    ]
    assert lines_of(text, "| ", " |", " | ")[9] == ["", "", "these runs", "missing", "missing", "missing"]


def small(*runs):
    (comparison,) = compare(list(runs))
    return comparison


def test_markdown_shows_what_is_missing_and_no_error_of_one_run():
    comparison = small(run("body/blur", 0, {AP: 20.0}), run("original", 0, {AP: 30.04, PERSON: 10.0}))
    assert as_markdown(comparison).splitlines()[2:6] == [
        "| region | method | runs | AP | AP person |",
        "| --- | --- | --- | ---: | ---: |",
        "| none | original | 1 | 30.0 | 10.0 |",
        "| body | blur | 1 | 20.0 (-10.0) | missing |",
    ]


def test_what_rounds_to_nothing_has_no_minus():
    comparison = small(run("original", 0, {AP: 20.0}), run("body/blur", 0, {AP: 19.96}))
    assert "| 20.0 (+0.0) |" in as_markdown(comparison)


def test_problems_stand_below():
    assert as_markdown(small(run("body/blur", 0, {AP: 20.0}))).endswith(
        "## Problems\n\n- original: has no run, so there are no differences to it\n"
    )


@pytest.mark.parametrize(
    ("low", "high", "marked"), [(-3.0, -1.0, True), (-3.0, 0.5, False), (0.2, 1.0, True), (-1.0, 0.0, False)]
)
def test_a_delta_is_marked_where_its_interval_excludes_0(monkeypatch, low, high, marked):
    monkeypatch.setattr(
        reporting.comparison, "delta_intervals", lambda runs, originals, metrics: {AP: Interval(low, high, "seeds")}
    )
    comparison = small(*(run(c, s, {AP: 20.0 + s}) for c in ("original", "body/blur") for s in (0, 1)))
    lines = as_markdown(comparison).splitlines()
    assert lines[5] == f"| body | blur | 2 | 20.5 ± 0.5 (+0.0{chr(92) + '*' if marked else ''}) |"
    assert r"\*: the 95 % interval of the difference excludes 0; it is over seeds." in lines[7]
    assert ("$^{*}$" in as_latex(results_grid(comparison), "", "")) == marked


def test_no_word_of_stars_and_bold_where_there_are_none():
    assert legend(small(run("original", 0, {AP: 20.0}))) == "Mean ± standard error over runs (difference to original)."


def test_csv_has_raw_numbers_and_nothing_for_what_is_missing():
    comparison = small(
        *(run("original", seed, {AP: value, PERSON: 0.0}) for seed, value in enumerate((30.123456, 31.0))),
        run("body/blur", 0, {AP: 1 / 3}),
    )
    lines = {(line["condition"], line["metric"]): line for line in csv.DictReader(io.StringIO(as_csv(comparison)))}
    assert len(lines) == 4
    original, blur = lines["original", AP], lines["body/blur", AP]
    assert float(original["mean"]) == (30.123456 + 31.0) / 2 and original["delta"] == ""
    assert (float(blur["mean"]), blur["stderr"]) == (1 / 3, "")
    assert float(blur["delta"]) == 1 / 3 - (30.123456 + 31.0) / 2
    assert (float(lines["original", PERSON]["mean"]), lines["original", PERSON]["stderr"]) == (0.0, "0.0")
    missing = lines["body/blur", PERSON]
    assert (missing["runs"], missing["mean"], missing["delta"]) == ("1", "", "")


def test_csv_of_a_paper_condition_without_a_run_has_the_papers_numbers_alone():
    runs = [r for r in runs_of_paper(paper_tables()[0]) if r.condition != "body/blur"]
    lines = csv.DictReader(io.StringIO(as_csv(small(*runs))))
    line = next(line for line in lines if (line["condition"], line["metric"]) == ("body/blur", PERSON))
    values = {key: line[key] for key in ("runs", "mean", "paper_mean", "paper_stderr", "paper_delta", "overlaps_paper")}
    assert list(values.values()) == ["0", "", "2.1", "0.1", "-32.9", ""]


def test_json_has_everything():
    comparison = small(run("original", 0, {AP: 1 / 3}, versions={"torch": "2"}), run("body/blur", 3, {AP: 2.0}))
    content = json.loads(as_json([comparison], ["a file is broken"]))
    assert content["problems"] == ["a file is broken"]
    (written,) = content["comparisons"]
    assert written["rows"][1]["cells"][AP]["delta"] == 2.0 - 1 / 3
    assert [(r["path"], r["seed"], r["metrics"]) for r in written["runs"]] == [
        ("e-original-seed0/results.json", 0, {AP: 1 / 3}),
        ("e-body-blur-seed3/results.json", 3, {AP: 2.0}),
    ]
    assert written["runs"][0]["config"]["name"] == "e" and written["problems"] == comparison.problems


@pytest.mark.parametrize("width", [60, 80, 400])
def test_a_terminal_shows_every_column_uncut(width):
    (comparison,) = compare(runs_of_paper(paper_tables()[0]))
    console = Console(width=width, file=io.StringIO())
    console.print(*as_text(results_grid(comparison), width), sep="\n")
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for metric, cell in paper_tables()[0].rows["body/realistic_hm_lo"].items():
        assert f"{cell.mean} ± {cell.stderr}" in text and f"({cell.delta:+.1f})" in text
        assert text.count(metric.rpartition("_")[2].removeprefix("val/segm/")) >= 1


NAMES = {"config": {"name": "a_b & 50 %"}, "dataset": "x|y", "name": "a_b & 50 %"}


def strange(dollar="$"):
    """Names that LaTeX or Markdown would take for something else."""
    classes = {"val/segm/AP_50 %_&_#1": 1.0, rf"val/segm/AP_back\slash^{{~}}{dollar}": 2.0, "val/segm/AP_pi|pe<>": 3.0}
    return small(*(run(c, 0, {AP: 20.0, **classes}, **NAMES) for c in ("original", "body/realistic_hm")))


def test_names_do_not_break_a_table():
    comparison = strange()
    lines = lines_of(as_latex(results_grid(comparison), "", ""), "", r" \\", " & ")
    assert lines[0][4] == r"AP 50 \%\_\&\_\#1"
    assert lines[0][5] == r"AP back\textbackslash{}slash\^{}\{\~{}\}\$"
    assert lines[0][6] == r"AP pi\textbar{}pe\textless{}\textgreater{}"
    assert lines[2][1] == r"realistic\_hm"
    assert r"| AP pi\|pe<> |" in as_markdown(comparison)
    assert all(re.fullmatch(r"[\w.-]+", name) for name in as_files([comparison], []))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    # A dollar in a text needs a font that small installations have to make first.
    comparisons = [strange(dollar=""), *(compare(runs_of_paper(table))[0] for table in paper_tables())]
    files = {name: text for name, text in as_files(comparisons, []).items() if name.endswith(".tex")}
    assert len(files) == 11
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    tables = [rf"\noindent\resizebox{{\linewidth}}{{!}}{{\input{{{name}}}}}" for name in files]
    document = [r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}", *tables, r"\end{document}"]
    (tmp_path / "all.tex").write_text("\n\n".join(document))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size
