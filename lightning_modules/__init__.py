"""The detector under study as a LightningModule."""
