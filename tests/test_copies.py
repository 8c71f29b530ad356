"""Training on an anonymized copy: what is read from it, and which copies are refused."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from anonymize import DatasetJob, anonymize_dataset
from configs import load_config
from datamodules.layouts import LAYOUTS
from datamodules.streetscenes import write
from errors import UserError
from lightning_modules.results import claim_run_dir
from tests.anonymization.generators import StandIn
from train import train

ROOT = Path(__file__).parent.parent
FAST = [
    *("data.streetscenes=null", "data.num_workers=0", "data.batch_size=2", "data.geometry=[]"),
    *("trainer.max_steps=1", "trainer.check_val_every_n_epoch=1", "trainer.log_every_n_steps=1"),
    *("trainer.enable_progress_bar=false", "model.weights=null", "model.min_size=[64]", "model.max_size=128"),
    "wandb.mode=disabled",
]


@pytest.fixture
def source(streetscenes, tmp_path):
    """A dataset of one's own to spoil."""
    return shutil.copytree(streetscenes["cityscapes"], tmp_path / "source")


@pytest.fixture
def config(source, tmp_path):
    """Load a config of that dataset under body/blur, seed 3, on the copy in ``copy``."""

    def load(*overrides):
        own = [f"data.root={source}", f"data.index_dir={tmp_path / 'index'}", f"output_dir={tmp_path / 'outputs'}"]
        cell = ["condition=body/blur", "seed=3", f"anonymization.copy={tmp_path / 'copy'}"]
        return load_config(ROOT / "configs/quickstart.yaml", [*FAST, *own, *cell, *overrides])

    return load


@pytest.fixture
def copy(config, tmp_path):
    """Make the copy that the config names."""

    def make(*overrides, **job):
        return anonymize_dataset(config(*overrides), DatasetJob(str(tmp_path / "copy"), workers=0, **job))

    assert make()
    return make


def module(config):
    module = LAYOUTS[config.data.layout](config)
    module.setup("fit")
    return module


def batches(config):
    own = module(config)
    own.trainer = SimpleNamespace(training=True, world_size=1, global_rank=0, current_epoch=0)
    train = [own.on_after_batch_transfer(batch, 0) for batch in own.train_dataloader()]
    own.trainer.training = False
    return train + list(own.val_dataloader())


def images(folder):
    return sorted((folder / "leftImg8bit/train").rglob("*.png"))


def results(tmp_path, name):
    return json.loads((tmp_path / "outputs" / name / "results.json").read_text())


@pytest.mark.parametrize("condition", ["face/blur", "body/blur", "body/mask_out"])
def test_a_run_on_the_copy_sees_what_one_on_the_fly_sees(config, tmp_path, condition):
    own = config(f"condition={condition}")
    assert anonymize_dataset(own, DatasetJob(str(tmp_path / "copy"), workers=0))
    on_copy, on_the_fly = batches(own), batches(config(f"condition={condition}", "anonymization.copy=null"))
    assert len(on_copy) == len(on_the_fly)
    for a, b in zip(on_copy, on_the_fly, strict=True):
        assert a.regions is None
        assert all(map(torch.equal, a.images, b.images))
        for mine, theirs in zip(a.targets, b.targets, strict=True):
            assert mine["image_id"] == theirs["image_id"] and torch.equal(mine["boxes"], theirs["boxes"])


def test_a_run_on_a_copy_says_so_and_needs_no_original(config, copy, source, tmp_path):
    copy("anonymization.seed=3")  # the same, said otherwise
    shutil.rmtree(source / "leftImg8bit/train")
    train(config("seed=8", "anonymization.seed=3"))
    written = results(tmp_path, "quickstart-body-blur-seed8")
    manifest = tmp_path / "copy/manifest.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    count = len(json.loads(manifest.read_text())["images"])
    assert written["copy"] == {"folder": str(manifest.parent), "sha256": digest, "images": count}
    assert written["anonymized_regions"] == json.loads(manifest.read_text())["regions"] > 0
    assert written["config"]["anonymization"] == {"seed": 3, "copy": str(manifest.parent)}
    train(config("seed=8", "anonymization.seed=3"))  # done, and then the copy may go
    shutil.rmtree(manifest.parent)
    train(config("seed=8", "anonymization.seed=3"))


def test_the_anonymization_s_own_seed_decides_who_is_drawn(config, copy, tmp_path):
    def seeds(*overrides):
        dataset = module(config("anonymization.copy=null", *overrides)).train_dataloader().dataset
        return [dataset[i][2].seeds.tolist() for i in range(len(dataset))]

    assert seeds("seed=1", "anonymization.seed=5") == seeds("seed=2", "anonymization.seed=5") == seeds("seed=5")
    assert seeds("seed=5") != seeds("seed=5", "anonymization.seed=0")
    shutil.rmtree(tmp_path / "copy")
    assert copy("seed=5", "anonymization.seed=0")
    assert json.loads((tmp_path / "copy/manifest.json").read_text())["seed"] == 0


