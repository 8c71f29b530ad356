"""Make a small file of weights to start from: ``python -m lightning_modules.export CHECKPOINT FILE``.

Keeps what any number of classes can use (backbone, RPN, heads without their predictors) in half precision.
"""

import argparse
import os
from pathlib import Path

import torch


def export(checkpoint: Path, output: Path) -> None:
    """Write the weights of a checkpoint of train.py as a state dict that ``model.weights`` reads."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    kept = {k.removeprefix("model."): v.half() for k, v in state.items() if "_predictor." not in k}
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    torch.save(kept, temporary)
    temporary.replace(output)
    print(f"{len(kept)} tensors, {output.stat().st_size / 1e6:.1f} MB in {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    export(**vars(parser.parse_args()))
