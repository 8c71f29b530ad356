"""Torchvision's Mask and Keypoint R-CNN: the stock ResNet-50-FPN models, and small ones of the same classes."""

import inspect
import urllib.error
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import ResNet50_Weights, get_model_weights
from torchvision.models.detection import KeypointRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FrozenBatchNorm2d

from configs import ModelConfig
from errors import UserError, nearest

# The small models train on a CPU: DESIGN measured that the stock heads cost most of a step at 160 × 320 pixels, and
# with narrow heads the backbone does, so all are narrow. A step of four such images takes half a second on a core.
SMALL_WIDTH = 32  # channels of the first stage; ResNet-18 has 64
SMALL_CHANNELS = 64  # of the FPN and the mask or keypoint head
SMALL_BOX_HEAD = 256
SMALL_HEAD_LAYERS = 2
SMALL_ANCHORS = ((8,), (16,), (32,), (64,), (128,))  # pixels: the smallest people are 12 pixels high


def _group_norm(channels: int) -> nn.GroupNorm:
    # Batches of four have no statistics worth normalising by, and frozen ones need pretrained weights.
    return nn.GroupNorm(channels // 8, channels)


def _small_resnet() -> nn.Module:
    """ResNet-18 (He et al. 2016) at half its width, which torchvision's class has no argument for."""
    widths = [SMALL_WIDTH * 2**stage for stage in range(4)]
    stages = OrderedDict(
        conv1=nn.Conv2d(3, SMALL_WIDTH, 7, stride=2, padding=3, bias=False),
        bn1=_group_norm(SMALL_WIDTH),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    for stage, width in enumerate(widths):
        inputs, stride = (widths[stage - 1], 2) if stage else (SMALL_WIDTH, 1)
        shortcut = None
        if stage:
            shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), _group_norm(width))
        stages[f"layer{stage + 1}"] = nn.Sequential(
            BasicBlock(inputs, width, stride, shortcut, norm_layer=_group_norm),
            BasicBlock(width, width, norm_layer=_group_norm),
        )
    body = nn.Sequential(stages)
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body


def _small_parts(arguments: dict[str, Any]) -> dict[str, Any]:
    backbone = BackboneWithFPN(
        _small_resnet(),
        return_layers={f"layer{i}": str(i - 1) for i in range(1, 5)},
        in_channels_list=[SMALL_WIDTH * 2**stage for stage in range(4)],
        out_channels=SMALL_CHANNELS,
        norm_layer=_group_norm,
    )
    anchors = AnchorGenerator(SMALL_ANCHORS, aspect_ratios=((0.5, 1.0, 2.0),) * len(SMALL_ANCHORS))
    parts = {
        "backbone": backbone,
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(SMALL_CHANNELS, anchors.num_anchors_per_location()[0]),
        "box_head": TwoMLPHead(SMALL_CHANNELS * 7**2, SMALL_BOX_HEAD),
    }
    return parts | arguments


def maskrcnn_small(num_classes: int, **arguments: Any) -> MaskRCNN:
    """Mask R-CNN on a half-width ResNet-18-FPN with GroupNorm and narrow heads."""
    return MaskRCNN(
        **_small_parts(arguments),
        box_predictor=FastRCNNPredictor(SMALL_BOX_HEAD, num_classes),
        mask_head=MaskRCNNHeads(SMALL_CHANNELS, (SMALL_CHANNELS,) * SMALL_HEAD_LAYERS, dilation=1),
        mask_predictor=MaskRCNNPredictor(SMALL_CHANNELS, SMALL_CHANNELS, num_classes),
    )


def keypointrcnn_small(num_classes: int, **arguments: Any) -> KeypointRCNN:
    """Keypoint R-CNN on a half-width ResNet-18-FPN with GroupNorm and narrow heads."""
    return KeypointRCNN(
        **_small_parts(arguments),
        box_predictor=FastRCNNPredictor(SMALL_BOX_HEAD, num_classes),
        keypoint_head=KeypointRCNNHeads(SMALL_CHANNELS, (SMALL_CHANNELS,) * 2 * SMALL_HEAD_LAYERS),
        keypoint_predictor=KeypointRCNNPredictor(SMALL_CHANNELS, 17),
    )


def maskrcnn_resnet50_fpn(num_classes: int, backbone: nn.Module, **arguments: Any) -> MaskRCNN:
    """Torchvision's model of that name on a given backbone."""
    return MaskRCNN(backbone, num_classes, **arguments)


def keypointrcnn_resnet50_fpn(num_classes: int, backbone: nn.Module, **arguments: Any) -> KeypointRCNN:
    """Torchvision's model of that name on a given backbone."""
    return KeypointRCNN(backbone, num_classes, num_keypoints=17, **arguments)


