#!/usr/bin/env python3
"""Plans steps, and writes the bytes that each takes to bench/record/memory.csv.

    python3 bench/peers/memory.py [--nunatak PROGRAM] [--check]

Bytes are planned and not measured: the same ones on every machine. With --check nothing is written; it fails where the
program plans other bytes than the record has.
"""
import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RECORD = os.path.join(ROOT, "bench", "record", "memory.csv")
KINDS = ["weights", "statistics", "gradients", "momentum", "activations", "scratch", "padding", "tables"]
# The target of every plan, so that it does not depend on this machine.
TARGET = "--memory small --threads 2 --level avx512"
IN_PLACE = "--weights resnet18.nunatak --in-place"
# What the step is, and the options that plan it.
STEPS = [
    ("train everything", ""),
    ("the same, every gradient kept", "--update after"),
    ("train layer4 and fc", "--trainable layer4,fc"),
    ("train a new fc of 10 classes", "--mode head"),
    ("the same, weights in place", IN_PLACE),
    ("the same, running statistics fixed", f"{IN_PLACE} --bn-statistics fixed"),
    ("predict", "--mode infer"),
]
OTHERS = [
    (f"{arch}: {what}", f"--arch {arch} --batch {batch} --size 224 {options}".strip())
    for arch, batch in [("resnet18", 8), ("resnet50", 8), ("mobilenet_v2", 8), ("mobilenet_v3_small", 8)]
    for what, options in [("train everything", ""), ("train a new head", "--mode head"), ("predict", "--mode infer")]
]


def native_file(program, folder):
    """ResNet18's weights in the library's own format: what an export puts into flash."""
    options = "--arch resnet18 --classes 1000 --target a64 --batch 1 --size 64 --raw --region ram=200M --name resnet18"
    command = [program, "--quiet", "export", *options.split(), "--out", os.path.join(folder, "exported")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    os.rename(os.path.join(folder, "exported", "resnet18_weights.bin"), os.path.join(folder, "resnet18.nunatak"))


def planned(program, folder, what, options):
    """A row: what takes the bytes when most are in use."""
    command = [program, "--quiet", "plan", *options.split(), *TARGET.split(), "--json"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    plan = json.loads(done.stdout)
    of_kind = [plan["bytes"][kind] for kind in KINDS]
    if sum(of_kind) != plan["peak_bytes"]:
        sys.exit(f"{what}: the kinds sum up to {sum(of_kind)} bytes, the plan says {plan['peak_bytes']}")
    return [what, f"nunatak plan {options} {TARGET}".replace("  ", " "), *of_kind, plan["bytes"]["in_place"], plan["peak_bytes"]]


def measured(program):
    """The whole record, as text."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["step", "command", *KINDS, "in_place", "all"])
    with tempfile.TemporaryDirectory() as folder:
        native_file(program, folder)
        table.writerows(planned(program, folder, what, options) for what, options in STEPS + OTHERS)
    return out.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nunatak", default=os.path.join(ROOT, "target", "release", "nunatak"))
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the record has other bytes")
    args = parser.parse_args()
    text = measured(os.path.abspath(args.nunatak))
    if not args.check:
        with open(RECORD, "w", encoding="utf-8") as out:
            out.write(text)
        return
    with open(RECORD, encoding="utf-8") as f:
        kept = f.read()
    for old, new in zip(kept.splitlines() + [""], text.splitlines() + [""]):
        if old != new:
            sys.exit(f"{RECORD}\n  has   {old}\n  it is {new}\nIf that is meant: python3 bench/peers/memory.py; python3 bench/peers/plot.py")


if __name__ == "__main__":
    main()
