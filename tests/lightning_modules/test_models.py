"""The detectors against torchvision's own."""

import pytest
import torch
from torchvision.models import detection, resnet50
from torchvision.models.detection.roi_heads import paste_masks_in_image

from configs import ModelConfig
from errors import UserError
from lightning_modules.models import SMALL, STOCK, build_model


def config(name, **more):
    return ModelConfig(name=name, min_size=[64], max_size=96, **more)


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
    model = build_model(config("maskrcnn_resnet50_fpn", weights=str(tmp_path / "resnet.pt")), 5)
    expected = torch.load(tmp_path / "resnet.pt")["layer3.0.conv1.weight"]
    assert torch.equal(model.backbone.body.layer3[0].conv1.weight, expected)
    assert not model.backbone.body.conv1.weight.requires_grad, "the first stages of trained weights are frozen"

    small = build_model(config("maskrcnn_small"), 5)
    checkpoint = {"state_dict": {f"model.{k}": v for k, v in small.state_dict().items()}}
    torch.save(checkpoint, tmp_path / "run.ckpt")
    again = build_model(config("maskrcnn_small", weights=str(tmp_path / "run.ckpt")), 7)
    key = "roi_heads.mask_head.0.0.weight"
    assert torch.equal(again.state_dict()[key], small.state_dict()[key])
    assert again.roi_heads.box_predictor.cls_score.out_features == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "maskrcnn_resnet5_fpn"}, "did you mean 'maskrcnn_resnet50_fpn'"),
        ({"name": "maskrcnn_small", "weights": "imagenet"}, "model.weights: 'imagenet' is neither a file nor a name"),
        ({"name": "maskrcnn_small", "weights": "nowhere.pt"}, "'nowhere.pt' is neither a file"),
        ({"name": "maskrcnn_resnet50_fpn", "weights": "COCO_V2"}, "did you mean 'COCO_V1'"),
        (
            {"name": "maskrcnn_small", "arguments": {"box_batch_size": 3}},
            "argument 'box_batch_size', did you mean 'box_batch_size_per_image'",
        ),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(UserError, match=message):
        build_model(ModelConfig(**values), 3)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    for name, message in (("text.pt", "cannot be loaded"), ("other.pt", "holds no weights of MaskRCNN")):
        with pytest.raises(UserError, match=f"{name}.* {message}"):
            build_model(config("maskrcnn_small", weights=str(tmp_path / name)), 3)


def test_download_without_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(
        UserError, match=r"'imagenet' cannot be downloaded \(no network\); put https.*resnet50.*\.pth at"
    ):
        build_model(config("maskrcnn_resnet50_fpn", weights="imagenet"), 3)
