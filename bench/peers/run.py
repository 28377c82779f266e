#!/usr/bin/env python3
"""Times nunatak's steps beside those of other frameworks, alternated in one run.

    python3 bench/peers/run.py [--arch NAME] [--peers LIST] [--cells LIST] [--modes LIST] [--threads N]
                               [--rounds N] [--seconds S] [--frozen int8] [--record FILE]

Tables are printed. With --record all medians are written to a file too, of which plot.py makes the documents' tables and
pictures.

Peers: pytorch (both memory formats, the faster counts), onnxruntime, openvino (inference alone), burn,
candle; those that are not installed are left out, and the table says so. In each cell every peer is a
process of its own that waits for its turn; a round gives each peer the same time, nunatak among them, in
an order that is turned every round. A figure is the median of its steps over all rounds.
"""
import argparse
import atexit
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # nothing is left beside the scripts
import record
import tables

HERE = record.HERE
CELLS = ["1x64", "8x64", "32x64", "1x224", "8x224"]
MODES = ["train", "head", "infer"]
PYTHON = {
    "pytorch": ["torch", "torchvision"],
    "pytorch-channels-last": ["torch", "torchvision"],
    "onnxruntime": ["torch", "torchvision", "onnx", "onnxruntime"],
    "openvino": ["torch", "torchvision", "onnx", "openvino"],
}
RUST = ["burn", "candle"]
ALL = [*PYTHON, *RUST]


class Worker:
    """A peer that answers a number with so many times."""

    def __init__(self, command, threads):
        # Every library's own way to say how many threads; `taskset` would bind them to cores as well.
        names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUNATAK_BENCH_THREADS"]
        env = os.environ | {name: str(threads) for name in names}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        ready = self.process.stdout.readline().split()
        if not ready or ready[0] != "ready":
            raise RuntimeError(f"{' '.join(command)}: did not become ready")
        self.version = " ".join(ready[1:])

    def times(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if len(answer) != count:
            raise RuntimeError(f"{self.process.args}: {len(answer)} times instead of {count}")
        return [float(t) for t in answer]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def in_8_bits(args):
    """A file of nunatak's with every convolution in 8 bits, from torchvision's random weights and drawn pictures."""
    import torch
    import torchvision

    folder = tempfile.mkdtemp(prefix="peers-")
    atexit.register(shutil.rmtree, folder)
    torch.manual_seed(0)
    torch.save(torchvision.models.get_model(args.arch).state_dict(), os.path.join(folder, "floats.pth"))
    out, pictures = os.path.join(folder, "int8.nunatak"), os.path.join(folder, "pictures")
    subprocess.run([sys.executable, os.path.join(HERE, "../../tests/bare_metal/export/pictures.py"), pictures], check=True)
    convert = [args.nunatak, "convert", os.path.join(folder, "floats.pth"), out, "--frozen", "int8", "--calibrate", pictures]
    subprocess.run([*convert, "--size", "64", "--arch", args.arch], check=True, capture_output=True)
    return out


class Nunatak:
    """The program as everybody calls it: a new process for every turn, with two steps to warm up."""

    def __init__(self, program, network, batch, size, mode, threads):
        self.command = [program, "measure", *network, "--batch", batch, "--size", size, "--mode", mode, "--threads", threads]
        out = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        self.version = out.split()[-1]

    def times(self, count):
        command = [*self.command, "--repeat", str(count), "--json"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [ms / 1e3 for ms in json.loads(out)["times_ms"]]

    def end(self):
        pass


def built(project, name):
    """Where cargo puts a program of a project, seen from here."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(HERE, project, "target")
    return os.path.join(target, "release", name)


def start(peer, args, batch, size, mode):
    if peer == "nunatak":
        network = ["--weights", args.weights] if args.weights else ["--arch", args.arch]
        return Nunatak(args.nunatak, network, batch, size, mode, str(args.threads))
    rest = [peer, batch, size, mode, str(args.threads)]
    if peer in RUST:
        return Worker([built("rust", "rust-peers"), *rest], args.threads)
    return Worker([sys.executable, os.path.join(HERE, "worker.py"), *rest, args.arch, *(["int8"] if args.frozen else [])], args.threads)


def available(peer, arch, frozen):
    """Why a peer can't run, or None."""
    if peer in RUST:
        if arch != "resnet18":
            return f"has no {arch} here"
        manifest = os.path.join(HERE, "rust/Cargo.toml")
        done = subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "--manifest-path", manifest])
        return None if done.returncode == 0 else "does not build"
    needed = PYTHON[peer] + (["nncf"] if frozen and peer == "openvino" else [])
    missing = [m for m in needed if importlib.util.find_spec(m) is None]
    return f"not installed: pip install {' '.join(missing)}" if missing else None


