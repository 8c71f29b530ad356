"""Torchvision's Mask and Keypoint R-CNN: the stock ResNet-50-FPN models, and small ones of the same classes."""

import inspect
import pickle
import urllib.error
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, WeightsEnum, get_model, get_model_weights
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
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import LevelMapper
from torchvision.ops.roi_align import convert_boxes_to_roi_format

from configs import ModelConfig
from errors import UserError, nearest
from lightning_modules.mishaps import NO_TENSORS

# The small models train on a CPU: the stock heads cost most of a step at 160 × 320 pixels, and
# with narrow heads the backbone does, so all are narrow. A step of four such images takes 0.6 s on a core.
# People there are a few cells of the FPN's finest level wide. So every region is pooled from the stem too, which has
# twice that resolution, and with one sample a bin: torchvision's four take a fifth of a step and show nothing more.
SMALL_WIDTH = 32  # channels of the first stage; ResNet-18 has 64
SMALL_CHANNELS = 64  # of the FPN and the mask or keypoint head
SMALL_POOLED = SMALL_CHANNELS + SMALL_WIDTH
SMALL_BOX_HEAD = 256
SMALL_HEAD_LAYERS = 2
SMALL_ANCHORS = ((8,), (16,), (32,), (64,), (128,))  # pixels


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


class _StemFPN(BackboneWithFPN):
    """An FPN that hands the stem's output on beside its levels."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        layers = self.body(x)
        stem = layers.pop("stem")
        return self.fpn(layers) | {"stem": stem}


class _StemRoIAlign(MultiScaleRoIAlign):
    """RoIAlign of the FPN's level that suits a box, and of the stem, one after the other in the channels."""

    def __init__(self, output_size: int) -> None:
        super().__init__(["0", "1", "2", "3"], output_size, sampling_ratio=1)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        coarse = super().forward(x, boxes, image_shapes)
        fine = roi_align(x["stem"], boxes, self.output_size, spatial_scale=1 / 2, sampling_ratio=1)
        return torch.cat([coarse, fine.to(coarse.dtype)], dim=1)


