"""The page: what stands in it, that it needs nothing else, and that whoever reads it can use it."""

import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from synthetic_runs import VERSIONS, run, runs_of_paper, write

import report
from reporting.comparison import compare
from reporting.figures import write_figures, write_overview
from reporting.page import Examples, Picture, find_examples, write_page
from reporting.paper import paper_tables
from reporting.significance import METHOD

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "reporting" / "templates"
AP, PERSON = "val/segm/AP", "val/segm/AP_person"
VOID = {"meta", "link", "img", "input"}
NONE = Examples("None here.")
DRAWN = {"train": 6, "val": 3, "size": [64, 128], "seed": 0}  # as conftest.py draws them
EVIL = '"><script>alert(1)</script>&amp;'


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list = field(default_factory=list)  # elements and texts

    @property
    def text(self):
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join("".join(parts).split())

    def all(self, *tags):
        inner = [child for child in self.children if isinstance(child, Element)]
        return [e for child in inner for e in ([child] if child.tag in tags else []) + child.all(*tags)]

    def every(self):
        inner = [child for child in self.children if isinstance(child, Element)]
        return inner + [element for child in inner for element in child.every()]


class Tree(HTMLParser):
    """Builds elements and refuses what is not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open = [Element("document", {})]
        self.feed(html)
        self.close()
        assert len(self.open) == 1

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse(path):
    return Tree(path.read_text()).open[0]


def make(runs, folder, problems=(), examples=None, draws=False):
    """The page of runs, as its file; where it ``draws``, with figures."""
    comparisons = compare(runs)
    folder.mkdir(exist_ok=True)
    return write_page(
        comparisons,
        problems,
        folder,
        figures={c.name: write_figures(c, folder / "figures") if draws else {} for c in comparisons},
        overview=write_overview(comparisons, folder / "figures") if draws else {},
        examples={c.name: (examples or NONE) for c in comparisons},
    )


def table(page, caption_id):
    """A table's headings, and the cells of its lines."""
    (found,) = (t for t in page.all("table") if t.all("span")[0].attributes.get("id") == caption_id)
    head, *lines = found.all("tr")
    return [cell.text for cell in head.all("th")], [line.all("th", "td") for line in lines]


def texts(lines):
    return [[cell.text for cell in line] for line in lines]


def some_runs(**more):
    values = {"original": (29.0, 31.0), "face/blur": (31.0, 30.0), "body/mask_out": (20.0, 21.0)}
    return [
        run(c, seed, {AP: v, PERSON: v / 2}, versions=VERSIONS, **more)
        for c, of in values.items()
        for seed, v in enumerate(of)
    ]


@pytest.fixture
def pictures():
    """Two images under two conditions, none of which was ever seen by anybody."""
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    conditions = ("original", "face/blur", "body/mask_out")
    return Examples("Two.", {name: {c: Picture(dot, f"{name} {c}") for c in conditions} for name in "ab"})


