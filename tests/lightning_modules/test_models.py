"""The detectors against torchvision's own."""

import pytest
import torch
from torchvision.models import detection, get_model_weights, resnet50
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import box_iou

from configs import ModelConfig, load_config
from errors import UserError
from lightning_modules.models import SMALL, STOCK, RoIAlignV2, build_model, load_weights

CLASSES = ("person", "rider", "car", "bus")


def config(name, **more):
    return ModelConfig(name=name, min_size=[64], max_size=96, **more)


def loaded(model_config, classes=CLASSES):
    model = build_model(model_config, 1 + len(classes))
    load_weights(model, model_config, classes)
    return model


@pytest.mark.parametrize("name", STOCK)
def test_stock_models_are_torchvisions(name):
    model = build_model(config(name), 5)
    theirs = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=5)
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    assert shapes == {k: v.shape for k, v in theirs.state_dict().items()}
    assert all(p.requires_grad for p in model.parameters())


def test_outputs_are_torchvisions_but_for_pasting():
    model = build_model(config("maskrcnn_small", arguments={"box_score_thresh": 0.0}), 4).eval()
    # Weights as initialised predict nothing; these predict everywhere.
    torch.manual_seed(0)
    for parameter in model.roi_heads.box_predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    theirs = SMALL["maskrcnn_small"](4, min_size=(64,), max_size=96, box_score_thresh=0.0).eval()
    theirs.load_state_dict(model.state_dict())
    image = torch.rand(3, 50, 75)
    with torch.no_grad():
        (own,), (expected,) = model([image]), theirs([image])
    assert len(own["boxes"]) > 0
    for key in ("boxes", "scores", "labels"):
        torch.testing.assert_close(own[key], expected[key])
    torch.testing.assert_close(paste_masks_in_image(own["masks"], own["boxes"], (50, 75)), expected["masks"])


