#!/usr/bin/env python3
"""`--recipe auto` beside the best of a search over rates, epochs, what is trained and augmentation.

Draws its sets (draw.py), trains networks on classes of their own first, for published weights are of another size, then
fine-tunes them on each set: with `--recipe auto`, and with every cell of the grid. The best of the search is the cell
that is best in validation, as who searches would choose it; what is compared are right answers on images that no run
has seen. Of real images every second one of `val` is such a one. Writes a record in JSON, and prints the table of
docs/fine-tuning.md.

    cargo build --release
    python3 bench/recipe/search.py --work /tmp/recipe --real FOLDER_WITH_TRAIN_AND_VAL

What is there already is not run again. Needs nothing but Python.
"""

import argparse
import concurrent.futures
import csv
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path

import draw

NETWORKS = {
    # Name of --arch, side of the images, epochs of the training before, last stage.
    "resnet8": ("resnet8", 32, 20, "layer3"),
}


def grid(last: str, images: int):
    """The options of every cell, for a set of so many images to train on."""
    for lr, epochs in itertools.product([0.01, 0.1], [10, 30]):
        yield f"--trainable head --lr {lr} --epochs {epochs}"
    for lr in [0.01, 0.05]:
        yield f"--trainable {last},head --lr {lr} --epochs 20 --schedule onecycle"
    long = 30 if images < 1000 else 20
    for lr, epochs, augment in [(0.01, long, ""), (0.03, 10, ""), (0.03, long, ""), (0.1, long, ""), (0.03, long, " --augment")]:
        yield f"--trainable all --lr {lr} --epochs {epochs} --schedule onecycle{augment}"


def share(real: Path, folder: Path) -> None:
    """Copies real images: every second one of `val` into the test."""
    for part in ["train", "val"]:
        for group in sorted((real / part).iterdir()):
            for number, path in enumerate(sorted(group.iterdir())):
                test = part == "val" and number % 2 == 1
                to = (folder.with_name("real-test") if test else folder / part) / group.name / path.name
                to.parent.mkdir(parents=True, exist_ok=True)
                if not to.is_file():
                    shutil.copy(path, to)


def run(args, net: str, data: Path, options: str, seed: int) -> dict:
    """The best validation of a run in a hundred, its loss, right answers on the test images, and the seconds it took."""
    _, side, *_ = NETWORKS[net]
    name = f"{net} {data.name} {seed} {options}".replace(" --", " ").replace(" ", "_").replace(",", "+")
    out = args.work / "runs" / f"{name}.safetensors"
    kept = out.with_suffix(".json")
    if kept.is_file() and not (args.again and "auto" in options):
        return json.loads(kept.read_text())
    log = out.with_suffix(".csv")
    words = [args.nunatak, "--quiet", "finetune", data, "--weights", args.work / f"{net}.safetensors", "--out", out]
    words += ["--size", side, "--resize", side, "--seed", seed, "--threads", args.threads, "--no-report", "--new-head"]
    words += ["--overwrite", "--log", log, *options.split()]
    began = time.monotonic()
    ended = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    took = time.monotonic() - began
    if ended.returncode != 0:
        # A rate that is too high diverges.
        found = {"top1": 0.0, "test": 0.0, "loss": None, "seconds": took, "why": ended.stderr.strip()[-200:]}
    else:
        rows = list(csv.DictReader(log.open()))
        best = max(rows, key=lambda row: (float(row["eval_top1"]), -float(row["eval_loss"])))
        found = {"top1": float(best["eval_top1"]), "loss": float(best["eval_loss"]), "epochs": len(rows), "seconds": took}
        words = [args.nunatak, "--quiet", "evaluate", out, data.with_name(f"{data.name}-test"), "--json", "--threads", args.threads]
        told = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
        found["test"] = 100 * json.loads(told.stdout)["top1"]
    for end in ["", ".last", ".toml"]:
        Path(f"{out}{end}").unlink(missing_ok=True)
    kept.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for sets, networks and what runs gave")
    parser.add_argument("--real", type=Path, help="folder of real images of your own, with train and val")
    parser.add_argument("--nunatak", default="target/release/nunatak")
    parser.add_argument("--networks", default="resnet8")
    parser.add_argument("--sets", default=",".join(["real", *draw.SETS]))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of a run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--auto", default="", help="more options for --recipe auto")
    parser.add_argument("--again", action="store_true", help="run --recipe auto anew")
    parser.add_argument("--only-auto", action="store_true", help="leave the grid as far as it is")
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    (args.work / "runs").mkdir(parents=True, exist_ok=True)
    draw.draw_all(args.work / "sets", 300)
    sets = {name: args.work / "sets" / name for name in draw.SETS}
    if args.real:
        sets["real"] = args.work / "sets" / "real"
        share(args.real, sets["real"])
    sets = {name: sets[name] for name in args.sets.split(",") if name in sets}
    table = {}
    for net in args.networks.split(","):
        arch, side, epochs, last = NETWORKS[net]
        weights = args.work / f"{net}.safetensors"
        if not weights.is_file():
            words = [args.nunatak, "finetune", args.work / "sets" / "before", "--arch", arch, "--out", weights, "--size", side]
            words += ["--resize", side, "--epochs", epochs, "--lr", 0.1, "--schedule", "onecycle", "--batch", 32, "--weight-decay", 5e-4]
            words += ["--no-report", "--threads", args.threads]
            subprocess.run([str(word) for word in words], check=True)
        recipe = f"--recipe auto {args.auto}".strip()
        images = {name: sum(1 for path in (sets[name] / "train").glob("*/*")) for name in sets}
        cells = {name: [recipe] + ([] if args.only_auto else list(grid(last, images[name]))) for name in sets}
        work = [(name, options, seed) for name in sets for options in cells[name] for seed in range(args.seeds)]
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            found = list(pool.map(lambda job: run(args, net, sets[job[0]], job[1], job[2]), work))
        for (name, options, _), one in zip(work, found):
            table.setdefault((net, name), {}).setdefault(options, []).append(one)
    mean = lambda runs, key: sum(99 if one[key] is None else one[key] for one in runs) / len(runs)
    record = []
    print("| network | set | auto | best of the search | its options | head alone, best | everything, best | plain |")
    print("|---|---|---|---|---|---|---|---|")
    for (net, name), cells in table.items():
        rank = lambda options: (mean(cells[options], "top1"), -mean(cells[options], "loss"))
        auto = next(options for options in cells if "auto" in options)
        others = [options for options in cells if "auto" not in options]
        shown = lambda options: f"{mean(cells[options], 'test'):.1f}"
        best = lambda part: max((o for o in others if part in o), key=rank, default=None)
        words = [net, name, shown(auto)]
        if others:
            first = best("")
            words += [shown(first), f"`{first}`", shown(best("--trainable head")), shown(best("--trainable all"))]
            words += [shown("--trainable head --lr 0.01 --epochs 10")]
        print("| " + " | ".join(words) + " |")
        record.append({"network": net, "set": name, "runs": cells})
    if args.record:
        args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
