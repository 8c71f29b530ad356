"""Average precision as COCO and as Cityscapes define it, as torchmetrics metrics; masks are RLEs."""