def test_originals_are_trained_on_as_they_are(config, source, tmp_path):
    train(config("condition=original"))
    assert results(tmp_path, "quickstart-original-seed3")["copy"] is None
    assert module(config("condition=original")).train[0].path.is_relative_to(source)


def test_the_folder_can_depend_on_condition_and_seed(config, copy, tmp_path):
    (tmp_path / "copy").rename(tmp_path / "body-blur_of_3")
    own = module(config(f"anonymization.copy={tmp_path}/{{condition}}_of_{{seed}}"))
    assert own.train[0].path.is_relative_to(tmp_path / "body-blur_of_3")


@pytest.mark.parametrize("name", ["{method}", "{}", "{seed", "{seed.x}", "{seed:d}{condition:d}"])
def test_a_placeholder_that_nothing_is_known_for(config, name):
    with pytest.raises(UserError, match=r"anonymization\.copy: '.*'.*\{condition\} and \{seed\} may be in it"):
        train(config(f"anonymization.copy='copies/{name}'"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["condition=body/mask_out"], "has condition body/blur, this run needs body/mask_out; name another folder"),
        (["seed=4"], "has seed 3, this run needs 4"),
        (["anonymization.seed=5"], r"has seed 3, this run needs 5; .* anonymization\.seed=5 output=DIR makes it"),
        (["data.layout=bdd100k"], "has layout cityscapes, this run needs bdd100k"),
        (["anonymization.copy=nowhere"], r"nowhere/manifest\.json does not exist; .* output=nowhere makes it"),
    ],
)
def test_another_copy_is_refused(config, copy, tmp_path, overrides, message):
    mistaken = config(*overrides)
    with pytest.raises(UserError, match=message) as error:
        train(mistaken)
    assert "python anonymize.py --config FILE data.root=" in str(error.value)
    assert f"condition={mistaken.condition}" in str(error.value)
    assert not (tmp_path / "outputs").exists()  # the folder is free for the same run without the mistake


def test_a_copy_of_another_dataset_or_split_is_refused(config, copy, source, tmp_path):
    other = shutil.copytree(source, tmp_path / "other")
    with pytest.raises(UserError, match=f"has source {source}, this run needs {other}"):
        module(config(f"data.root={other}"))
    shutil.rmtree(tmp_path / "copy")
    assert copy(split="val")
    with pytest.raises(UserError, match="has split val, this run needs train"):
        module(config())