def _without_stem(rpn: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    images, features, *targets = inputs  # an RPN proposes from all that it is given
    return images, {name: level for name, level in features.items() if name != "stem"}, *targets


def _small_parts(arguments: dict[str, Any]) -> dict[str, Any]:
    backbone = _StemFPN(
        _small_resnet(),
        return_layers={"relu": "stem"} | {f"layer{i}": str(i - 1) for i in range(1, 5)},
        in_channels_list=[SMALL_WIDTH * 2**stage for stage in range(4)],
        out_channels=SMALL_CHANNELS,
        norm_layer=_group_norm,
    )
    anchors = AnchorGenerator(SMALL_ANCHORS, aspect_ratios=((0.5, 1.0, 2.0),) * len(SMALL_ANCHORS))
    parts = {
        "backbone": backbone,
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(SMALL_CHANNELS, anchors.num_anchors_per_location()[0]),
        "box_roi_pool": _StemRoIAlign(7),
        "box_head": TwoMLPHead(SMALL_POOLED * 7**2, SMALL_BOX_HEAD),
    }
    return parts | arguments


def maskrcnn_small(num_classes: int, **arguments: Any) -> MaskRCNN:
    """Mask R-CNN on a half-width ResNet-18-FPN with GroupNorm and narrow heads, which see the stem too."""
    model = MaskRCNN(
        **_small_parts(arguments),
        box_predictor=FastRCNNPredictor(SMALL_BOX_HEAD, num_classes),
        mask_roi_pool=_StemRoIAlign(14),
        mask_head=MaskRCNNHeads(SMALL_POOLED, (SMALL_CHANNELS,) * SMALL_HEAD_LAYERS, dilation=1),
        mask_predictor=MaskRCNNPredictor(SMALL_CHANNELS, SMALL_CHANNELS, num_classes),
    )
    model.rpn.register_forward_pre_hook(_without_stem)
    return model


def keypointrcnn_small(num_classes: int, **arguments: Any) -> KeypointRCNN:
    """Keypoint R-CNN on a half-width ResNet-18-FPN with GroupNorm and narrow heads, which see the stem too."""
    model = KeypointRCNN(
        **_small_parts(arguments),
        box_predictor=FastRCNNPredictor(SMALL_BOX_HEAD, num_classes),
        keypoint_roi_pool=_StemRoIAlign(14),
        keypoint_head=KeypointRCNNHeads(SMALL_POOLED, (SMALL_CHANNELS,) * 2 * SMALL_HEAD_LAYERS),
        keypoint_predictor=KeypointRCNNPredictor(SMALL_CHANNELS, 17),
    )
    model.rpn.register_forward_pre_hook(_without_stem)
    return model


class RoIAlignV2(MultiScaleRoIAlign):
    """RoIAlign as detectron2's models have it: aligned to half pixels, and as many samples as pixels in a bin.

    Torchvision's class has an argument for the second, ``sampling_ratio=0``, but none for the first.
    """

    STRIDES = (4, 8, 16, 32)  # of the FPN's levels 2 to 5

    def __init__(self, output_size: int) -> None:
        super().__init__(["0", "1", "2", "3"], output_size, sampling_ratio=0)
        self.map_levels = LevelMapper(2, 5)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pool ``boxes``, float [N_i, 4] of each image, from feature maps [B, C, H, W]: [sum N_i, C, size, size]."""
        rois, levels = convert_boxes_to_roi_format(boxes), self.map_levels(boxes)
        features = [x[name] for name in self.featmap_names]
        pooled = features[0].new_zeros(len(rois), features[0].shape[1], *self.output_size)
        for level, (feature, stride) in enumerate(zip(features, self.STRIDES, strict=True)):
            own = levels == level
            pooled[own] = roi_align(feature, rois[own], self.output_size, 1 / stride, aligned=True).to(pooled.dtype)
        return pooled


def maskrcnn_resnet50_fpn(
    num_classes: int, backbone: nn.Module, roi_align_v2: bool = False, **arguments: Any
) -> MaskRCNN:
    """Torchvision's model of that name on a given backbone, initialised as detectron2's."""
    pools = {"box_roi_pool": RoIAlignV2(7), "mask_roi_pool": RoIAlignV2(14)} if roi_align_v2 else {}
    model = MaskRCNN(backbone, num_classes, **pools, **arguments)
    _initialise_box_head(model)
    predictor = model.roi_heads.mask_predictor.mask_fcn_logits
    nn.init.normal_(predictor.weight, std=0.001)
    nn.init.zeros_(predictor.bias)
    return model


def keypointrcnn_resnet50_fpn(
    num_classes: int, backbone: nn.Module, roi_align_v2: bool = False, **arguments: Any
) -> KeypointRCNN:
    """Torchvision's model of that name on a given backbone, initialised as detectron2's."""
    pools = {"box_roi_pool": RoIAlignV2(7), "keypoint_roi_pool": RoIAlignV2(14)} if roi_align_v2 else {}
    model = KeypointRCNN(backbone, num_classes, num_keypoints=17, **pools, **arguments)
    _initialise_box_head(model)
    return model


def _initialise_box_head(model: GeneralizedRCNN) -> None:
    """Initialise as detectron2 (modeling/roi_heads/box_head.py, fast_rcnn.py); torchvision leaves nn.Linear's own."""
    head, predictor = model.roi_heads.box_head, model.roi_heads.box_predictor
    for layer in (head.fc6, head.fc7):
        nn.init.kaiming_uniform_(layer.weight, a=1)
    nn.init.normal_(predictor.cls_score.weight, std=0.01)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.001)
    for layer in (head.fc6, head.fc7, predictor.cls_score, predictor.bbox_pred):
        nn.init.zeros_(layer.bias)


