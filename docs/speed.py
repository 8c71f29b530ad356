"""The README's table of speed and memory, from the JSON file of `make bench`."""

from typing import Any


def speed_table(content: dict[str, Any]) -> str:
    """Put the measured numbers beside each other as Markdown: what, ours, the peer's, the ratio; then sentences.

    Args:
        content: of the file, of which `startup`, `generators`, `copies` and `memory` need not be there.
    """
    lines = ["| | anonbench | beside | ratio |", "| --- | ---: | ---: | ---: |"]
    for what, ours, peer, beside, unit in _rows(content):
        ratio = f"{100 * (ours / peer - 1):+.0f} %"
        if not 0.9 < peer / ours < 1.1:
            ratio = f"{peer / ours:.1f} ×" if peer > ours else f"{ours / peer:.1f} × slower"
        lines.append(f"| {what} | {_short(ours)} {unit} | {_short(peer)} {unit}, {beside} | {ratio} |")
    machine = content["training"]["machine"]
    lines += ["", *_startup(content), *_generation(content), *_copies(content), *_memory(content)]
    lines += [
        f"{machine['cpu'].strip()}, {machine['cores']} virtual cores, no GPU; torch {machine['torch']}, torchvision",
        f"{machine['torchvision']}, Lightning {machine['pytorch-lightning']}. Medians; ratios within one run.",
    ]
    return "\n".join([*lines, ""])


def _startup(content: dict[str, Any]) -> list[str]:
    if "startup" not in content:
        return []
    seconds = content["startup"]["seconds"]
    helps = [value for name, value in seconds.items() if name.endswith("--help")]
    first, imports = seconds["train.py to its first step"], seconds["imports of train.py"]
    return [
        f"`train.py` is at its first step {first:.1f} s after its call, of which the imports of torch, Lightning and",
        f"the rest take {imports:.1f} s; `--help` of every command takes {min(helps):.2f} to {max(helps):.2f} s.",
    ]


def _generation(content: dict[str, Any]) -> list[str]:
    if "generators" not in content:
        return []
    peaks: dict[str, list[float]] = {}
    for row in content["generators"]["rows"]:
        peaks.setdefault(row["method"], []).append(row["peak_mb"])
    batch = content["generators"]["rows"][0]["name"]
    (least, *_), (most, _, authors) = peaks["realistic"], peaks["realistic_hm_lo"]
    return [
        f"Generating people {batch} adds {least:.0f} MB (realistic) to {most:.0f} MB (realistic_hm_lo) to the peak",
        f"memory of a process; the authors' procedure for the latter, one at a time, {authors:.0f} MB.",
    ]


def _copies(content: dict[str, Any]) -> list[str]:
    if "copies" not in content:
        return []
    copies = content["copies"]
    of = {row["condition"]: row for row in copies["rows"]}
    blur, search = of["body/blur"], of["body/realistic_hm_lo"]
    memory = f"{blur['largest_mb']:,.0f} and {search['largest_mb']:,.0f} MB"
    height, width = copies["size"]
    return [
        f"`anonymize.py` writes {copies['images']} images of {height} × {width} with {copies['workers']} workers in"
        f" {blur['seconds']:.0f} s (body/blur) to {search['seconds']:.0f} s (body/realistic_hm_lo),",
        f"start-up included; its largest process then has {memory}.",
    ]


def _memory(content: dict[str, Any]) -> list[str]:
    if "memory" not in content:
        return []
    memory = content["memory"]["train.py"]["megabytes"]
    return [
        f"The memory of `train.py` went from {memory[len(memory) // 4]:.0f} MB after a quarter of {len(memory)} epochs",
        f"to {memory[-1]:.0f} MB at their end (glibc's allocator kept to one arena).",
    ]


def _rows(content: dict[str, Any]) -> list[tuple[str, float, float, str, str]]:
    rows = []
    steps = content["training"]["ms"]
    plain = next(value for name, value in steps.items() if name.startswith("plain loop"))
    for condition, ms in steps.items():
        if not condition.startswith("plain loop"):
            rows.append((f"training step, {condition}", ms, plain, "a bare loop over the same model, originals", "ms"))
    for row in content["anonymization"]["rows"]:
        if row["name"] == "anonbench" and row["people"] == 20 and row["condition"] in ("body/blur", "face/blur"):
            of = [
                r for r in content["anonymization"]["rows"] if (r["people"], r["condition"]) == (20, row["condition"])
            ]
            peers = {"reference": "person by person, as the paper's authors", "deface, ellipses": "deface's filter"}
            for peer in of:
                if peer["name"] in peers:
                    what = f"{row['condition']} of 20 people, 1024 × 2048"
                    rows.append((what, row["total_ms"], peer["total_ms"], peers[peer["name"]], "ms"))
    generators = content["generators"]["rows"] if "generators" in content else []
    for method in dict.fromkeys(row["method"] for row in generators):
        ours, alone, authors = (row["ms"] for row in generators if row["method"] == method)
        rows.append((f"{method}, a person", ours, alone, "one at a time", "ms"))
        rows.append((f"{method}, a person", ours, authors, "the authors' procedure", "ms"))
    evaluation = content["evaluation"]
    for group, ours, peer in (
        ("COCO box and mask AP", "CocoAP", "pycocotools"),
        ("Cityscapes AP", "CityscapesAP", "cityscapesscripts"),
        ("pasting masks", "paste_masks_as_rle", "torchvision + encode"),
    ):
        found = next(value for name, value in evaluation.items() if name.startswith(group))
        rows.append((f"{group}, an image", found[ours]["ms"], found[peer]["ms"], peer, "ms"))
    readers = content["readers"]
    for dataset, layout, peer in (
        ("Cityscapes", "cityscapes", "one process, instanceIds.png"),
        ("COCO", "coco_instances", "pycocotools"),
    ):
        ms = {name: 1000 * row["seconds"] / row["images"] for name, row in readers[layout].items()}
        for start in ("first start", "later start"):
            rows.append((f"annotations of {dataset}, {start}, an image", ms[start], ms[peer], peer, "ms"))
    return rows


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
