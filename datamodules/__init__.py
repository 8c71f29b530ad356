"""Readers of datasets, one file per layout, and StreetScenes, the dataset that the project draws itself."""
