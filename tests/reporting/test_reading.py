"""Numbers in the authors' text: those of the comparison, or an error that names the place."""

import json
from pathlib import Path

import pytest
from synthetic_runs import run

from errors import UserError
from reporting.comparison import compare
from reporting.reading import read_reading

TABLES = Path(__file__).parents[3] / "shared" / "paper" / "tables.json"
AP, PERSON = "val/segm/AP", "val/segm/AP_person"


@pytest.fixture
def comparisons():
    values = {"original": (30.0, 40.26), "body/blur": (28.0, 20.2)}
    return compare([run(c, s, {AP: ap + s, PERSON: person}, "streets", "streets")
                    for c, (ap, person) in values.items() for s in (0, 1)])  # fmt: skip


def test_numbers_are_the_comparisons(tmp_path, comparisons):
    (tmp_path / "text").write_text(
        "Blur costs {streets body/blur AP_person cost}\nof {streets original AP_person}.\n\n\nIn all "
        "{streets body/blur AP change}, from {streets original AP}.\n"
    )
    assert read_reading(tmp_path / "text", comparisons) == [
        "Blur costs 20.1 of 40.3.",
        "In all -2.0, from 30.5.",
    ]


def test_the_papers_numbers_are_those_it_printed(tmp_path, comparisons):
    if not TABLES.is_file():
        pytest.skip("the paper's numbers are not beside the repository")
    printed = json.loads(TABLES.read_text())["tables"]["table_1"]["rows"]
    values = next(row for row in printed if (row["region"], row["method"]) == ("body", "blur"))["values"]["AP_person"]
    (tmp_path / "text").write_text("{table_1 body/blur AP_person} ({table_1 body/blur AP_person change})")
    assert read_reading(tmp_path / "text", comparisons) == [f"{values['mean']:.1f} ({values['delta']:+.1f})"]


def test_metrics_are_named_as_in_the_tables_heading(tmp_path):
    keypoints = {"val/bbox/AP": 50.0, "val/keypoints/AP": 20.0}
    comparisons = compare([run("original", 0, keypoints, "streets", "streets")])
    (tmp_path / "text").write_text("{streets original box_AP} {streets original keypoint_AP} {table_2 original box_AP}")
    assert read_reading(tmp_path / "text", comparisons) == ["50.0 20.0 55.7"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{street original AP}", "unknown comparison 'street', did you mean 'streets'?"),
        ("{streets body/blurr AP}", "unknown condition 'body/blurr', did you mean 'body/blur'?"),
        ("{streets original AP_persons}", "unknown metric 'AP_persons', did you mean 'AP_person'?"),
        ("{streets original AP change}", "has no original to compare with"),
        ("{streets original}", "must be {comparison condition metric}"),
    ],
)
def test_a_number_that_is_not_there_is_named(tmp_path, comparisons, place, message):
    (tmp_path / "text").write_text(f"So {place} it is.")
    with pytest.raises(UserError) as error:
        read_reading(tmp_path / "text", comparisons)
    assert str(error.value).startswith(f"--reading: {tmp_path / 'text'}: {place}: ") and message in str(error.value)


def test_a_missing_text_is_named(tmp_path, comparisons):
    with pytest.raises(UserError, match=r"--reading: .*none.* cannot be read"):
        read_reading(tmp_path / "none", comparisons)
