"""The command."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_runs import run, runs_of_paper, write

import report
import reporting.dashboards
import reporting.examples
import reporting.results
from reporting.paper import paper_tables

ROOT = Path(__file__).parents[2]
AP = "val/segm/AP"


def command(*arguments):
    return subprocess.run([sys.executable, "report.py", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process: its exit code, and what it printed on stdout and stderr."""

    def run_main(*arguments):
        monkeypatch.setattr(sys, "argv", ["report.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            report.main()
        return end.value.code, *capsys.readouterr()

    return run_main


def test_the_papers_first_table_from_files(tmp_path):
    """Two runs of each condition but one on disk, and a file that is broken."""
    table = paper_tables()[0]
    runs = [r for r in runs_of_paper(table) if r.condition != "body/realistic"]
    for r in runs:
        write(r, tmp_path / "runs")
    (tmp_path / "runs/results.json").write_text("{")
    result = command(str(tmp_path / "runs"), "--output", str(tmp_path / "report"))
    assert result.returncode == 0, result.stderr
    broken = f"{tmp_path}/runs/results.json: not a results.json of train.py: "
    assert [line.startswith(f"warning: {broken}") for line in result.stderr.splitlines()] == [True]
    names = {"comparison.json", "cityscapes.md", "cityscapes.csv", "cityscapes.tex", "cityscapes_paper.tex"}
    assert names <= {path.name for path in (tmp_path / "report").iterdir()}
    with (tmp_path / "report/cityscapes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(table.rows) * len(table.metrics)
    for line in lines:
        expected = table.rows[line["condition"]][line["metric"]]
        if line["condition"] == "body/realistic":
            assert (line["runs"], line["mean"]) == ("0", "")
            continue
        assert line["runs"] == "2" and line["overlaps_paper"] == "True"
        numbers = [float(line[key]) for key in ("mean", "stderr", "difference_to_paper")]
        assert numbers == pytest.approx([expected.mean, expected.stderr, 0.0], abs=1e-9)
        assert (float(line["delta"]) if line["delta"] else None) == (
            expected.delta if expected.delta is None else pytest.approx(expected.delta, abs=1e-9)
        )
    content = json.loads((tmp_path / "report/comparison.json").read_text())
    assert [problem.startswith(broken) for problem in content["problems"]] == [True]
    assert len(content["comparisons"][0]["runs"]) == len(runs)
    assert "Beside the paper" in (tmp_path / "report/cityscapes.md").read_text()


def test_what_is_wrong_is_said_and_the_rest_is_made(tmp_path, call):
    runs = [
        run("original", 0, {AP: 30.0}, "a", versions={"torch": "1"}),
        run("original", 0, {AP: 31.0}, "a", versions={"torch": "1"}, path=Path("again/results.json")),
        run("body/blur", 0, {AP: 20.0}, "a", versions={"torch": "2"}, config={"model": {"max_size": 9}}),
        run("body/blur", 0, {AP: 20.0}, "b", "elsewhere"),
    ]
    for r in runs:
        write(r, tmp_path)
    code, out, err = call(tmp_path, "--output", tmp_path / "report")
    assert code == 0 and "d-a: mask AP in percent" in out and "elsewhere-b: mask AP in percent" in out
    problems = [line.removeprefix("warning: ") for line in err.splitlines()]
    assert [problem.partition(": ")[0] for problem in problems] == ["d-a"] * 3 + ["elsewhere-b"]
    for name in ("d-a", "elsewhere-b"):
        said = [problem.removeprefix(f"{name}: ") for problem in problems if problem.startswith(name)]
        text = (tmp_path / f"report/{name}.md").read_text()
        assert text.endswith("## Problems\n\n" + "".join(f"- {problem}\n" for problem in said))
    assert (tmp_path / "report/figures/d-a-delta.svg").is_file()
    assert f"left out is {tmp_path}/again/results.json" in problems[0]


def test_wandb_makes_the_same_files(tmp_path, call, monkeypatch):
    runs = [run(c, s, {AP: 20.0 + s}) for c in ("original", "body/blur") for s in (0, 1)]
    for r in runs:
        write(r, tmp_path)
    assert call(tmp_path, "--output", tmp_path / "files")[0] == 0
    asked = []

    def collect_wandb(path):
        asked.append(path)
        return [replace(r, path=Path(path, "runs", str(i))) for i, r in enumerate(reversed(runs))], []

    monkeypatch.setattr(reporting.results, "collect_wandb", collect_wandb)
    assert call("--wandb", "team/project/sweep", "--output", tmp_path / "wandb")[0] == 0
    assert asked == ["team/project/sweep"]
    for name in ("d-e.md", "d-e.csv", "d-e.tex"):
        assert (tmp_path / "wandb" / name).read_text() == (tmp_path / "files" / name).read_text()


def test_the_page_has_what_its_authors_read(tmp_path, call):
    for condition, ap in (("original", 20.0), ("body/blur", 15.25)):
        write(run(condition, 0, {AP: ap}), tmp_path)
    (tmp_path / "reading.txt").write_text("Blur costs\n{d-e body/blur AP change} & <no> more.")
    assert call(tmp_path, "--reading", tmp_path / "reading.txt", "--output", tmp_path / "report")[0] == 0
    assert "<p>Blur costs -4.8 &amp; &lt;no&gt; more.</p>" in (tmp_path / "report/index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--output", "{tmp}/out"], "error: nowhere does not exist; give folders that train.py wrote"),
        (["{tmp}", "--output", "{tmp}/out"], "holds no results.json: no run below it has finished"),
        (["table", "{tmp}", "--output", "{tmp}/out"], "error: table does not exist"),
        (["docs/study/quickstart", "--output", "setup.cfg/out"], "error: --output: setup.cfg/out cannot be written"),
        (
            ["docs/study/quickstart", "--audits", "nowhere", "--output", "{tmp}"],
            "error: nowhere does not exist; python audit.py",
        ),
        (
            ["docs/study/quickstart", "--reading", "nowhere", "--output", "{tmp}"],
            "error: --reading: nowhere cannot be read",
        ),
        (["docs/study"], "the following arguments are required: --output"),
        (["--output", "{tmp}"], "give either folders of results or --wandb"),
        (["docs/study", "--wandb", "a/b", "--output", "{tmp}"], "give either folders of results or --wandb"),
        (["docs/study", "--output", "{tmp}", "--seed", "1"], "unrecognized arguments: --seed 1"),
        ([], "the following arguments are required: --output"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, call, arguments, said):
    code, _, err = call(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert code == 2 and said in err.splitlines()[-1] and "Traceback" not in err


def test_a_folder_may_be_called_as_a_command_is(tmp_path, call, monkeypatch):
    write(run("original", 0, {AP: 30.0}), tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    assert call("./examples", "--output", "report")[0] == 0
    assert (tmp_path / "report/d-e.md").is_file()
    code, _, err = call("examples", "--output", "report")
    assert code == 2 and "report.py examples: error: the following arguments are required: --config" in err


def test_examples_are_drawn_as_asked(call, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(reporting.examples, "write_sheet", lambda *args, **named: asked.append((args, named)))
    sheet = tmp_path / "sheet.png"
    some = ["examples", "--config", "configs/quickstart.yaml", "--output", sheet]
    assert call(*some, "--conditions", "original", "body/blur", "original")[0] == 0
    assert (
        call(*some, "data.root=x", "--conditions", "original", "--seed=3", "--images=9", "--people", "--outline")[0]
        == 0
    )
    (first, named), (second, named_then) = asked
    assert first[1:] == (["original", "body/blur"], 3, 0, sheet)
    assert named == {"people": False, "outline": False}
    assert second[1:] == (["original"], 9, 3, sheet) and second[0].data.root == "x"
    assert named_then == {"people": True, "outline": True}
    code, _, err = call(*some, "--conditions", "body/blurr")
    assert code == 2 and "did you mean 'body/blur'?" in err


def test_help_does_not_wait_for_torch():
    code = "import sys, runpy; sys.argv = ['report.py', '--help']; runpy.run_path('report.py', run_name='__main__')"
    wrapped = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    result = subprocess.run([sys.executable, "-c", wrapped], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    assert "report.py examples" in result.stdout and "report.py wandb" in result.stdout
    assert result.stdout.splitlines()[-1] == "False"
