"""Make a small file of weights to start from: ``python -m lightning_modules.export CHECKPOINT FILE``.

Keeps what any number of classes can use (all but the last layers, of which classes have rows) in half precision.
"""

import argparse
from pathlib import Path

import torch

from errors import script
from lightning_modules.models import read_state
from outputs import replacing


def export(checkpoint: Path, output: Path) -> None:
    """Write the weights of a checkpoint of train.py as a state dict that ``model.weights`` reads.

    Raises:
        UserError: it is none.
    """
    state = read_state(checkpoint, "CHECKPOINT")
    kept = {k: v.half() for k, v in state.items() if "_predictor." not in k or "conv5_mask" in k}
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        torch.save(kept, temporary)
    print(f"{len(kept)} tensors, {output.stat().st_size / 1e6:.1f} MB in {output}")


@script
def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    export(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