@pytest.mark.parametrize(("name", "target"), [("maskrcnn_small", "masks"), ("keypointrcnn_small", "keypoints")])
def test_small_models_learn_a_batch(name, target):
    torch.manual_seed(0)
    model = build_model(config(name), 3)
    targets = {
        "boxes": torch.tensor([[10.0, 10, 40, 50]]),
        "labels": torch.tensor([1]),
        "masks": torch.zeros(1, 64, 96, dtype=torch.uint8),
        "keypoints": torch.tensor([[[20.0, 20, 2]] * 17]),
    }
    targets["masks"][:, 10:50, 10:40] = 1
    image = torch.zeros(3, 64, 96)
    image[0, 10:50, 10:40] = 1
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = sum(model([image], [targets]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert target in model.eval()([image])[0]


def test_weights_from_files(tmp_path):
    torch.manual_seed(0)
    torch.save(resnet50(num_classes=2).state_dict(), tmp_path / "resnet.pt")
    model = loaded(config("maskrcnn_resnet50_fpn", weights=str(tmp_path / "resnet.pt")))
    expected = torch.load(tmp_path / "resnet.pt")["layer3.0.conv1.weight"]
    assert torch.equal(model.backbone.body.layer3[0].conv1.weight, expected)

    small = build_model(config("maskrcnn_small"), 5)
    checkpoint = {"state_dict": {f"model.{k}": v for k, v in small.state_dict().items()}}
    torch.save(checkpoint, tmp_path / "run.ckpt")
    again = config("maskrcnn_small", weights=str(tmp_path / "run.ckpt"))
    more_classes = (*CLASSES, "train", "truck")
    model = build_model(again, 7)
    untrained = load_weights(model, again, more_classes)
    key = "roi_heads.mask_head.0.0.weight"
    assert torch.equal(model.state_dict()[key], small.state_dict()[key])
    assert model.roi_heads.box_predictor.cls_score.out_features == 7
    assert untrained == [
        f"roi_heads.{predictor}.{name}"
        for predictor in ("box_predictor.bbox_pred", "box_predictor.cls_score", "mask_predictor.mask_fcn_logits")
        for name in ("bias", "weight")
    ]
    assert load_weights(build_model(again, 5), again, CLASSES) == []


@pytest.mark.parametrize("name", STOCK)
def test_published_detectors_predict_as_torchvisions(name, monkeypatch):
    """Random weights under the names of the published files, which are older than torchvision's."""
    torch.manual_seed(0)
    theirs = getattr(detection, name)(weights=None, weights_backbone=None)
    state = {
        k.replace("rpn.head.conv.0.0", "rpn.head.conv").replace("mask_head.0.0", "mask_head.mask_fcn1"): v
        for k, v in theirs.state_dict().items()
        if not k.endswith("num_batches_tracked")
    }
    weights = get_model_weights(name).COCO_V1
    monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **__: dict(state))
    categories = weights.meta["categories"]
    classes = ("bus", "person") if "person" in categories[1:] and len(categories) > 2 else ("person",)
    model_config = config(name, weights="COCO_V1")
    model = build_model(model_config, 1 + len(classes))
    assert load_weights(model, model_config, classes) == []
    expected = getattr(detection, name)(weights="COCO_V1", min_size=(64,), max_size=96).state_dict()
    rows = [0, *map(categories.index, classes)]
    boxes = "roi_heads.box_predictor."
    own = model.state_dict()
    assert torch.equal(own[boxes + "cls_score.weight"], expected[boxes + "cls_score.weight"][rows])
    for row, place in enumerate(rows):
        four = expected[boxes + "bbox_pred.weight"][4 * place : 4 * place + 4]
        assert torch.equal(own[boxes + "bbox_pred.weight"][4 * row : 4 * row + 4], four)
    same = [k for k in own if "_predictor" not in k]
    assert all(torch.equal(own[k], expected[k]) for k in same) and "rpn.head.conv.0.0.weight" in same
    assert model.backbone.body.bn1.eps == 0, "as torchvision trained them"
    assert build_model(config(name, weights="DEFAULT"), 3).backbone.body.bn1.eps == 0, "an alias of COCO_V1"

    unknown = build_model(model_config, 3)
    assert load_weights(unknown, model_config, ("person", "rider")), "predictors of other classes start anew"


@pytest.mark.parametrize("name", ["cityscapes", "coco_instances", "coco_keypoints"])
def test_settings_of_the_standard_schedules_take_effect(name):
    """The numbers of detectron2's configs/Base-RCNN-FPN.yaml, its keypoint and Cityscapes files, and defaults.py."""
    given = load_config(f"configs/{name}.yaml").model
    model = build_model(given, 9)
    frozen = {n.split(".")[0] for n, p in model.backbone.body.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "layer1"} and not list(model.backbone.body.bn1.parameters())
    proposals = 1500 if name == "coco_keypoints" else 1000
    assert model.rpn._pre_nms_top_n == {"training": 2000, "testing": 1000}
    assert model.rpn._post_nms_top_n == {"training": proposals, "testing": 1000}
    assert (model.rpn.nms_thresh, model.rpn.fg_bg_sampler.batch_size_per_image) == (0.7, 256)
    assert (model.rpn.proposal_matcher.high_threshold, model.rpn.proposal_matcher.low_threshold) == (0.7, 0.3)
    assert model.rpn.anchor_generator.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert set(model.rpn.anchor_generator.aspect_ratios) == {(0.5, 1.0, 2.0)}
    heads = model.roi_heads
    assert (heads.fg_bg_sampler.batch_size_per_image, heads.fg_bg_sampler.positive_fraction) == (512, 0.25)
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.05, 0.5, 100)
    assert heads.box_coder.weights == (10.0, 10.0, 5.0, 5.0)
    pools = [heads.box_roi_pool, heads.keypoint_roi_pool if name == "coco_keypoints" else heads.mask_roi_pool]
    assert [(type(pool), pool.output_size[0]) for pool in pools] == [(RoIAlignV2, 7), (RoIAlignV2, 14)]
    sizes = {"cityscapes": (range(800, 1025, 32), 2048)}.get(name, (range(640, 801, 32), 1333))
    assert (model.transform.min_size, model.transform.max_size) == (tuple(sizes[0]), sizes[1])
    assert model.roi_heads.box_predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.roi_heads.box_predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.05)
    if name != "coco_keypoints":
        assert heads.mask_predictor.mask_fcn_logits.weight.std().item() == pytest.approx(0.001, rel=0.1)


def test_small_models_pool_from_the_stem_and_propose_without_it():
    """On ramps of the image's x, a bin has the value at its centre, in cells of the level and of the stem."""
    model = build_model(config("maskrcnn_small"), 4).eval()
    features = model.backbone(torch.rand(1, 3, 128, 256))
    assert [tuple(f.shape[-2:]) for f in features.values()] == [(32, 64), (16, 32), (8, 16), (4, 8), (2, 4), (64, 128)]
    ramps = {name: torch.arange(float(f.shape[-1])).expand(1, 1, *f.shape[-2:]).clone() for name, f in features.items()}
    box = torch.tensor([[40.0, 40.0, 96.0, 96.0]])
    (pooled,) = model.roi_heads.box_roi_pool(ramps, [box], [(128, 256)])
    centres = 40 + 8 * (torch.arange(7) + 0.5)
    torch.testing.assert_close(pooled, torch.stack([centres / 4, centres / 2])[:, None].expand(2, 7, 7))

    levels = []
    model.rpn.head.register_forward_hook(lambda module, inputs, outputs: levels.append(len(inputs[0])))
    model([torch.rand(3, 64, 96)])
    assert levels == [5]


