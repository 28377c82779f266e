"""The records of runs beside other frameworks: `bench/record/peers/NAME.json`, one for each run.

    measured    command, date, tree, machine, cores, threads, arch, rounds
    versions    peer -> version
    ms          step -> cell -> peer -> median milliseconds, nunatak among the peers
    ratio       step -> cell -> peer -> their time / nunatak's, where the times are rounded, or were not kept

`run.py --record FILE` writes one, with `ms` alone; `plot.py` makes tables and pictures of them. The first ones were taken
from tables that stood in the README: their date is that of the commit that showed them, their tree is what was said there.
"""
import datetime
import json
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FOLDER = os.path.join(ROOT, "bench", "record", "peers")
NAMES = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "burn": "burn", "candle": "candle"}
# Two ways of one peer, of which the faster counts in each cell.
FORMATS = {"pytorch": ("pytorch", "pytorch-channels-last")}
INFERENCE_ALONE = ["onnxruntime", "openvino"]


def significant(value):
    """Four digits: tables show three, and ratios two behind the point."""
    return float(f"{value:.4g}")


def tree():
    """The commit that is measured, with a mark where files differ from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def of_run(command, machine, cores, args, results):
    """The record of what `run.py` has measured: step -> cell -> peer -> (ms, version)."""
    cells = [figures for by_cell in results.values() for figures in by_cell.values()]
    return {
        "measured": {
            "command": command,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            "tree": tree(),
            "machine": machine,
            "cores": cores,
            "threads": args.threads,
            "arch": args.arch,
            "rounds": args.rounds,
            **({"frozen": args.frozen} if args.frozen else {}),
        },
        "versions": {peer: version for figures in cells for peer, (_, version) in figures.items()},
        "ms": {
            step: {cell: {peer: significant(ms) for peer, (ms, _) in figures.items()} for cell, figures in by_cell.items()}
            for step, by_cell in results.items()
        },
    }


def write(path, record):
    """A line for each cell, so that two records can be compared line by line."""
    lines = []
    for key in ("measured", "versions"):
        lines.append(f" {json.dumps(key)}: " + json.dumps(record[key], indent=2, ensure_ascii=False).replace("\n", "\n "))
    for key in ("ms", "ratio"):
        if key in record:
            steps = []
            for step, cells in record[key].items():
                rows = [f"   {json.dumps(cell)}: {json.dumps(figures)}" for cell, figures in cells.items()]
                steps.append(f"  {json.dumps(step)}: {{\n" + ",\n".join(rows) + "\n  }")
            lines.append(f" {json.dumps(key)}: {{\n" + ",\n".join(steps) + "\n }")
    with open(path, "w", encoding="utf-8") as out:
        out.write("{\n" + ",\n".join(lines) + "\n}\n")


def read(path):
    """A record; what is missing or no number is an error that names it."""
    with open(path, encoding="utf-8") as f:
        record = json.load(f)
    for key in ("measured", "versions"):
        if key not in record:
            raise ValueError(f"{path}: has no {key!r}")
    if not ("ms" in record or "ratio" in record):
        raise ValueError(f"{path}: expected 'ms' or 'ratio'")
    for key in ("ms", "ratio"):
        for step, cells in record.get(key, {}).items():
            for cell, figures in cells.items():
                for peer, value in figures.items():
                    if not isinstance(value, (int, float)) or not 0 < value < 1e9:
                        raise ValueError(f"{path}: {key} of {step} {cell} {peer} is {value!r}, expected a number above 0")
                if key == "ms" and "nunatak" not in figures:
                    raise ValueError(f"{path}: {step} {cell} has no time of nunatak")
    for step, cells in record.get("ratio", {}).items() if "ms" in record else ():
        for cell, figures in cells.items():
            for peer, kept in figures.items():
                theirs, ours = pair(record, step, cell, peer)
                if abs(theirs / ours / kept - 1) > 0.01:  # what rounding to three digits may do
                    raise ValueError(f"{path}: {step} {cell} {peer}: {theirs} / {ours} is not {kept}")
    return record


def steps(record):
    """The steps that a record has, and its cells, in its order."""
    by_step = record.get("ms", record.get("ratio"))
    cells = list(dict.fromkeys(cell for by_cell in by_step.values() for cell in by_cell))
    return list(by_step), cells


def pair(record, step, cell, peer):
    """Their milliseconds and nunatak's, or None where there is no such time."""
    figures = record.get("ms", {}).get(step, {}).get(cell, {})
    theirs = [figures[name] for name in FORMATS.get(peer, (peer,)) if name in figures]
    return (min(theirs), figures["nunatak"]) if theirs else None


def ratio(record, step, cell, peer):
    """How many times as long they take, or None."""
    kept = record.get("ratio", {}).get(step, {}).get(cell, {}).get(peer)
    if kept:
        return kept
    both = pair(record, step, cell, peer)
    return both and both[0] / both[1]
