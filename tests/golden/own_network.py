#!/usr/bin/env python3
"""Writes nn/tests/golden/own_network.pth, PyTorch's state_dict of the network in nn/examples/own_network.rs, and
prints PyTorch's prediction for the example's images.

    python3 tests/golden/own_network.py nn/tests/golden/own_network.pth
"""
import sys

import torch
from torch import nn


class OwnNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.ModuleDict({"conv": nn.Conv2d(1, 8, 3, padding=1)})
        self.branches = nn.ModuleDict({
            "narrow": nn.Conv2d(8, 12, 3, padding=1, groups=4),
            "wide": nn.Conv2d(8, 4, 5, padding=2, groups=2),
        })
        self.head = nn.Linear(256, 2)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.stem["conv"](x).relu(), 2)
        narrow = nn.functional.silu(self.branches["narrow"](x))
        wide = nn.functional.hardswish(self.branches["wide"](x))
        return self.head(torch.cat([narrow, wide], 1).flatten(1))


def main():
    torch.manual_seed(7)
    network = OwnNetwork()
    side = [i * 7 // 3 % 2 for i in range(16)]
    pixels = [0.1 * ((i * 29 % 17) / 8 - 1) + (1.0 if i % 8 // 4 == side[i // 64] else 0.0) for i in range(16 * 64)]
    torch.save(network.state_dict(), sys.argv[1])
    with torch.no_grad():
        prediction = network(torch.tensor(pixels).reshape(16, 1, 8, 8))
    print(", ".join(f"{v:.7f}" for v in prediction.flatten()[:8].tolist()))


if __name__ == "__main__":
    main()
