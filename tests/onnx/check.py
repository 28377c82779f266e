#!/usr/bin/env python3
"""ONNX Runtime computes what `nunatak export --onnx` writes: are the logits nunatak's own?

    python3 -m venv onnx && onnx/bin/pip install numpy onnx onnxruntime     # once
    onnx/bin/python tests/onnx/check.py                                     # everything
    onnx/bin/python tests/onnx/check.py --quick                             # operations, and small networks at 64 x 64
    onnx/bin/python tests/onnx/check.py --networks resnet50,mobilenet_v2 --torch

1. Operations: the tests of nunatak-nn write a file for each (`NUNATAK_ONNX`), with inputs and what the executor gives.
2. Networks: weights are drawn, statistics are scrambled, and the logits of `nunatak step` are compared, for 1 and 3 images
   of both sizes. With --torch those of torchvision's model with the same state dict too (pip install torch torchvision).

Every file must pass `onnx.checker` with its full check. Two results agree where the largest difference is at most 1e-5 of
the largest number. It ends with code 1 where something disagrees.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5
NETWORKS = ["resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small", "resnet8"]
CLASSES = 10
# By how much a layer multiplies the squares of its numbers, before an activation. With 2 relu6 cuts off most of what
# MobileNetV2 computes, and PyTorch in float32 is 6e-6 from float64; with 1 mobilenet_v3_small gives each image the same logits.
GAIN = {"mobilenet_v2": 1.0}


def read_tensors(path):
    """The floats of a .safetensors, by name."""
    data = path.read_bytes()
    front = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:front]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[front + start : front + end], "<f4").reshape(entry["shape"])
    return tensors


def write_tensors(path, tensors):
    """Floats as a .safetensors."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [at, at + 4 * tensor.size]}
        at += 4 * tensor.size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(np.ascontiguousarray(tensor, "<f4").tobytes() for tensor in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def session(path):
    """Checks a file, and loads it into ONNX Runtime."""
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Report:
    """Lines of a table, and whether all agree."""

    def __init__(self):
        self.count, self.worst, self.failed = 0, 0.0, []

    def compare(self, what, got, due):
        """The largest difference as a share of the largest number; what is not finite must be the same."""
        got, due = np.asarray(got, np.float64).ravel(), np.asarray(due, np.float64).ravel()
        self.count += 1
        if got.shape != due.shape:
            self.failed.append(f"{what}: {got.size} numbers instead of {due.size}")
            return None
        finite = np.isfinite(due)
        if not np.array_equal(got[~finite], due[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
            self.failed.append(f"{what}: other numbers that are not finite")
            return None
        largest = np.abs(due[finite]).max(initial=0.0)
        apart = np.abs(got[finite] - due[finite]).max(initial=0.0)
        error = apart / largest if largest > 0 else apart
        self.worst = max(self.worst, error)
        if not error <= TOLERANCE:
            self.failed.append(f"{what}: {error:.1e} of the largest number")
        return error


def operations(report, folder):
    """Every operation, and networks of one's own, as the tests of nunatak-nn write them."""
    subprocess.run(
        ["cargo", "test", "-q", "-p", "nunatak-nn", "--test", "suite", "onnx::"],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "NUNATAK_ONNX": str(folder)},
    )
    files = sorted(folder.glob("*.onnx"))
    if not files:
        sys.exit("the tests of nunatak-nn wrote no file")
    for path in files:
        tensors = read_tensors(path.with_suffix(".safetensors"))
        due = tensors.pop("logits")
        model = session(path)
        (got,) = model.run(["logits"], tensors)
        report.compare(path.stem, got, due)
        # The number of images is free where the file says so, and nothing depends on the others.
        first = model.get_outputs()[0].shape[0]
        if first == "N":
            free = {i.name for i in model.get_inputs() if i.shape[0] == "N"}
            twice = {name: np.concatenate([x, x]) if name in free else x for name, x in tensors.items()}
            report.compare(f"{path.stem}, twice", model.run(["logits"], twice)[0], np.concatenate([got, got]))
    print(f"operations and own networks: {len(files)} files, at most {report.worst:.1e} of the largest number apart")


def scrambled(path, random, gain=2.0):
    """Numbers for the weights of a file that no layer hides: what goes in changes what comes out, and statistics are not
    those of a new network."""
    tensors = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        if "/" in tensor.name:
            continue  # a constant of an operation
        numbers = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        norm = tensor.name.endswith("weight") and numbers.ndim == 1
        if norm or tensor.name.endswith("running_var"):
            numbers = random.uniform(0.5, 1.5, numbers.shape)
        elif numbers.ndim == 1:
            numbers = random.normal(0.0, 0.1, numbers.shape)
        else:
            numbers = random.normal(0.0, np.sqrt(gain / numbers[0].size), numbers.shape)
        tensors[tensor.name] = np.asarray(numbers, np.float32)
    return tensors


def torchvision_logits(name, tensors, images):
    """What torchvision's model gives; None where it has not the model."""
    import torch
    import torchvision

    if not hasattr(torchvision.models, name):
        return None
    model = getattr(torchvision.models, name)(num_classes=CLASSES).eval()
    state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy()


def network(report, nunatak, name, size, batches, folder, with_torch):
    """One network at one size."""
    random = np.random.default_rng(size)
    drawn, weights, path = folder / "drawn.onnx", folder / "weights.safetensors", folder / f"{name}-{size}.onnx"
    run = lambda *words: subprocess.run([nunatak, "--quiet", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    of = ["--arch", name, "--classes", CLASSES]
    run("export", *of, "--size", size, "--onnx", drawn, "--overwrite")
    tensors = scrambled(drawn, random, GAIN.get(name, 2.0))
    write_tensors(weights, tensors)
    run("export", *of, "--size", size, "--weights", weights, "--onnx", path, "--overwrite")
    model = session(path)
    assert [(i.name, i.shape) for i in model.get_inputs()] == [("input", ["N", 3, size, size])]
    assert [(o.name, o.shape) for o in model.get_outputs()] == [("logits", ["N", CLASSES])]
    for batch in batches:
        images = random.normal(size=(batch, 3, size, size)).astype(np.float32)
        (got,) = model.run(["logits"], {"input": images})
        data, out = folder / "batch.safetensors", folder / "out.safetensors"
        write_tensors(data, {"input": images, "labels": np.zeros((batch, CLASSES), np.float32)})
        run("step", *of, "--weights", weights, "--input", data, "--mode", "eval", "--trainable", "none", "--out", out)
        what = f"{name}, {batch} x {size}"
        if batch > 1 and np.ptp(got, axis=0).max() < 0.01 * np.abs(got).max():
            report.failed.append(f"{what}: nothing is shown, all images have the same logits")
        errors = [report.compare(what, got, read_tensors(out)["prediction"])]
        if with_torch and (due := torchvision_logits(name, tensors, images)) is not None:
            errors.append(report.compare(f"{what}, PyTorch", got, due))
        print(f"{what:<32}", *("disagrees" if error is None else f"{error:.1e}" for error in errors), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="operations, and resnet8 and mobilenet_v3_small at 64 x 64")
    parser.add_argument("--networks", help="names with commas between", default=None)
    parser.add_argument("--torch", action="store_true", help="ask torchvision too")
    parser.add_argument("--program", help="nunatak; built where not given", default=None)
    parser.add_argument("--no-operations", action="store_true", help="networks alone")
    args = parser.parse_args()
    networks = args.networks.split(",") if args.networks else ["resnet8", "mobilenet_v3_small"] if args.quick else NETWORKS
    program = args.program
    if program is None:
        subprocess.run(["cargo", "build", "-q", "-p", "nunatak-cli"], cwd=ROOT, check=True)
        program = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "nunatak"
    report = Report()
    print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if not args.no_operations:
            (folder / "operations").mkdir()
            operations(report, folder / "operations")
        print(f"{'network, images x size':<32} nunatak" + (" PyTorch" if args.torch else ""))
        for name in networks:
            for size in [64] if args.quick else [64, 224]:
                network(report, program, name, size, [1, 3], folder, args.torch)
    print(f"{report.count} comparisons, at most {report.worst:.1e} apart; {len(report.failed)} disagree")
    for line in report.failed:
        print("DISAGREES", line)
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
