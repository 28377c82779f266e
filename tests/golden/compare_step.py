"""Compares `nunatak step` with PyTorch on random configurations.

    python tests/golden/compare_step.py target/release/nunatak [--count 20] [--seed 0] [--only N]
        [--level NAME] [--threads N] [--algorithm NAME] [--big]

For each configuration it writes weights and a batch, runs the program, runs PyTorch in float64, measures
the yardsticks of SEMANTICS 1 (float32 in three variants, float64 with disturbed convolutions), and says
how far the program is from the truth against max(5e-5, 4·Y). The exit code is 1 where any is too far.
It needs torch, torchvision and safetensors. --big takes the named networks, up to ResNet34 at 224.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file

import reference


def small_recipe(r):
    layers = [r.choice([1, 1, 2]) for _ in range(r.randint(1, 4))]
    widths = [r.choice([3, 5, 8, 12, 16, 17, 20, 31, 33]) for _ in layers]
    stem = r.choice(
        [
            dict(kernel=3, stride=1, pad=1, pool=False),
            dict(kernel=7, stride=2, pad=3, pool=True),
            dict(kernel=5, stride=1, pad=2, pool=True),
            dict(kernel=1, stride=1, pad=0, pool=False),
        ]
    )
    return dict(block="basic", layers=layers, widths=widths, stem=stem, in_channels=r.choice([1, 3, 3, 4]), classes=r.choice([2, 5, 10, 37]))


def configuration(r, big):
    """One random configuration. Small networks see all options; large ones the shapes that count."""
    if big:
        arch = r.choice(["resnet18", "resnet18", "resnet34", "resnet8"])
        recipe = dict(reference.NAMED[arch], classes=r.choice([10, 1000]))
        size = r.choice([64, 96, 224]) if arch != "resnet8" else 32
        n = r.choice([1, 2, 4]) if size < 224 else 1
    else:
        recipe = small_recipe(r)
        arch = json.dumps(recipe)
        size, n = r.randint(20, 40), r.randint(2, 5)
    shape = (n, recipe["in_channels"], size, size if r.random() < 0.5 else size + r.randint(0, 7))
    last = f"layer{len(recipe['layers'])}"
    sgd = dict(lr=r.choice([1e-3, 1e-2]), momentum=r.choice([0.0, 0.9]), weight_decay=r.choice([0.0, 1e-2]), maximize=r.random() < 0.2)
    sgd["nesterov"] = sgd["momentum"] > 0 and r.random() < 0.4
    sgd["dampening"] = 0.0 if sgd["nesterov"] else r.choice([0.0, 0.2])
    return dict(
        arch=arch,
        recipe={k: v for k, v in recipe.items() if k != "block"},
        shape=shape,
        loss=r.choice(["sum", "mse", "cross-entropy"]),
        mode=r.choice(["train", "train", "eval"]),
        trainable=r.choice([["all"], ["all"], ["fc"], [last, "fc"], ["conv1"], ["layer1"], ["bn1", last + ".0.bn2"], ["none"]]),
        steps=r.choice([1, 2, 3]),
        update=r.choice(["after", "during"]),
        fuse=r.random() < 0.7,
        seed=r.randrange(1 << 30),
        **sgd,
    )


def command(program, c, folder, extra):
    yes = lambda name: [f"--{name}"] if c[name] else []
    return [
        *(program, "step", "--arch", c["arch"], "--classes", str(c["recipe"]["classes"])),
        *("--weights", str(folder / "weights.safetensors"), "--input", str(folder / "input.safetensors")),
        *("--loss", c["loss"], "--mode", c["mode"], "--trainable", ",".join(c["trainable"])),
        *("--lr", str(c["lr"]), "--momentum", str(c["momentum"]), "--dampening", str(c["dampening"])),
        *("--weight-decay", str(c["weight_decay"]), "--steps", str(c["steps"]), "--update", c["update"]),
        *yes("nesterov"),
        *yes("maximize"),
        *([] if c["fuse"] else ["--no-fuse"]),
        *extra,
        *("--out", str(folder / "out.safetensors")),
    ]


def make(c):
    """The model and the batch; statistics that a trained network could have."""
    model = reference.build(c["recipe"], seed=c["seed"])
    g = torch.Generator().manual_seed(c["seed"] + 1)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.weight.data = 0.5 + torch.rand(m.weight.shape, generator=g)
            m.bias.data = 0.2 * torch.randn(m.bias.shape, generator=g)
            m.running_mean = 0.1 * torch.randn(m.bias.shape, generator=g)
            m.running_var = 0.5 + torch.rand(m.bias.shape, generator=g)
    return (model, *reference.batch(c["shape"], c["loss"], c["recipe"]["classes"], c["seed"] + 2))


def compare(program, c, extra, disturbed):
    """The two worst d with their tolerances, or what is wrong in words."""
    model, data, labels = make(c)
    refusal = None
    try:
        truth = reference.run(c, model, data, labels)
        # A run that diverges proves nothing: everything is infinite then, the tolerance too.
        while not all(t.abs().max() < 1e9 for k, t in truth.items() if "num_batches" not in k):
            if c["lr"] == 0.0:
                return "the network itself is not finite: choose other weights"
            c["lr"] = c["lr"] * 1e-3 if c["lr"] > 1e-10 else 0.0
            truth = reference.run(c, model, data, labels)
    except ValueError as e:  # one value per channel: the program must refuse it too
        refusal = e
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "weights.safetensors")
        save_file({"input": data, "labels": labels}, folder / "input.safetensors")
        run = subprocess.run(command(program, c, folder, extra), capture_output=True, text=True)
        if refusal:
            if run.returncode == 0:
                return f"PyTorch refused ({refusal}), the program did not"
            return None if "Expected more than 1 value per channel" in run.stderr else f"refused in other words: {run.stderr}"
        if run.returncode != 0:
            return f"exit code {run.returncode}: {run.stderr}"
        got = load_file(folder / "out.safetensors")
    if c["update"] == "during":  # gradients are used up during the walk: a program may leave them out
        truth = {k: v for k, v in truth.items() if not k.startswith("grad.") or k in got}
    if set(got) != set(truth):
        return f"missing {sorted(set(truth) - set(got))[:5]}, unexpected {sorted(set(got) - set(truth))[:5]}"
    for name in truth:
        if got[name].shape != truth[name].shape:
            return f"{name}: shape {tuple(got[name].shape)}, PyTorch {tuple(truth[name].shape)}"
        if "num_batches" in name and not torch.equal(got[name].double(), truth[name]):
            return f"{name}: {got[name]}, PyTorch {truth[name]}"
    first, rest, worst = reference.distances(got, truth)
    f32, y = reference.yardsticks(c, model, data, labels, truth, disturbed)
    tolerances = max(5e-5, 4 * f32), max(5e-5, 4 * y)
    line = f"first {first:.1e} of {tolerances[0]:.1e}, rest {rest:.1e} of {tolerances[1]:.1e} ({worst})"
    print("   ", line)
    return None if first <= tolerances[0] and rest <= tolerances[1] else "too far: " + line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this configuration alone")
    parser.add_argument("--disturbed", type=int, default=6, help="disturbed float64 runs for the yardstick")
    parser.add_argument("--big", action="store_true")
    for name in ["level", "threads", "algorithm"]:
        parser.add_argument(f"--{name}")
    args = parser.parse_args()
    extra = [x for name in ["level", "threads", "algorithm"] if (v := getattr(args, name)) for x in (f"--{name}", v)]
    torch.set_num_threads(1)
    failures, begin = 0, time.time()
    for i in range(args.count):
        c = configuration(random.Random(args.seed * 100_003 + i), args.big)
        if args.only is not None and i != args.only:
            continue
        print(f"{i}: {c}", flush=True)
        wrong = compare(args.program, c, extra, args.disturbed)
        if wrong:
            failures += 1
            print(f"    FAILED: {wrong}", flush=True)
    print(f"{failures} of {args.count} configurations failed, {time.time() - begin:.0f} s")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