@pytest.mark.parametrize("number", [1, 2])
def test_numbers_are_those_of_the_comparison(tmp_path, number):
    """Of the paper's table, with a condition missing and one with a single run."""
    paper = paper_tables()[number - 1]
    runs = [r for r in runs_of_paper(paper) if r.condition != "body/realistic"]
    runs = [r for r in runs if r.condition != "face/blur" or r.seed == 0]
    (comparison,) = compare(runs)
    page = parse(make(runs, tmp_path))

    names, lines = table(page, "table-1-1")
    assert len(names) == 2 + len(paper.metrics)
    assert [line[0].text for line in lines] == [row.condition for row in comparison.rows]
    for row, (_, count, *cells) in zip(comparison.rows, lines, strict=True):
        assert count.text == str(row.runs)
        for metric, shown in zip(comparison.metrics, cells, strict=True):
            if row.condition == "body/realistic":
                assert shown.text == "missing" and "data-value" not in shown.attributes
                continue
            cell = row.cells[metric]
            value, _, note = shown.text.partition(" (")
            numbers = [float(part) for part in value.split(" ± ")]
            assert numbers == pytest.approx([cell.mean] if row.runs == 1 else [cell.mean, cell.stderr], abs=0.051)
            assert (row.condition == "original") == (note == "")
            if note:
                assert float(note.strip("*)")) == pytest.approx(cell.delta, abs=0.051)
                assert note.endswith("*)") == bool(cell.interval and not cell.interval.low <= 0 <= cell.interval.high)
            assert float(shown.attributes["data-value"]) == cell.mean
            assert bool(shown.all("strong")) == cell.best

    names, lines = table(page, "changes-1-1")
    changed = [row for row in comparison.rows if row.runs and row.condition != "original"]
    shown_metrics = [
        m for m in comparison.metrics if any(m in r.cells and r.cells[m].interval for r in comparison.rows)
    ]
    assert len(names) == 1 + len(shown_metrics)
    for row, (_, *cells) in zip(changed, lines, strict=True):
        for metric, shown in zip(shown_metrics, cells, strict=True):
            cell = row.cells[metric]
            numbers = [float(number) for number in re.findall(r"[+-][\d.]+", shown.text)]
            interval = [cell.interval.low, cell.interval.high] if cell.interval else []
            assert numbers == pytest.approx([cell.delta, *interval], abs=0.051)

    _, lines = table(page, "paper-table-1")
    printed = [line for line in lines if line[-len(paper.metrics) - 1].text == "paper"]
    assert [line[0].text for line in printed] == list(paper.rows)
    for condition, line in zip(paper.rows, printed, strict=True):
        for metric, shown in zip(paper.metrics, line[2:], strict=True):
            cell = paper.rows[condition][metric]
            delta = "" if cell.delta is None else f" ({cell.delta:+z.1f})"
            assert shown.text == f"{cell.mean:.1f} ± {cell.stderr:.1f}{delta}"
            assert float(shown.attributes["data-value"]) == cell.mean


def test_many_classes_are_tables_that_can_be_printed(tmp_path):
    names = [f"val/segm/AP_class{n:02}" for n in range(30)]
    runs = [run(c, 0, {AP: 9.0, **{name: float(n) for n, name in enumerate(names)}}) for c in ("original", "body/blur")]
    page = parse(make(runs, tmp_path))
    shown = [name for part in (1, 2, 3) for name in table(page, f"table-1-{part}")[0][2:]]
    assert shown == ["AP", *(f"AP class{n:02}" for n in range(30))]


def test_runs_are_listed_with_their_files(tmp_path):
    runs = [replace(r, path=tmp_path / "runs of today" / r.path) for r in some_runs(steps=340, device="cpu")]
    runs[0] = replace(runs[0], wall_time_s=3725.4, commit="0123456789abcdef0123456789abcdef01234567-dirty")
    for r in runs:
        write(r, tmp_path)
    for name in ("config.yaml", "csv/version_0/metrics.csv", "csv/version_1/metrics.csv", "images/train.png"):
        path = runs[0].path.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    page_file = make(list(reversed(runs)), tmp_path / "report")
    names, lines = table(parse(page_file), "runs-table-1")
    expected = [[r.condition, str(r.seed), f"{r.metrics[AP]:.1f}", f"{r.metrics[PERSON]:.1f}", "340"] for r in runs]
    assert [line[:5] for line in texts(lines)] == expected
    assert names[:2] == ["condition", "seed"] and names[2:4] == ["AP", "AP person"]
    first, second = lines[:2]
    assert texts([first])[0][5:8] == ["1:02:05", "cpu", "0123456789-dirty"]
    assert texts([second])[0][5:] == ["", "cpu", "", "results"]
    links = [(a.text, page_file.parent / unquote(a.attributes["href"])) for a in first[-1].all("a")]
    assert [name for name, _ in links] == ["results", "config", "log", "log", "training images"]
    assert all(path.is_file() and path.resolve().is_relative_to(runs[0].path.parent) for _, path in links)


