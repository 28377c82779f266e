"""Makes the fixtures in this folder: python make.py (torch and safetensors; made with torch 2.15).

Element i of a tensor is i / 4 - 1 (integers: i - 2), so the tests need no second file.
"""
import os
from collections import OrderedDict

import torch
from safetensors.torch import save_file

os.chdir(os.path.dirname(os.path.abspath(__file__)))


def ramp(*shape, dtype=torch.float32):
    n = 1
    for d in shape:
        n *= d
    if dtype == torch.bool:
        return (torch.arange(n) % 2 == 1).reshape(shape)
    if dtype.is_floating_point:
        return (torch.arange(n) / 4 - 1).to(dtype).reshape(shape)
    return (torch.arange(n) + (0 if dtype == torch.uint8 else -2)).to(dtype).reshape(shape)


torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
for p in model.parameters():
    p.data = ramp(*p.shape)
state = model.state_dict()
torch.save(state, "zip.pth")
torch.save(state, "legacy.pth", _use_new_zipfile_serialization=False)
torch.save(state, "zip_protocol4.pth", pickle_protocol=4)
torch.save(state, "zip_protocol5.pth", pickle_protocol=5)
torch.save(state, "legacy_protocol4.pth", _use_new_zipfile_serialization=False, pickle_protocol=4)
save_file(state, "small.safetensors", {"format": "pt", "made by": "make.py"})

opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model(torch.ones(4, 3)).sum().backward()
before = {k: v.clone() for k, v in state.items()}
opt.step()
model.load_state_dict(before)
checkpoint = {"epoch": 3, "arch": "resnet18", "losses": [0.5, 0.25, None], "state_dict": model.state_dict(),
              "best": 0.75, "optimizer": opt.state_dict(), 7: ("x", {1, 2}), "raw": b"\xff"}
# A set is a global (builtins.set) up to protocol 3 and an opcode from 4 on.
torch.save(checkpoint, "nested.pth", pickle_protocol=4)
del checkpoint[7], checkpoint["raw"]
torch.save(checkpoint, "nested_legacy.pth", _use_new_zipfile_serialization=False)
torch.save({"model": torch.nn.DataParallel(model).state_dict(), "epoch": 3}, "model_module.pth")

types = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
         torch.int8, torch.uint8, torch.bool]
dtypes = OrderedDict((str(t).removeprefix("torch."), ramp(2, 3, dtype=t)) for t in types)
torch.save(dtypes, "dtypes.pth")
torch.save(dtypes, "dtypes_legacy.pth", _use_new_zipfile_serialization=False)
save_file(dtypes, "dtypes.safetensors")

base = ramp(4, 6)
views = OrderedDict(base=base, again=base, row=base[2], transposed=base.t(), inner=base[1:3, 2:5], column=base[:, 1],
                    stepped=base[::2, ::3], scalar=base[0, 5], empty=base[:0], none=torch.zeros(0, 3))
torch.save(views, "views.pth")
torch.save(views, "views_legacy.pth", _use_new_zipfile_serialization=False)

odd = torch.nn.Parameter(ramp(3))
odd.note = "plain data"  # makes torch write _rebuild_parameter_with_state
torch.save(OrderedDict(plain=torch.nn.Parameter(ramp(2, 2)), noted=odd), "parameters.pth")
values = ramp(3).clone()
values[0], values[1], values[2] = float("nan"), float("inf"), float("-inf")
torch.save({"values": values}, "non_finite.pth")

# What is refused, whole or only where its numbers are asked for.
torch.save(torch.ones(2).expand(1000, 2), "refused_single.pth")
torch.save({"w": torch.ones(1).expand(1000)}, "expanded.pth")
torch.save(model, "module.pth")
torch.save({"w": torch.ones(2, dtype=torch.complex64)}, "complex.pth")
torch.save({"w": torch.ones(2, dtype=torch.complex64).conj().imag}, "negative_bit.pth")
torch.save({"net": model.state_dict()}, "under_net.pth")
torch.jit.script(model).save("refused_torchscript.pth")
