#!/usr/bin/env python3
"""Compares `.pth` files that the fuzzer made with what PyTorch reads in them.

    fuzz/compare_torch.py [--nunatak PROGRAM] [--at-most N] FOLDER...

Each file is tried as it is, and as a pickle in a good zip. Where `nunatak convert` and `torch.load(weights_only=True)` both
accept it, every tensor that nunatak writes must have PyTorch's shape and numbers. What one of them alone accepts is counted.
Ends with an error where a number differs. It needs torch and safetensors.
"""
import argparse
import collections
import io
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile

import torch
from safetensors import safe_open

warnings.filterwarnings("ignore")


def in_a_zip(pickle):
    """What `pth.rs` makes of an input: a pickle, and one storage of 24 bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", pickle)
        archive.writestr("a/data/0", bytes(24))
    return out.getvalue()


def tensors(value, path=(), depth=0):
    """Every tensor of a value with the keys that lead to it."""
    if isinstance(value, torch.Tensor):
        yield ".".join(path), value
    elif isinstance(value, collections.abc.Mapping) and depth < 50:
        for key, inner in value.items():
            yield from tensors(inner, (*path, str(key)), depth + 1)
    elif isinstance(value, (list, tuple)) and depth < 50:
        for i, inner in enumerate(value):
            yield from tensors(inner, (*path, str(i)), depth + 1)


def of_torch(bytes_):
    try:
        return list(tensors(torch.load(io.BytesIO(bytes_), map_location="cpu", weights_only=True)))
    except Exception:  # whatever a damaged file makes of it
        return None


def of_nunatak(program, bytes_, folder):
    path, out = os.path.join(folder, "in.pth"), os.path.join(folder, "out.safetensors")
    with open(path, "wb") as file:
        file.write(bytes_)
    if os.path.exists(out):
        os.remove(out)
    ended = subprocess.run([program, "convert", path, out], capture_output=True, timeout=60)
    if ended.returncode not in (0, 1, 2):
        sys.exit(f"nunatak ended with {ended.returncode}: {ended.stderr.decode(errors='replace')}")
    if ended.returncode != 0:
        return None
    with safe_open(out, "pt") as file:
        return [(name, file.get_tensor(name)) for name in file.keys()]


def same(ours, theirs):
    if list(ours.shape) != list(theirs.shape):
        return False
    theirs = theirs.to(ours.dtype).contiguous()
    # NaNs are the same, whatever their bits.
    return torch.equal(torch.nan_to_num(ours, nan=7.5), torch.nan_to_num(theirs, nan=7.5))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--nunatak", default="target/release/nunatak")
    parser.add_argument("--at-most", type=int, default=1 << 30)
    args = parser.parse_args()
    files = [os.path.join(folder, name) for folder in args.folders for name in sorted(os.listdir(folder))]
    files = [path for path in files if os.path.isfile(path)][: args.at_most]
    counts, different = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            with open(path, "rb") as file:
                content = file.read()
            for form, bytes_ in (("whole", content), ("pickle", in_a_zip(content))):
                ours, theirs = of_nunatak(args.nunatak, bytes_, folder), of_torch(bytes_)
                what = {(False, False): "refused by both", (True, False): "read here alone", (False, True): "read by PyTorch alone"}
                counts[what.get((ours is not None, theirs is not None), "read by both")] += 1
                if ours is None or theirs is None:
                    continue
                for name, ours_ in ours:
                    # Prefixes are taken away here, and names of other libraries are translated.
                    candidates = [tensor for _, tensor in theirs]
                    counts["tensors compared"] += 1
                    if not any(same(ours_, tensor) for tensor in candidates):
                        different.append(f"{path} ({form}): {name}")
    for what, count in sorted(counts.items()):
        print(f"{count:8} {what}")
    for line in different[:20]:
        print("DIFFERENT", line)
    sys.exit(1 if different else 0)


main()
