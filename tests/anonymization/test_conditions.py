import pytest

from anonymization.conditions import CONDITIONS, parse_condition
from anonymization.engine import CROPS, REALISTIC
from anonymization.methods import METHODS
from errors import UserError


@pytest.mark.parametrize("name", CONDITIONS)
def test_condition_is_read_and_written_by_its_name(name):
    condition = parse_condition(name)
    assert str(condition) == name
    assert condition.region in ("none", "face", "body")
    assert (condition.method in METHODS | REALISTIC) == (condition.region != "none") == (name != "original")
    assert bool(condition.generators) == (condition.method in REALISTIC) and set(condition.generators) <= CROPS.keys()


def test_unknown_condition_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match=r"condition: unknown 'body/blurr', did you mean 'body/blur'\?$"):
        parse_condition("body/blurr")
    with pytest.raises(UserError, match=f"unknown 'x'; choose from .*{'.*'.join(sorted(CONDITIONS))}"):
        parse_condition("x")
