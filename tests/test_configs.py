"""Configs: what is read, what wins, and the one line that a mistake gets."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from configs import load_config
from errors import UserError

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(p for p in (ROOT / "configs").glob("*.yaml") if p.name != "base.yaml")


@pytest.fixture
def write(tmp_path):
    def write(name, **content):
        path = tmp_path / name
        OmegaConf.save(OmegaConf.create(content), path)
        return path

    return write


@pytest.fixture
def small(write):
    data = {"name": "d", "layout": "cityscapes", "root": "somewhere"}
    return write("small.yaml", data=data, model={"name": "maskrcnn_small"})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_is_complete(path):
    config = load_config(path)
    assert config.name == path.stem
    assert (config.optimizer.steps or config.trainer["max_steps"]) > 0


def test_later_sources_win(write):
    write("base.yaml", seed=1, data={"name": "base", "layout": "a", "root": "r", "batch_size": 2})
    write("middle.yaml", extends="base.yaml", seed=0, data={"name": "middle"})
    path = write("own.yaml", extends="middle.yaml", data={"name": "own"}, model={"name": "m"})
    config = load_config(path, ["data.batch_size=8", "--data.root=x=y"])
    assert (config.seed, config.data.name, config.data.batch_size, config.data.root) == (0, "own", 8, "x=y")


@pytest.mark.parametrize("prefix", ["", "--"])
def test_both_override_forms_are_typed(small, prefix):
    overrides = ["seed=3", "condition=body/blur", "optimizer.lr=1e-3", "trainer.max_steps=5", "model.min_size=[64]"]
    config = load_config(small, [prefix + o for o in overrides])
    assert (config.seed, config.condition, config.optimizer.lr) == (3, "body/blur", 0.001)
    assert (config.trainer["max_steps"], config.model.min_size) == (5, [64])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=1", "unknown key 'sed', did you mean 'seed'?"),
        ("data.batchsize=1", "unknown key 'data.batchsize', did you mean 'batch_size'?"),
        ("data.streetscenes={rize: [64, 128]}", r"unknown key 'data\.streetscenes\.rize', did you mean 'size'"),
        ("data.batch_size=many", "data.batch_size"),
        ("seed=1.5", "seed"),
        ("condition=body/blurr", "'body/blurr'.*'body/blur'"),
        ("condition=face/mask-out", "'face/mask_out'"),
        ("trainer.max_stps=1", "'trainer.max_stps', did you mean 'max_steps'?"),
        ("trainer.max_steps=soon", "trainer.max_steps: 'soon' is no int"),
        ("trainer.precision=true", "trainer.precision: 'True' is no int or str|trainer.precision"),
        ("trainer.logger=false", r"trainer\.logger: cannot be set, every run has its own; set wandb\.mode"),
        ("trainer.default_root_dir=x", r"trainer\.default_root_dir: cannot be set, .*; set output_dir"),
        ("trainer.callbacks=[]", r"trainer\.callbacks: cannot be set, every run has its own$"),
        ("name=lr=0.1", "name: 'lr=0.1' has =, which a folder or a filter of W&B cannot have"),
        ("seed=-1", "seed: -1 is not 0 or more, 4294967295 at most"),
        ("seed=4294967296", "seed: 4294967296 is not 0 or more, 4294967295 at most"),
        ("data.batch_size=0", r"data\.batch_size: 0 is not 1 or more$"),
        ("data.ignore_classes=person", r"data\.ignore_classes: is no list; write it as \[VALUE, \.\.\.\]$"),
        ("model.min_size=[]", r"model\.min_size: \[\] is no list of pixels, 1 or more$"),
        ("model.min_size=[64,0]", r"model\.min_size: \[64, 0\] is no list of pixels"),
        ("model.max_size=0", r"model\.max_size: 0 is not 1 or more$"),
        ("trainer.accumulate_grad_batches=0", r"trainer\.accumulate_grad_batches: 0 is not 1 or more$"),
        ("optimizer.batch_size=-8", r"optimizer\.batch_size: -8 is not 1 or more$"),
        ("data.num_workers=-1", r"data\.num_workers: -1 is not 0 or more$"),
        ("seed", "'seed' is not of the form key=value"),
        ("=1", "'=1' is not of the form key=value"),
        ("seed=[1", r"seed=\[1"),
        ("data=3", "data"),
        ("name=${nothing}", "name: .*'nothing' not found"),
        ("seed=${seed}", "seed: .*[Rr]ecursi"),
    ],
)
def test_a_mistake_names_key_and_value(small, override, message):
    with pytest.raises(UserError, match=message):
        load_config(small, [override])


def test_missing_values_and_files(write, tmp_path):
    with pytest.raises(UserError, match=r"data\.layout has no value"):
        load_config(write("a.yaml", data={"name": "d", "root": "r"}, model={"name": "m"}))
    with pytest.raises(UserError, match=r"did you mean '.*a\.yaml'"):
        load_config(tmp_path / "b.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1\nb: 2")
    with pytest.raises(UserError, match=r"broken\.yaml cannot be read as YAML"):
        load_config(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UserError, match="no mapping"):
        load_config(tmp_path / "list.yaml")
    with pytest.raises(UserError, match=r"dot\.yaml: unknown key 'sed\.', did you mean 'seed'"):
        load_config(write("dot.yaml", **{"sed.": 1}))
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 500)
    with pytest.raises(UserError, match=r"deep\.yaml cannot be read as YAML: maximum recursion depth exceeded"):
        load_config(tmp_path / "deep.yaml")
    with pytest.raises(UserError, match=r"base\.yaml: extends: 'c\.yaml' extends this"):
        write("base.yaml", extends="c.yaml")
        load_config(write("c.yaml", extends="base.yaml"))


def test_aliases_of_aliases(tmp_path):
    """Nine lines that stand for 10 ** 9 values, and a list that is within itself."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    for text in ("\n".join(lines), "trainer: &a {devices: *a}"):
        (tmp_path / "many.yaml").write_text(text)
        with pytest.raises(UserError, match=r"many\.yaml cannot be read as YAML: it has more than 100000 values"):
            load_config(tmp_path / "many.yaml")