STOCK: dict[str, Callable[..., GeneralizedRCNN]] = {
    "maskrcnn_resnet50_fpn": maskrcnn_resnet50_fpn,
    "keypointrcnn_resnet50_fpn": keypointrcnn_resnet50_fpn,
}
SMALL: dict[str, Callable[..., GeneralizedRCNN]] = {
    "maskrcnn_small": maskrcnn_small,
    "keypointrcnn_small": keypointrcnn_small,
}

# What torchvision's constructors ignore where they do not know it.
ARGUMENTS = {
    key
    for key in inspect.signature(FasterRCNN.__init__).parameters
    if key.startswith(("rpn_", "box_", "image_", "bbox_"))
}
STOCK_ARGUMENTS = ARGUMENTS | {"roi_align_v2"}


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
    """Build a detector with initial weights, whose outputs are torchvision's but for ``masks``.

    These are float [N, 1, 28, 28] probabilities in the predicted boxes.

    Args:
        config: which one, and its sizes; ``weights`` says only whether the first stages are frozen, and how the
            backbone normalises.
        num_classes: with the background.

    Raises:
        UserError: for an unknown name or an argument the model does not take.
    """
    if config.name not in STOCK | SMALL:
        raise UserError(f"model.name: unknown model '{config.name}'{nearest(config.name, STOCK | SMALL)}")
    known = STOCK_ARGUMENTS if config.name in STOCK else ARGUMENTS
    for key in config.arguments:
        if key not in known:
            raise UserError(f"model.arguments: unknown argument '{key}'{nearest(key, known)}")
    arguments = {"min_size": tuple(config.min_size), "max_size": config.max_size} | config.arguments
    if config.name in STOCK:
        model = STOCK[config.name](num_classes, _stock_backbone(config), **arguments)
    else:
        model = SMALL[config.name](num_classes, **arguments)
    sizes = model.transform
    model.transform = _MaskProbabilities(sizes.min_size, sizes.max_size, sizes.image_mean, sizes.image_std)
    _keep_coordinates_exact(model)
    return model


def _keep_coordinates_exact(model: GeneralizedRCNN) -> None:
    """Let autocast have the convolutions, and no coordinate.

    Torchvision gives anchors and boxes the type that the layers before them put out. Of a bfloat16 the last place is
    worth 8 pixels at 1024 and more, and of a heatmap's maxima many are equal.
    """
    heads = model.roi_heads
    for module in (model.rpn.head, heads.box_predictor, heads.mask_predictor, heads.keypoint_predictor):
        if module is not None:
            module.register_forward_hook(_float_outputs)
    model.rpn.anchor_generator.register_forward_pre_hook(_float_anchors)


def _float_outputs(module: nn.Module, inputs: tuple, outputs: Any) -> Any:
    def as_float(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) else type(value)(map(as_float, value))

    return as_float(outputs)


def _float_anchors(module: nn.Module, inputs: tuple[Any, list[Tensor]]) -> tuple[Any, list[Tensor]]:
    images, features = inputs  # of the features the anchors take nothing but size, type and device
    return images, [torch.empty(feature.shape[-2:], device=feature.device) for feature in features]


def _stock_backbone(config: ModelConfig) -> BackboneWithFPN:
    # Statistics that were learned stay frozen, as in the standard schedules; random ones would never learn.
    norm_layer = nn.BatchNorm2d if config.weights is None else FrozenBatchNorm2d
    published = get_model_weights(config.name).__members__.get(config.weights)
    if published is not None and published.name == "COCO_V1":  # also by its alias DEFAULT
        norm_layer = partial(FrozenBatchNorm2d, eps=0.0)  # torchvision trained them so (pytorch/vision#2933)
    return resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=norm_layer,
        trainable_layers=5 if config.weights is None else config.trainable_layers,
    )


