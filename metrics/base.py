"""What the average precisions have in common: a record of every image, kept until the end of the epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from metrics.matches import Matches


class RecordMetric(Metric):
    """A metric computed from one record per image, the same for any order, batch size and process count.

    A record is a set of columns, each of its own length and type. The state is the records' bytes
    (`records`, uint8) and the columns' lengths in bytes (`lengths`, int64, images × columns), both
    concatenated over the processes. Bytes keep the numbers from being cast to the module's precision, and
    give float64 a place on any device.

    An image counts once, whatever a `DistributedSampler` adds to make the shards even: of records with the
    same image id only the one whose bytes sort first is used. (The copies are normally equal; where they are
    not, for instance after a batch of another size, the result does not depend on their order either.)

    Attributes:
        matches: for each IoU type what the last `compute` was made of, of all processes.

    Args:
        columns: names of the columns -> their types, by the name torch and NumPy have in common ("float64").
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    records: list[Tensor]
    lengths: list[Tensor]
    matches: list[Matches]

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__()
        self._columns = dict(columns)
        self.matches = []
        self.add_state("records", [], dist_reduce_fx="cat")
        self.add_state("lengths", [], dist_reduce_fx="cat")

    def add_record(self, image_id: str, **columns: Tensor | np.ndarray | bytes) -> None:
        """Appends the record of one image: for every column its values, in any shape, or their bytes."""
        values = [image_id.encode()]
        for name, dtype in self._columns.items():
            value = columns[name]
            if not isinstance(value, bytes):
                value = torch.as_tensor(value).detach().to("cpu", getattr(torch, dtype)).numpy().tobytes()
            values.append(value)
        self.records.append(torch.frombuffer(bytearray(b"".join(values)), dtype=torch.uint8).to(self.device))
        self.lengths.append(torch.tensor([len(value) for value in values], device=self.device))

    def sorted_records(self) -> dict[str, dict[str, np.ndarray]]:
        """The record of every image by its id, its columns as flat arrays.

        They come in the order of their ids by length, then alphabet: numbers in the order of their values, as
        pycocotools sorts them.
        """
        lengths = dim_zero_cat(self.lengths).view(-1, 1 + len(self._columns)).cpu()
        records = dim_zero_cat(self.records).cpu().split(lengths.sum(1).tolist())
        by_id: dict[bytes, tuple[bytes, list[int]]] = {}
        for record, sizes in zip(records, lengths.tolist(), strict=True):
            content = record.numpy().tobytes()
            image_id = content[: sizes[0]]
            by_id[image_id] = min((content, sizes), by_id.get(image_id, (content, sizes)))
        return {key.decode(): self._arrays(*by_id[key]) for key in sorted(by_id, key=lambda key: (len(key), key))}

    def _arrays(self, content: bytes, sizes: list[int]) -> dict[str, np.ndarray]:
        ends = np.cumsum(sizes).tolist()
        return {
            name: np.frombuffer(content[start:end], dtype)
            for (name, dtype), start, end in zip(self._columns.items(), ends[:-1], ends[1:], strict=True)
        }

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """`Metric.sync`, also for processes without an image, for which torchmetrics would send float32."""
        if isinstance(self.records, list) and not self.records:
            self.records.append(torch.empty(0, dtype=torch.uint8, device=self.device))
            self.lengths.append(torch.empty(0, dtype=torch.int64, device=self.device))
        super().sync(*args, **kwargs)


def check_instances(instances: Mapping, names: Sequence[str], size: Sequence[int], where: str) -> None:
    """Checks that the instances of one image have as many entries under each name, and masks of its size.

    Raises:
        ValueError: a line that begins with `where`, if they do not.
    """
    counts = {name: len(instances[name]) for name in names}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{where}: must have as many of each, has {counts}")
    for index, mask in enumerate(instances["masks"] if "masks" in names else []):
        if list(mask["size"]) != list(size):
            raise ValueError(f"{where}: masks[{index}] must have the image's size {size}, has {mask['size']}")
