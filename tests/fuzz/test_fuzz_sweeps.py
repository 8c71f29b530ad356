"""Sweep files, damaged, against a plain expansion of their grids."""

from pathlib import Path

import yaml
from bounds import inputs, read_or_refuse
from hypothesis import given
from hypothesis import strategies as st
from mutations import VALUES, mostly, mutated, mutated_bytes, to_yaml

from configs.grid import read_cells

SWEEPS = Path(__file__).parents[2] / "sweeps"
GRID = st.dictionaries(
    st.sampled_from(["condition", "seed", "data.root", "lr", 1, "1", None]),
    st.one_of(
        st.fixed_dictionaries({"values": st.lists(st.integers(0, 5) | st.text(max_size=3), max_size=4)}),
        st.fixed_dictionaries({"value": st.integers() | st.floats() | st.none() | st.booleans()}),
    ),
    max_size=3,
)


def expanded(parameters):
    """List the combinations of a grid one by one."""
    combinations = [{}]
    for name in sorted(parameters, key=str):
        values = parameters[name].get("values", [parameters[name].get("value")])
        combinations = [{**combination, str(name): value} for combination in combinations for value in values]
    return combinations


def test_sweeps(tmp_path):
    path = tmp_path / "sweep.yaml"
    good = yaml.safe_load((SWEEPS / "quickstart.yaml").read_text())
    wild = st.one_of(mutated_bytes(to_yaml(good)), VALUES.map(to_yaml), st.binary(max_size=64))
    grids = GRID.map(lambda grid: to_yaml(good | {"parameters": grid}))

    compared = []

    @inputs(300)
    @given(mostly(mutated(good).map(to_yaml) | grids, wild, once_in=6))
    def fuzz(data):
        path.write_bytes(data)
        cells = read_or_refuse(lambda: read_cells(path), path)
        if cells is not None:
            content = yaml.safe_load(data)
            expected = expanded(content["parameters"])
            assert repr([cell.parameters for cell in cells]) == repr(expected)
            compared.append(True)
            if "${args_no_hyphens}" in content["command"]:
                for cell, parameters in zip(cells, expected, strict=True):
                    assert all(f"{name}={value}" in cell.command for name, value in parameters.items())

    fuzz()
    assert compared