def test_the_command_makes_a_page_that_is_whole(tmp_path, monkeypatch, capsys):
    for experiment, dataset in (("a", "d"), ("b", "other")):
        for r in some_runs(name=experiment, dataset=dataset):
            write(r, tmp_path / "runs")
    (tmp_path / "runs/results.json").write_text("{")
    arguments = ["report.py", str(tmp_path / "runs"), "--output", str(tmp_path / "report"), "--examples"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        report.main()
    out, err = capsys.readouterr()
    assert end.value.code == 0 and f"{tmp_path}/report/index.html" in out
    assert "warning: d-a: examples: There are none, as the config in" in err

    page = parse(tmp_path / "report/index.html")
    every = page.every()
    ids = [element.attributes["id"] for element in every if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in every:
        for key in ("aria-labelledby", "for"):
            assert set(element.attributes.get(key, "").split()) <= set(ids)
    anchors = [a.attributes["href"] for a in page.all("a")]
    inside = {href[1:] for href in anchors if href.startswith("#")}
    assert inside <= set(ids)
    assert {"comparison-1", "comparison-2", "table-1", "figures-2", "examples-1", "runs-2", "method", "cite"} <= inside
    outside = [href for href in anchors if not href.startswith("#")]
    assert any(href.endswith("d-a.csv") for href in outside)
    assert all((tmp_path / "report" / unquote(href)).is_file() for href in outside)

    assert page.all("html")[0].attributes["lang"] == "en"
    levels = [int(heading.tag[1]) for heading in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(level <= before + 1 for before, level in pairwise(levels))
    images = page.all("img")
    assert len(images) == 4 and all("Change of" in image.attributes["alt"] for image in images)
    assert (
        b64decode(images[0].attributes["src"].partition(",")[2])
        == (tmp_path / "report/figures/d-a-delta.svg").read_bytes()
    )
    for heading in page.all("th"):
        assert heading.attributes["scope"] in ("row", "col", "rowgroup")

    # Nothing is loaded, and the browser is told so.
    for element in every:
        for key in ("src", "srcset", "action", "data", "poster", "background"):
            assert element.attributes.get(key, "data:").startswith("data:")
    (icon,) = page.all("link")
    assert icon.attributes["href"].startswith("data:")
    assert not re.search(r"url\(|@import|https?:", " ".join(e.text for e in page.all("style", "script")))
    policies = [meta.attributes.get("content", "") for meta in page.all("meta")]
    assert any(policy.startswith("default-src 'none'; img-src data:;") for policy in policies)


def test_problems_come_before_the_numbers(tmp_path):
    runs = [r for r in some_runs() if r.condition != "original"]
    html = make(runs, tmp_path, ["a.json: broken"]).read_text()
    page = parse(tmp_path / "index.html")
    (section,) = (s for s in page.all("section") if s.attributes["aria-labelledby"] == "problems")
    said = [item.text for item in section.all("li")]
    assert said == ["a.json: broken", "d-e: original: has no run, so there are no differences to it"]
    assert section.all("h2")[0].text == "Problems found: 2"
    assert html.index('id="problems"') < html.index("<table")
    assert "cannot say what anonymization costs" in page.text
    make(some_runs(), tmp_path)
    assert 'id="problems"' not in (tmp_path / "index.html").read_text()


def test_one_run_of_each_condition_shows_no_error_and_claims_nothing(tmp_path):
    page = parse(make([r for r in some_runs() if r.seed == 0], tmp_path))
    assert texts(table(page, "table-1-1")[1])[1] == ["face/blur", "1", "31.0 (+2.0)", "15.5 (+1.0)"]
    assert "too few runs to tell from chance: body/mask_out -4.5 and face/blur +1.0." in page.text
    assert "changes-1-1" not in (tmp_path / "index.html").read_text()
    assert METHOD in page.text


def test_what_runs_say_is_text_and_no_markup(tmp_path):
    runs = some_runs(
        name=EVIL,
        dataset=EVIL,
        device=EVIL,
        commit=EVIL,
        config={"model": {"name": EVIL, "weights": EVIL}, "data": {"name": EVIL}},
    )
    metrics = {AP: 1.0, f"val/segm/AP_{EVIL.replace('/', '')}": 2.0}
    runs = [replace(r, metrics=metrics, versions={EVIL: EVIL}, path=tmp_path / r.condition / EVIL / "x") for r in runs]
    examples = Examples(EVIL, {EVIL: {c: Picture("data:,", EVIL) for c in ("original", "face/blur")}})
    page = parse(make(runs, tmp_path, [EVIL], examples, draws=True))
    assert len(page.all("script")) == 1
    assert page.all("li")[0].text == EVIL
    assert sum(image.attributes["alt"] == EVIL for image in page.all("img")) == 2
    assert f"model {EVIL}; trained from {EVIL}" in page.text
    assert f"Versions: {EVIL} {EVIL}." in page.text
    assert table(page, "table-1-1")[0][-1] == f"AP {EVIL.replace('/', '')}"
    *_, device, _, files = table(page, "runs-table-1")[1][0]
    assert device.text == EVIL and files.text.endswith(f"{EVIL}/x")


def test_the_same_input_makes_the_same_bytes(tmp_path, pictures):
    make(some_runs(), tmp_path / "a", ["p"], pictures, draws=True)
    make(some_runs(), tmp_path / "b", ["p"], pictures, draws=True)
    make(list(reversed(some_runs())), tmp_path / "c", ["p"], pictures, draws=True)
    pages = {(tmp_path / name / "index.html").read_bytes() for name in "abc"}
    assert len(pages) == 1


def test_citation_is_the_one_of_the_project(tmp_path):
    page = parse(make(some_runs(), tmp_path))
    (bibtex,) = page.all("pre")
    facts = (ROOT / "CITATION.cff").read_text()
    for key in ("title", "booktitle", "year", "note"):
        (value,) = re.findall(rf"\b{key} = {{(.*?)}}", bibtex.text)
        assert value in facts
    assert "author = {Hukkelås, Håkon and Lindseth, Frank}" in bibtex.text
    assert bibtex.text.startswith("@inproceedings{hukkelas2023,")


@pytest.fixture
def comparison(streetscenes, tmp_path):
    def of(conditions=("original", "body/mask_out"), **data):
        data = {
            "name": "d",
            "layout": "cityscapes",
            "root": str(streetscenes["cityscapes"]),
            "num_workers": 0,
            "index_dir": str(tmp_path / "index"),
            **data,
        }
        config = {"data": data, "model": {"name": "maskrcnn_small"}}
        return compare([run(c, 0, {AP: 9.0}, config=config) for c in conditions])[0]

    return of


def test_drawn_scenes_are_shown(comparison):
    found = find_examples(comparison(streetscenes=DRAWN), None)
    assert 1 <= len(found.images) <= 3 and not found.real
    for name, pictures in found.images.items():
        assert list(pictures) == ["original", "body/mask_out"]
        assert {p.alt for p in pictures.values()} == {
            f"Training image {name}, as recorded",
            f"Training image {name}, bodies masked out",
        }
        files = [b64decode(p.source.removeprefix("data:image/jpeg;base64,")) for p in pictures.values()]
        assert files[0] != files[1]
    assert find_examples(comparison(streetscenes=DRAWN), False).images == {}


def test_other_originals_are_shown_on_request_alone(comparison, tmp_path):
    for wanted in (None, False):
        assert find_examples(comparison(), wanted).images == {}
    assert "report.py --examples" in find_examples(comparison(), None).note
    found = find_examples(comparison(), True)
    assert found.images and found.real
    page = parse(make(some_runs(), tmp_path, examples=found))
    assert "This page holds original images of d-e" in page.all("header")[0].text
    assert "original images of" not in parse(make(some_runs(), tmp_path)).all("header")[0].text


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ({"root": "nowhere"}, "There are none, as the dataset is not here: nowhere does not exist."),
        ({"of_tomorrow": 1}, "is not of this version."),
        ({"layout": "unknown"}, "There are none: data.layout: unknown layout 'unknown'"),
    ],
)
def test_why_there_are_none(comparison, data, note):
    found = find_examples(comparison(**data), True)
    assert note in found.note and found.images == {}
    assert find_examples(comparison(["original"]), True).images == {}


def test_text_stands_out_from_its_ground():
    """4.5 : 1 at least, as WCAG 2.2 has it (1.4.3), in the light and in the dark."""

    def luminance(colour):
        of = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return float(np.where(of <= 0.04045, of / 12.92, ((of + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))

    def contrast(one, other):
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    css = (TEMPLATES / "page.css").read_text()
    schemes = [dict(re.findall(r"--([\w-]+): (#\w+);", block)) for block in re.findall(r":root {(.*?)}", css, re.S)]
    schemes = [
        {
            name: colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
            for name, colour in scheme.items()
        }
        for scheme in schemes
        if scheme
    ]
    assert len(schemes) == 2
    for scheme in schemes:
        for ground in ("ground", "raised", "alarm-ground"):
            assert all(contrast(scheme[text], scheme[ground]) >= 4.5 for text in ("text", "soft", "link", "alarm"))
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.skipif(not shutil.which("node"), reason="no node")
def test_script_is_javascript():
    result = subprocess.run(["node", "--check", TEMPLATES / "page.js"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
USE = """
const log = {errors: []};
addEventListener("error", (event) => log.errors.push(event.message));
addEventListener("load", () => {
  const table = document.querySelector("table");
  const first = () => [...table.tBodies[0].rows].map((row) => row.cells[0].innerText.trim());
  const click = (n) => table.querySelectorAll("th button")[n].click();
  log.orders = [first()];
  for (const n of [2, 2, 0]) {
    click(n);
    log.orders.push(first(), [...table.tHead.rows[0].cells].map((cell) => cell.getAttribute("aria-sort")));
  }
  const pair = document.querySelector(".pair");
  const shown = () => [...pair.querySelectorAll("figure")].filter((f) => getComputedStyle(f).display !== "none");
  log.shown = [shown().map((figure) => figure.dataset.condition)];
  document.querySelectorAll("input[type=radio]")[1].click();
  log.shown.push(shown().map((figure) => figure.dataset.condition));
  const slider = pair.querySelector("input");
  slider.value = 20;
  slider.dispatchEvent(new Event("input"));
  log.at = [getComputedStyle(shown()[1]).clipPath, slider.getAttribute("aria-valuetext")];
  log.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.title = JSON.stringify(log);
});
"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium")
def test_page_in_a_browser(tmp_path, pictures):
    """Tables are sorted, pictures compared, and nothing is wider than the window."""
    path = make(some_runs(), tmp_path, examples=pictures, draws=True)
    path.write_text(path.read_text().replace("<script>", f"<script>{USE}</script><script>", 1))
    offline = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,800", *offline]
    command += [f"--user-data-dir={tmp_path}/profile", "--dump-dom", path.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    log = json.loads(Tree(result.stdout.removeprefix("<!DOCTYPE html>")).open[0].all("title")[0].text)
    by_paper, by_ap = ["original", "face/blur", "body/mask_out"], ["face/blur", "original", "body/mask_out"]
    assert log == {
        "errors": [],
        "orders": [
            by_paper,
            by_ap,
            [None, None, "descending", None],
            by_ap[::-1],
            [None, None, "ascending", None],
            by_paper,
            ["ascending", None, None, None],
        ],
        "shown": [["original", "face/blur"], ["original", "body/mask_out"]],
        "at": ["inset(0px 0px 0px 20%)", "20 % original"],
        "wide": 0,
    }
