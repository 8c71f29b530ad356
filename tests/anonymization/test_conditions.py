import pytest

from anonymization.conditions import CONDITIONS, parse_condition
from anonymization.methods import METHODS


@pytest.mark.parametrize("name", CONDITIONS)
def test_condition_is_read_and_written_by_its_name(name):
    condition = parse_condition(name)
    assert str(condition) == name
    assert condition.region in ("none", "face", "body")
    assert (condition.method in METHODS) == (condition.region != "none") == (name != "original")


@pytest.mark.parametrize(("name", "meant"), [("body/blurr", "body/blur"), ("face", "face/blur")])
def test_unknown_condition_is_refused_with_the_nearest_one(name, meant):
    with pytest.raises(ValueError) as error:
        parse_condition(name)
    assert all(text in str(error.value) for text in (repr(name), repr(meant), *CONDITIONS))
    assert "\n" not in str(error.value)
