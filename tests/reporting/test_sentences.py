"""What a comparison is said to have found is what its intervals allow."""

import json
from dataclasses import replace

import pytest
from synthetic_runs import run, runs_of_paper

from reporting.comparison import Cell, Comparison, Row, compare
from reporting.findings import read_audits
from reporting.paper import paper_tables
from reporting.sentences import answer, basis, beside_paper, describe, describe_overview, same_people
from reporting.significance import Interval

AP, PERSON = "val/segm/AP", "val/segm/AP_person"
SMALL, LARGE = "val/bbox/AP_s", "val/bbox/AP_l"


def compared(cells: dict[str, Cell], metric=AP, originals=20.0) -> Comparison:
    """A comparison of one metric: originals have 20.0."""
    every = {"original": Cell(originals, 0.1, None), **cells}
    rows = [Row(c, *(c.split("/") if "/" in c else ("none", c)), 3, {metric: cell}) for c, cell in every.items()]
    runs = [run(condition, 0, {metric: cell.mean}) for condition, cell in every.items()]
    return Comparison("d", "d", "d", [metric], rows, runs, [], None)


def cell(delta, low=None, high=None, over="seeds"):
    return Cell(20.0 + delta, None, delta, None if low is None else Interval(low, high, over))


def test_a_cost_is_one_where_the_interval_excludes_0():
    cells = {
        "face/blur": cell(0.4, -0.1, 0.9),
        "face/mask_out": cell(-0.2, -0.4, 0.0),
        "face/realistic": cell(0.5, 0.1, 0.9),
        "body/blur": cell(-4.52, -6.9, -2.2),
        "body/mask_out": cell(-13.0, -15.4, -10.6),
        "body/realistic": cell(-1.0),
    }
    assert answer(compared(cells)) == [
        "Training on originals gives 20.0 mask AP; body/mask_out costs 13.0 and body/blur 4.5; "
        "face/realistic gains 0.5; "
        "face/mask_out and face/blur cost nothing that these runs can show (0.4 and 0.1 at most); "
        "too few runs to tell from chance: body/realistic -1.0."
    ]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"face/blur": cell(-0.1, -0.3, 0.1)}, "face/blur costs nothing that these runs can show (0.3 at most)."),
        ({"face/blur": cell(-3.0, -4.0, -2.0)}, "face/blur costs 3.0."),
        (
            {c: cell(-3.0, -4.0, -2.0) for c in ("face/blur", "body/blur", "body/mask_out")},
            "face/blur costs 3.0, body/blur 3.0 and body/mask_out 3.0.",
        ),
        ({"face/blur": cell(0.0)}, "too few runs to tell from chance: face/blur +0.0."),
    ],
)
def test_one_or_many(cells, said):
    assert answer(compared(cells)) == [f"Training on originals gives 20.0 mask AP; {said}"]


def test_people_come_first():
    conditions = {"original": 0, "body/blur": 1}
    runs = [run(c, seed, {AP: 20.0 - n - seed, PERSON: 9.0 - n}) for c, n in conditions.items() for seed in (0, 1)]
    people, overall = answer(compare(runs)[0])
    assert people.startswith("Training on originals gives 9.0 mask AP of person; too few runs to tell")
    assert overall.startswith("Training on originals gives 19.5 mask AP; body/blur costs nothing that these runs")


def test_without_a_pair_nothing_is_claimed():
    (comparison,) = compare([run("body/blur", 0, {AP: 20.0})])
    assert answer(comparison) == ["No run was trained on originals, so these runs cannot say what anonymization costs."]
    (comparison,) = compare([run("original", 0, {AP: 20.0})])
    assert answer(comparison) == ["There is nothing to compare with the runs on originals."]
    assert basis([comparison]) is None


def test_basis():
    seeds = compared({"face/blur": cell(-1, -2, 0)})
    both = compared({"face/blur": cell(-1, -2, 0, "seeds and images")})
    assert basis([seeds]) == "So say 95 % confidence intervals over seeds, which say nothing about other images."
    assert basis([both]) == "So say 95 % confidence intervals over seeds and images."
    assert basis([both, seeds]) == "So say 95 % confidence intervals over seeds, or over seeds and images."