def test_roi_align_v2_samples_at_half_pixels():
    """On a ramp, a bin has the value at its centre: of the image's x, x / stride - 0.5 on a feature map."""
    features = {str(level): torch.arange(256.0 / 2**level).expand(1, 1, 64, -1).clone() for level in range(4)}
    box = torch.tensor([[100.0, 40.0, 156.0, 96.0]])
    level, stride = 0, 4  # 56 pixels: level 2 (FPN paper, equation 1)
    (pooled,) = RoIAlignV2(7)(features, [box], [(256, 1024)])
    centres = 100 + 8 * (torch.arange(7) + 0.5)
    torch.testing.assert_close(pooled[level, 0], centres / stride - 0.5)


def test_roi_align_v2_takes_a_box_from_the_level_of_its_size():
    features = {str(level): torch.full((2, 1, 2 ** (8 - level), 2 ** (8 - level)), level + 2.0) for level in range(4)}
    sides = torch.tensor([30.0, 111, 112, 223, 224, 447, 448, 900])
    boxes = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    pooled = RoIAlignV2(7)(features, [boxes[:3], boxes[3:]], [(1024, 1024)] * 2)
    assert pooled[:, 0, 3, 3].tolist() == [2, 2, 3, 3, 4, 4, 5, 5]


def predicts_everywhere(name, **more):
    torch.manual_seed(0)
    model = build_model(config(name, arguments={"box_score_thresh": 0.0} | more), 4).eval()
    for parameter in model.roi_heads.box_predictor.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("name", SMALL)
def test_autocast_leaves_coordinates_exact(name):
    """Of torchvision's own models boxes, masks and keypoints are bfloat16 then, the boxes on multiples of up to 8."""
    model = predicts_everywhere(name, box_detections_per_img=20, rpn_post_nms_top_n_test=50)
    model.transform.min_size, model.transform.max_size = (96,), 512
    image = torch.rand(3, 96, 512)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (prediction,) = model([image])
    assert {value.dtype for value in prediction.values()} == {torch.float32, torch.int64}
    coarse = prediction["boxes"].bfloat16().float() == prediction["boxes"]
    assert coarse.float().mean() < 0.2  # those clipped to the image are both
    with torch.no_grad():
        (expected,) = model([image])
    iou = box_iou(expected["boxes"], prediction["boxes"]).amax(1)
    assert iou.median() > 0.95


def test_memory_format_changes_nothing():
    model = predicts_everywhere("maskrcnn_resnet50_fpn", roi_align_v2=True)
    image = torch.rand(3, 50, 75)
    with torch.no_grad():
        (expected,) = model([image])
        (prediction,) = model.to(memory_format=torch.channels_last)([image])
    assert len(expected["boxes"]) > 0
    for key in ("boxes", "scores"):
        torch.testing.assert_close(prediction[key], expected[key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "maskrcnn_resnet5_fpn"}, "did you mean 'maskrcnn_resnet50_fpn'"),
        ({"name": "maskrcnn_small", "weights": "imagenet"}, "model.weights: 'imagenet' is not a file"),
        ({"name": "maskrcnn_small", "weights": "nowhere.pt"}, "'nowhere.pt' is not a file"),
        ({"name": "maskrcnn_resnet50_fpn", "weights": "COCO_V2"}, "nor a name, did you mean 'COCO_V1'"),
        (
            {"name": "maskrcnn_small", "arguments": {"box_batch_size": 3}},
            "argument 'box_batch_size', did you mean 'box_batch_size_per_image'",
        ),
        ({"name": "maskrcnn_small", "arguments": {"roi_align_v2": True}}, "unknown argument 'roi_align_v2'"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(UserError, match=message):
        loaded(ModelConfig(**values))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    messages = {
        "text.pt": "cannot be loaded",
        "other.pt": "holds no weights of MaskRCNN",
        "list.pt": "has a list in it",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=f"{name}.* {message}"):
            loaded(config("maskrcnn_small", weights=str(tmp_path / name)))


def test_download_without_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(
        UserError, match=r"'imagenet' cannot be downloaded \(no network\); put https.*resnet50.*\.pth at"
    ):
        loaded(config("maskrcnn_resnet50_fpn", weights="imagenet"))
