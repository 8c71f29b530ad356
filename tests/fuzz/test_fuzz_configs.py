"""Experiment files and overrides, damaged, against PyYAML."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import pytorch_lightning  # noqa: F401 imported late, it would count as the memory of an input
import yaml
from bounds import inputs, read_or_refuse
from hypothesis import given
from hypothesis import strategies as st
from mutations import VALUES, mostly, mutated, mutated_bytes, to_yaml
from omegaconf import OmegaConf

from configs import Config, GeneratorExperiment, load_config

CONFIGS = Path(__file__).parents[2] / "configs"


def scalars(content, prefix=()):
    """List the plain values of a document by their keys."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from scalars(value, (*prefix, key))
        elif not isinstance(value, list):
            yield (*prefix, key), value


def check_values(config, content):
    """Check that a config has the values of a document, but for what its schema or an override converts."""
    found = asdict(config)
    for keys, value in scalars(content):
        node = found
        for key in keys:
            node = node[key]
        if type(value) is type(node) and not (isinstance(value, str) and "$" in value):
            assert node == value or (value != value and node != node), keys


@pytest.mark.parametrize(
    ("file", "schema"), [("quickstart.yaml", Config), ("generators/streetscenes_body.yaml", GeneratorExperiment)]
)
def test_files(tmp_path, file, schema):
    text = (CONFIGS / file).read_text()
    path = tmp_path / "own.yaml"
    good = yaml.safe_load(text)
    good.pop("extends", None)
    OmegaConf.save(OmegaConf.load(CONFIGS / "base.yaml"), tmp_path / "base.yaml")
    good["name"], good["trainer"]["precision"] = "${data.name}", 32
    plain = to_yaml(good)
    goods = [good, good | {"extends": "base.yaml"}] if schema is Config else [good]
    contents = st.sampled_from(goods).flatmap(mutated).map(to_yaml)
    wild = st.one_of(mutated_bytes(plain), VALUES.map(to_yaml), st.binary(max_size=64))

    compared = []

    @inputs(40)
    @given(mostly(contents, wild, once_in=4))
    def fuzz(data):
        path.write_bytes(data)
        config = read_or_refuse(lambda: load_config(path, schema=schema), path, "trainer.", "condition", tmp_path)
        if config is not None:
            check_values(config, {k: v for k, v in yaml.safe_load(data).items() if k != "extends"})
            compared.append(True)

    fuzz()
    assert compared


KEYS = ["seed", "condition", "data", "data.root", "data.batch_size", "optimizer.lr", "trainer.max_steps"]
OVERRIDES = st.one_of(
    st.builds("seed={}".format, st.integers(0, 99)),
    st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=8)),
    st.builds("{}={}".format, st.sampled_from(KEYS), VALUES.map(lambda value: json.dumps(value))),
    st.builds("{}{}={}".format, st.sampled_from(["", "--"]), st.text(max_size=6), st.text(max_size=6)),
    st.sampled_from(["name=${seed}", "seed=${seed}", "seed=${x}", "name=${oc.env:NOWHERE}", "data.geometry=[${", "="]),
    st.text(max_size=12),
)


def test_overrides():
    path = CONFIGS / "quickstart.yaml"

    compared = []

    @inputs(60)
    @given(st.lists(OVERRIDES, min_size=1, max_size=2))
    def fuzz(overrides):
        config = read_or_refuse(lambda: load_config(path, overrides), "argument", *KEYS, path, "trainer", "key")
        if config is not None:
            last = {re.sub("^--", "", o).partition("=")[0]: o.partition("=")[2] for o in overrides}
            if last.get("seed", "").isdecimal() and last["seed"].isascii():
                assert config.seed == int(last["seed"])
                compared.append(True)

    fuzz()
    assert compared
