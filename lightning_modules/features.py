"""Image features that need no download: those of the small detector whose weights come with the project."""

import torch
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from configs import ModelConfig
from errors import UserError
from lightning_modules.models import SMALL_CHANNELS, build_model, load_weights

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # that the detector normalises by
LEVELS = 3  # of the feature pyramid, from the finest: the others see less than a crop


class DetectorFeatures(nn.Module):
    """Means and deviations over the image of the feature pyramid's maps; what torchmetrics' FID takes as a network.

    Distances in them compare generators of one data set with one another; they are no Inception FID.

    Args:
        weights: file of weights of ``maskrcnn_small``.

    Raises:
        UserError: the file is missing or holds something else.
    """

    num_features = 2 * LEVELS * SMALL_CHANNELS

    def __init__(self, weights: str) -> None:
        super().__init__()
        config = ModelConfig(name="maskrcnn_small", weights=weights)
        detector = build_model(config, num_classes=2)
        try:
            load_weights(detector, config, ())
        except UserError as error:
            raise UserError(str(error).replace("model.weights", "generator.features", 1)) from None
        self.backbone = detector.backbone.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float32 [N, 3, H, W] in [0, 1], to [N, num_features]."""
        with torch.autocast(images.device.type, enabled=False):
            maps = list(self.backbone(normalize(images.float(), IMAGENET_MEAN, IMAGENET_DEVIATION)).values())[:LEVELS]
        return torch.cat([statistic for m in maps for statistic in (m.mean((2, 3)), m.std((2, 3)))], dim=1)
