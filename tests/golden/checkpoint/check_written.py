"""Judges files that nunatak wrote: python check_written.py FOLDER

FOLDER holds resnet18.pth and resnet18.safetensors (see nn/tests/suite/checkpoint_resnet18.rs).
"""
import sys

import torch
import torchvision
from safetensors.torch import load_file

folder = sys.argv[1]
model = torchvision.models.resnet18()
names = list(model.state_dict())
for state in (torch.load(f"{folder}/resnet18.pth", weights_only=True), load_file(f"{folder}/resnet18.safetensors")):
    print(model.load_state_dict(state, strict=True), type(state).__name__)
    for e, name in enumerate(names):
        got = state[name]
        if got.dim() == 0:
            assert got.dtype == torch.int64 and got.item() == e, name
        else:
            want = ((e * 31 + torch.arange(got.numel()) * 7) % 4096).float() / 1024 - 2
            assert torch.equal(got.flatten(), want) and got.is_contiguous(), name
state = torch.load(f"{folder}/resnet18.pth", weights_only=True, mmap=True)
assert list(state) == names
print("all", len(names), "entries agree")