STOCK: dict[str, Callable[..., GeneralizedRCNN]] = {
    "maskrcnn_resnet50_fpn": maskrcnn_resnet50_fpn,
    "keypointrcnn_resnet50_fpn": keypointrcnn_resnet50_fpn,
}
SMALL: dict[str, Callable[..., GeneralizedRCNN]] = {
    "maskrcnn_small": maskrcnn_small,
    "keypointrcnn_small": keypointrcnn_small,
}

ARGUMENTS = {
    key
    for key in inspect.signature(FasterRCNN.__init__).parameters
    if key.startswith(("rpn_", "box_", "image_", "bbox_"))
}


class _MaskProbabilities(GeneralizedRCNNTransform):
    """Leaves predicted masks at 28 × 28: as full-size floats, 100 of them fill 0.8 GB at 1024 × 2048."""

    def postprocess(
        self,
        result: list[dict[str, torch.Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, torch.Tensor]]:
        masks = [r.pop("masks", None) for r in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        return [r if m is None else r | {"masks": m} for r, m in zip(result, masks, strict=True)]


def build_model(config: ModelConfig, num_classes: int) -> GeneralizedRCNN:
    """Build a detector whose outputs are torchvision's, but for ``masks``: float [N, 1, 28, 28] probabilities.

    Args:
        config: which one, its weights and sizes.
        num_classes: with the background.

    Raises:
        UserError: for an unknown name, an argument the model does not take, or weights that cannot be had.
    """
    if config.name not in STOCK | SMALL:
        raise UserError(f"model.name: unknown model '{config.name}'{nearest(config.name, STOCK | SMALL)}")
    for key in config.arguments:
        if key not in ARGUMENTS:  # torchvision ignores what it does not know
            raise UserError(f"model.arguments: unknown argument '{key}'{nearest(key, ARGUMENTS)}")
    arguments = {"min_size": tuple(config.min_size), "max_size": config.max_size} | config.arguments
    state = _read_weights(config)
    if config.name in STOCK:
        model = STOCK[config.name](num_classes, _stock_backbone(config), **arguments)
    else:
        model = SMALL[config.name](num_classes, **arguments)
    if state is not None:
        _load(model, state, config.weights)
    sizes = model.transform
    model.transform = _MaskProbabilities(sizes.min_size, sizes.max_size, sizes.image_mean, sizes.image_std)
    return model


def _stock_backbone(config: ModelConfig) -> BackboneWithFPN:
    # Statistics that were learned stay frozen, as in the standard schedules; random ones would never learn.
    trained = config.weights is not None
    return resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d if trained else nn.BatchNorm2d,
        trainable_layers=config.trainable_layers if trained else 5,
    )


def _read_weights(config: ModelConfig) -> dict[str, torch.Tensor] | None:
    """Read the state dict that ``model.weights`` names: of a whole detector, or of its ResNet alone."""
    if config.weights is None:
        return None
    published = {}
    if config.name in STOCK:
        published = dict(get_model_weights(config.name).__members__) | {"imagenet": ResNet50_Weights.IMAGENET1K_V1}
    if config.weights in published:
        weights = published[config.weights]
        try:
            return weights.get_state_dict(progress=False, check_hash=True)
        except (urllib.error.URLError, OSError) as error:
            target = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
            raise UserError(
                f"model.weights: '{config.weights}' cannot be downloaded ({error}); put {weights.url} at {target} "
                "or give model.weights=FILE"
            ) from None
    try:
        state = torch.load(config.weights, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        choices = nearest(config.weights, published) if published else ""
        raise UserError(f"model.weights: '{config.weights}' is neither a file nor a name{choices}") from None
    except Exception as error:  # torch.load raises as many kinds as there are ways to be no checkpoint
        raise UserError(f"model.weights: {config.weights} cannot be loaded: {str(error).splitlines()[0]}") from None
    if "state_dict" in state:  # a checkpoint of train.py
        state = {k.removeprefix("model."): v for k, v in state["state_dict"].items()}
    return state


def _load(model: GeneralizedRCNN, state: dict[str, torch.Tensor], name: str) -> None:
    """Load what fits; the heads of another number of classes stay as they were initialised."""
    target = model if any(k.startswith("backbone.") for k in state) else model.backbone.body
    own = target.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not any(k.endswith("conv1.weight") for k in fitting):
        raise UserError(f"model.weights: '{name}' holds no weights of {type(model).__name__} or its ResNet")
    target.load_state_dict(fitting, strict=False)