def test_a_copy_that_is_not_finished_is_refused(config, copy, tmp_path):
    manifest = tmp_path / "copy/manifest.json"
    manifest.rename(tmp_path / "copy/manifest.jsonl")
    with pytest.raises(UserError, match=r"manifest\.jsonl: the copy is not finished; python anonymize\.py .*goes on"):
        module(config())


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": []}', "{"])
def test_a_damaged_manifest_is_named(config, copy, tmp_path, content):
    (tmp_path / "copy/manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json: (is none of anonymize\.py|cannot be read as JSON)"):
        module(config())


def test_a_copy_with_failures_is_refused_unless_bad_images_are_skipped(config, copy, source, tmp_path):
    shutil.rmtree(tmp_path / "copy")
    first, *others = images(source)
    first.write_bytes(b"")
    assert not copy()
    with pytest.raises(UserError, match=r"has failures 1, this run needs 0; .* or data\.skip_bad_images=true"):
        module(config())
    seen = {record.path.name for record in module(config("data.skip_bad_images=true")).train}
    assert seen and seen <= {path.name for path in others}


def test_a_missing_image_is_refused(config, copy, tmp_path):
    before = {record.path for record in module(config()).train}
    missing = next(iter(before))
    missing.unlink()
    with pytest.raises(UserError, match=r"is missing, .*manifest\.json has it; python .* makes it again"):
        module(config())
    with pytest.warns(UserWarning, match=missing.name):
        left = module(config("data.skip_bad_images=true"))
    assert {record.path for record in left.train} == before - {missing}


def test_an_original_in_the_copy_is_refused(config, copy, source, tmp_path):
    """Whether in place of an image, or beside the images; even where bad images are skipped."""
    skipping = "data.skip_bad_images=true"
    changed = next(
        i for i, path in enumerate(images(source)) if path.read_bytes() != images(tmp_path / "copy")[i].read_bytes()
    )
    original, anonymized = images(source)[changed], images(tmp_path / "copy")[changed]
    beside = anonymized.with_name("more_leftImg8bit.png")
    shutil.copy(original, beside)
    for overrides in ([], [skipping]):
        with pytest.raises(UserError, match=r"more_leftImg8bit\.png: is not in .*manifest\.json, so nobody knows"):
            module(config(*overrides))
    beside.replace(anonymized)
    for overrides in ([], [skipping]):
        with pytest.raises(UserError, match=r"is not the image that .*manifest\.json has"):
            module(config(*overrides))


def test_layouts_with_a_list_of_images(tmp_path):
    """COCO's annotations have the images that failed too; they are left out like those that cannot be read."""
    root = write("coco", tmp_path / "source", train=4, val=1, size=(64, 128), workers=0)
    own = [f"data.root={root}", f"data.index_dir={tmp_path / 'index'}", "data.layout=coco_instances"]
    cell = ["condition=body/mask_out", f"anonymization.copy={tmp_path / 'copy'}"]
    config = load_config(ROOT / "configs/quickstart.yaml", [*FAST, *own, *cell])
    first = sorted((root / "train2017").iterdir())[0]
    first.write_bytes(b"")
    assert not anonymize_dataset(config, DatasetJob(str(tmp_path / "copy"), workers=0))
    skipping = load_config(ROOT / "configs/quickstart.yaml", [*FAST, *own, *cell, "data.skip_bad_images=true"])
    with pytest.warns(UserWarning, match="left out 1 of 4"):
        seen = {record.path for record in module(skipping).train}
    assert seen and all(path.parent == tmp_path / "copy/train2017" and path.name != first.name for path in seen)


def test_pictures_need_no_suffix_of_one(tmp_path):
    root = write("coco", tmp_path / "source", train=4, val=1, size=(64, 128), workers=0)
    for path in (root / "annotations").glob("*_train2017.json"):
        content = json.loads(path.read_text())
        for image in content["images"]:
            image["file_name"] = image["file_name"].partition(".")[0]
        path.write_text(json.dumps(content))
    for path in (root / "train2017").iterdir():
        path.rename(path.with_suffix(""))
    own = [f"data.root={root}", f"data.index_dir={tmp_path / 'index'}", "data.layout=coco_instances"]
    cell = ["condition=body/mask_out", f"anonymization.copy={tmp_path / 'copy'}"]
    config = load_config(ROOT / "configs/quickstart.yaml", [*FAST, *own, *cell])
    assert anonymize_dataset(config, DatasetJob(str(tmp_path / "copy"), workers=0))
    seen = module(config).train
    assert seen
    shutil.copy(root / "train2017" / seen[0].path.name, seen[0].path)
    with pytest.raises(UserError, match=r"is not the image that .*manifest\.json has"):
        module(config)


def test_a_copy_by_another_generator_is_refused(config, source, tmp_path, monkeypatch):
    def load(key, spec, crop, diffusers):
        generator = StandIn(crop)
        generator.name = f"{spec}@1234"
        return generator

    monkeypatch.setattr("anonymization.engine.load_generator", load)
    realistic = ["condition=face/realistic", "generators.face=a"]
    assert anonymize_dataset(config(*realistic), DatasetJob(str(tmp_path / "copy"), workers=0))
    assert json.loads((tmp_path / "copy/manifest.json").read_text())["generators"] == {"face": "a@1234"}
    assert module(config(*realistic)).count_regions() > 0
    with pytest.raises(
        UserError,
        match=r"has generators of face a@1234, this run needs b@1234.* generators\.face=b",
    ):
        module(config(*realistic, "generators.face=b"))


def test_a_generator_matters_to_a_run_that_draws_people_alone(config):
    """A run that was begun before there was a generator, or with another, goes on if nobody is drawn."""

    def claim(*overrides):
        last = claim_run_dir(config(*overrides)) / "checkpoints" / "last.ckpt"
        last.parent.mkdir(exist_ok=True)
        last.touch()

    claim("generators.body=null", "anonymization.copy=null")
    claim("generators.body=other", "generators.chunk=3", "anonymization.copy=null")
    with pytest.raises(UserError, match=r"holds a run with anonymization\.seed=None"):
        claim("anonymization.seed=1", "anonymization.copy=null")
    claim("condition=original", "anonymization.seed=1")
    claim("condition=original", "anonymization.copy=null")
    claim("condition=body/realistic")
    claim("condition=body/realistic", "generators.chunk=3")
    with pytest.raises(UserError, match=r"holds a run with generators\.body=.*streetscenes_body"):
        claim("condition=body/realistic", "generators.body=other")


@pytest.mark.parametrize("content", ["", "- 1", "seed: x", "nonsense: 1", "{", "model: ${other}"])
def test_a_damaged_config_in_a_run_s_folder_is_named(config, content):
    run_dir = claim_run_dir(config("condition=original", "anonymization.copy=null"))
    (run_dir / "config.yaml").write_text(content)
    (run_dir / "checkpoints").mkdir()
    (run_dir / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError, match=r"config\.yaml"):
        claim_run_dir(config("condition=original", "anonymization.copy=null"))


def test_a_missing_generator_is_named_before_anything_else(config, tmp_path):
    for override, message in (
        ("generators.body=null", r"generators\.body: is missing; body/realistic needs one"),
        ("generators.body=torchscript:none.pt", r"generators\.body: .*none\.pt"),
    ):
        with pytest.raises(UserError, match=message):
            train(config("condition=body/realistic", override))
        with pytest.raises(UserError, match=message):
            anonymize_dataset(config("condition=body/realistic", override), DatasetJob(str(tmp_path / "copy")))
    assert not (tmp_path / "outputs").exists() and not (tmp_path / "copy").exists()