def load_weights(model: GeneralizedRCNN, config: ModelConfig, classes: Sequence[str]) -> list[str]:
    """Start from what ``model.weights`` names: a whole detector, or its ResNet alone.

    What does not fit, the predictors of other classes, stays as it was initialised. Where a published detector knows
    all of ``classes``, its predictors are kept for them.

    Args:
        model: `build_model`'s.
        config: the same.
        classes: names of labels 1..K.

    Returns:
        The names of the parameters and buffers that are as initialised.

    Raises:
        UserError: for weights that cannot be had, or are another model's.
    """
    own = model.state_dict()
    if config.weights is None:
        return sorted(own)
    state = _read_weights(config, classes)
    if not any(key.startswith("backbone.") for key in state):
        state = {f"backbone.body.{key}": value for key, value in state.items()}
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not any(k.endswith("conv1.weight") for k in fitting):
        raise UserError(f"model.weights: '{config.weights}' holds no weights of {type(model).__name__} or its ResNet")
    model.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def _read_weights(config: ModelConfig, classes: Sequence[str]) -> dict[str, Tensor]:
    published = {}
    if config.name in STOCK:
        published = dict(get_model_weights(config.name).__members__) | {"imagenet": ResNet50_Weights.IMAGENET1K_V1}
    if config.weights in published:
        weights = published[config.weights]
        target = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        try:
            state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except pickle.UnpicklingError:
            raise UserError(f"model.weights: {target} cannot be loaded: {NO_TENSORS}") from None
        except (EOFError, RuntimeError) as error:
            raise UserError(f"model.weights: {target} cannot be loaded: {str(error).splitlines()[0]}") from None
        except (urllib.error.URLError, OSError) as error:
            raise UserError(
                f"model.weights: '{config.weights}' cannot be downloaded ({error}); put {weights.url} at {target} "
                "or give model.weights=FILE"
            ) from None
        if weights is ResNet50_Weights.IMAGENET1K_V1:
            return state
        # Through torchvision's model, which renames what old files call otherwise.
        model = get_model(config.name, weights_backbone=None, num_classes=len(weights.meta["categories"]))
        model.load_state_dict(state)
        return _of_classes(model.state_dict(), weights, classes)
    return read_state(
        config.weights, "model.weights", " nor a name" + nearest(config.weights, published) if published else ""
    )


def _of_classes(state: dict[str, Tensor], weights: WeightsEnum, classes: Sequence[str]) -> dict[str, Tensor]:
    """Give a published detector's predictors the rows of ``classes``, if it knows all of them."""
    known = weights.meta["categories"]
    if not set(classes) <= set(known):
        return state
    rows = [0, *map(known.index, classes)]
    chosen = {}
    for key, value in state.items():
        if "_predictor.bbox_pred." in key:  # four numbers a class
            chosen[key] = value.unflatten(0, (-1, 4))[rows].flatten(0, 1)
        elif "_predictor.cls_score." in key or "_predictor.mask_fcn_logits." in key:
            chosen[key] = value[rows]
    return state | chosen


def read_state(path: str | Path, key: str, choices: str = "") -> dict[str, Tensor]:
    """Read the detector's state dict from a file of weights or a checkpoint of train.py.

    Args:
        path: the file.
        key: what named it, for the error.
        choices: names that would have been right instead, for the error.

    Raises:
        UserError: if it is missing or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{key}: '{path}' is not a file{choices}") from None
    except pickle.UnpicklingError:
        raise UserError(f"{key}: {path} cannot be loaded: {NO_TENSORS}") from None
    except Exception as error:  # torch.load raises as many kinds as there are ways to be no checkpoint
        raise UserError(f"{key}: {path} cannot be loaded: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict):
        raise UserError(f"{key}: {path} has a {type(state).__name__} in it, no state dict")
    if "state_dict" in state:  # a checkpoint of train.py
        state = {k.removeprefix("model."): v for k, v in state["state_dict"].items()}
    return state
