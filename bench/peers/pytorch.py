#!/usr/bin/env python3
"""Times nunatak's steps beside PyTorch's, alternated in one run, and prints the README's table.

    pip install torch torchvision
    cargo build --release
    python3 bench/peers/pytorch.py [--threads 2] [--rounds 3] [--nunatak target/release/nunatak]

Each round measures PyTorch (eager; contiguous and channels_last, the faster counts; inference_mode for
inference) and then nunatak; a cell is the median over the rounds of each side's median.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch
import torchvision

SHAPES = [(1, 64), (8, 64), (32, 64), (1, 224), (8, 224)]
MODES = ["train", "head", "infer"]


def pytorch_step(batch, size, mode, layout):
    torch.manual_seed(0)
    model = torchvision.models.resnet18().to(memory_format=layout)
    images = torch.rand(batch, 3, size, size).to(memory_format=layout)
    if mode == "infer":
        model.eval()

        def step():
            with torch.inference_mode():
                model(images)

        return step
    if mode == "head":
        for p in model.parameters():
            p.requires_grad = False
        model.fc = torch.nn.Linear(512, 10)
    labels = torch.rand(batch, model.fc.out_features)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-5, momentum=0.9)

    def step():
        (model(images) - labels).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def pytorch_ms(batch, size, mode, repeat):
    best = float("inf")
    for layout in (torch.contiguous_format, torch.channels_last):
        step = pytorch_step(batch, size, mode, layout)
        for _ in range(2):
            step()
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        best = min(best, statistics.median(times) * 1e3)
    return best


def nunatak_ms(program, batch, size, mode, threads, repeat):
    command = [program, "measure", "--batch", batch, "--size", size, "--mode", mode]
    command += ["--threads", threads, "--repeat", repeat, "--json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["median_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nunatak", default="target/release/nunatak")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"PyTorch {torch.__version__}, {args.threads} threads; PyTorch ms / nunatak ms = ratio\n")
    print("| | " + " | ".join(f"{n} x {s}" for n, s in SHAPES) + " |")
    print("|---" * (len(SHAPES) + 1) + "|")
    for mode in MODES:
        row = []
        for batch, size in SHAPES:
            repeat = 5 if batch * size > 1000 else 11
            theirs, ours = [], []
            for _ in range(args.rounds):
                theirs.append(pytorch_ms(batch, size, mode, repeat))
                ours.append(nunatak_ms(args.nunatak, batch, size, mode, args.threads, repeat))
            theirs, ours = statistics.median(theirs), statistics.median(ours)
            row.append(f"{theirs:.1f} / {ours:.1f} = **{theirs / ours:.2f}**")
        print(f"| {mode} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