def cell(args, peers, mode, name):
    """Peer -> (median in ms, version)."""
    batch, size = name.split("x")
    able = [p for p in peers if mode == "infer" or p not in record.INFERENCE_ALONE] + ["nunatak"]
    workers, times, counts = {}, {p: [] for p in able}, {}
    try:
        for peer in list(able):
            try:
                workers[peer] = start(peer, args, batch, size, mode)
            except RuntimeError as what:
                print(f"left out: {what}", file=sys.stderr)
                able.remove(peer)
                continue
            # So many steps that a turn takes the time given; at least three.
            once = statistics.median(workers[peer].times(3))
            counts[peer] = max(3, min(200, round(args.seconds / once)))
        for i in range(args.rounds):
            for peer in able[i % len(able) :] + able[: i % len(able)]:
                time.sleep(0.05)  # so that the last one's threads have gone to sleep
                times[peer] += workers[peer].times(counts[peer])
    finally:
        for worker in workers.values():
            worker.end()
    return {p: (statistics.median(times[p]) * 1e3, workers[p].version) for p in able}


def cpu():
    try:
        with open("/proc/cpuinfo") as info:
            model = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return model


def chosen(text, known, what):
    names = text.split(",")
    for name in names:
        if name not in known:
            sys.exit(f"--{what}: there is no {name!r}; known: {', '.join(known)}")
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="resnet18", help="one of torchvision's names")
    parser.add_argument("--peers", default="pytorch,onnxruntime,openvino,burn,candle")
    parser.add_argument("--cells", default=",".join(CELLS), help="batch x size, with commas between")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one peer's turn")
    parser.add_argument("--nunatak", default=built("../..", "nunatak"))
    parser.add_argument("--record", metavar="FILE", help="write all medians there, such as bench/record/peers/NAME.json")
    parser.add_argument("--frozen", choices=["int8"], help="inference with every convolution in 8 bits, of every peer that can")
    args = parser.parse_args()
    if args.frozen:
        args.modes, args.peers = "infer", ",".join(p for p in args.peers.split(",") if p in record.INFERENCE_ALONE)
    args.weights = in_8_bits(args) if args.frozen else None
    args.cells = args.cells.split(",")
    modes = chosen(args.modes, MODES, "modes")
    peers = chosen(args.peers, list(record.NAMES), "peers")
    if "pytorch" in peers:
        peers.insert(peers.index("pytorch") + 1, "pytorch-channels-last")
    absent = {p: why for p in peers if (why := available(p, args.arch, args.frozen))}
    for peer, why in absent.items():
        print(f"{peer}: {why}", file=sys.stderr)
    peers = [p for p in peers if p not in absent]
    results = {mode: {} for mode in modes}
    for mode in modes:
        for name in args.cells:
            results[mode][name] = figures = cell(args, peers, mode, name)
            print(f"{mode} {name}: " + ", ".join(f"{p} {tables.ms(t)}" for p, (t, _) in figures.items()), file=sys.stderr, flush=True)
    options = ("" if args.arch == "resnet18" else f" --arch {args.arch}") + (f" --frozen {args.frozen}" if args.frozen else "")
    command = f"python3 bench/peers/run.py{options} --threads {args.threads}"
    kept = record.of_run(command, cpu(), os.cpu_count(), args, results)
    print(tables.speed(kept))
    for peer, why in absent.items():
        print(f"\n{record.NAMES.get(peer, peer)}: {why}.")
    if args.record:
        record.write(args.record, kept)


if __name__ == "__main__":
    main()