def test_agreement_with_the_paper():
    table = paper_tables()[4]
    runs = runs_of_paper(table)
    assert beside_paper(compare(runs)[0]).startswith("Of 27 values that stand in table 5 of the paper too, 27 overlap ")
    far = [
        r if r.condition != "body/blur" else replace(r, metrics={m: v + 50 for m, v in r.metrics.items()}) for r in runs
    ]
    assert beside_paper(compare(far)[0]).startswith("Of 27 values that stand in table 5 of the paper too, 18 overlap ")
    assert beside_paper(compare([r for r in runs if r.seed == 0])[0]) is None


def test_figures_are_described_by_their_numbers(tmp_path):
    values = {
        "original": (30.0, 20.0, 10.0, 40.0),
        "face/blur": (29.0, 19.5, 9.0, 40.0),
        "body/blur": (26.0, 12.0, 5.0, 42.5),
    }
    copy = {"folder": "gone", "sha256": "0"}
    runs = [
        run(
            c,
            0,
            dict(zip((AP, PERSON, SMALL, LARGE), of, strict=True)),
            path=tmp_path / str(n) / "results.json",
            steps=9,
        )
        for n, (c, of) in enumerate(values.items())
    ]
    for r in runs[1:]:
        log = r.path.parent / "csv/version_0/metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text(f"epoch,step,{AP}\n0,4,1.0\n1,8,2.0\n")
    runs[2] = replace(runs[2], copy=copy)
    (comparison,) = compare(runs)
    audit = {
        "condition": "body/blur",
        "source": "",
        "manifest_sha256": "0",
        "before": {"inside": 8},
        "after": {"inside": 2},
    }
    audit["per_image"] = {"a": {"before": {"inside": 8}, "after": {"inside": 2}}}
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    audits = read_audits([tmp_path / "audit.json"])
    assert {
        figure: describe(figure, comparison, audits) for figure in ("delta", "metrics", "size", "training", "privacy")
    } == {
        "delta": "Change of mask AP against training on originals: face/blur -1.0, body/blur -4.0.",
        "metrics": "Change of every AP against training on originals; the lowest of each: "
        "mask AP -4.0 under body/blur, mask AP of person -8.0 under body/blur.",
        "size": "Change of box AP against training on originals, of objects that are "
        "small < 32² pixels: face/blur -1.0, body/blur -5.0; large > 96² pixels: face/blur +0.0, body/blur +2.5.",
        "training": "Over training, mask AP comes to: face/blur 29.0, body/blur 26.0.",
        "privacy": "Faces that are still found, and mask AP of person: body/blur 25 % and 12.0.",
    }


def test_where_nothing_is_learnt_nothing_is_called_free():
    runs = [run(c, s, {AP: 0.1 * s}) for c in ("original", "body/blur") for s in (0, 1, 2)]
    (said,) = answer(compare(runs)[0])
    assert said.startswith(
        "Training on originals gives 0.1 mask AP: where next to nothing is learnt, nothing can be lost"
    )


def test_where_people_are_not_learnt_that_is_said_of_them_alone():
    lost = {"original": 0.0, "body/blur": 4.0}
    runs = [run(c, s, {AP: 30.0 + s / 9 - n, PERSON: 0.3}) for c, n in lost.items() for s in (0, 1, 2)]
    people, overall = answer(compare(runs)[0])
    assert people.startswith("Training on originals gives 0.3 mask AP of person: where next to nothing is learnt")
    assert overall == "Training on originals gives 30.1 mask AP; body/blur costs 4.0."


def test_runs_with_the_same_generated_people_say_so():
    def compared_with(seeds):
        config = [{"anonymization": {"seed": seed}} for seed in seeds]
        runs = [run("original", s, {AP: 30.0 + s}, config=config[s]) for s in (0, 1)]
        runs += [run(c, s, {AP: 20.0 + s}, config=config[s]) for c in ("body/blur", "body/realistic") for s in (0, 1)]
        return compare(runs)[0]

    assert same_people(compared_with((0, 0))) == (
        "The runs of body/realistic differ in training alone: intervals say nothing about other generated people."
    )
    assert same_people(compared_with((0, 1))) is None
    assert same_people(compared_with((None, None))) is None  # each run's own


def test_overview_is_described_by_its_numbers():
    data = {"steps": 10, "images_per_step": 4}
    runs = [
        run(c, 0, {AP: v, PERSON: v}, anonymized_regions=n, **data)
        for c, v, n in (("original", 9.0, 0), ("body/blur", 7.0, 60))
    ]
    assert describe_overview(compare(runs)) == (
        "Change of people's AP by the number of faces or bodies anonymized: d-e with 1.5 bodies in an image, "
        "mask AP of person -2.0 under body/blur."
    )
