"""Makes layouts/: one small ResNet in the forms in which people's training scripts save it.

python layouts.py (torch, safetensors, numpy). Every file but the `two_*` and `other_*` holds the same network, whose
numbers are in base.safetensors under torchvision's names.
"""
import argparse
import collections
import copy
import datetime
import functools
import os
import pathlib
import random
import sys
import types
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import reference  # noqa: E402

os.chdir(HERE / "layouts")
RECIPE = dict(layers=[1, 1], widths=[4, 6], stem=dict(kernel=3, stride=1, pad=1, pool=False), in_channels=3, classes=3)


def build(seed):
    model = reference.build(RECIPE, seed=seed)
    g = torch.Generator().manual_seed(seed)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean = torch.randn(m.bias.shape, generator=g)
            m.running_var = 0.5 + torch.rand(m.bias.shape, generator=g)
            m.num_batches_tracked.fill_(seed)
    return model


model = build(7)
state = model.state_dict()
before = copy.deepcopy(state)
save_file({k: v.clone() for k, v in state.items()}, "base.safetensors")
other = build(8).state_dict()


def prefixed(*prefixes, of=state):
    return collections.OrderedDict(("".join(prefixes) + k, v) for k, v in of.items())


def renamed(rename, of=state):
    return collections.OrderedDict((rename(k), v) for k, v in of.items())


# What stands beside the weights.
parser = argparse.ArgumentParser()
args = argparse.Namespace(lr=0.1, data=pathlib.PosixPath("data"), device=torch.device("cpu"), dtype=torch.float16, arch="resnet18")
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model(torch.randn(2, 3, 8, 8)).sum().backward()
optimizer.step()
adam = torch.optim.Adam(model.parameters())
for p in model.parameters():
    p.grad = torch.ones_like(p)
adam.step()
model.load_state_dict(before)
state = model.state_dict()
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
beside = {
    "args": args, "epoch": 3, "best": np.float64(93.5), "acc": np.float32(0.5), "count": np.int64(4), "array": np.arange(3.0),
    "path": pathlib.PosixPath("runs/a"), "size": torch.Size([3, 4]), "counter": collections.Counter("abca"),
    "history": collections.defaultdict(list, loss=[1.0, 0.5]), "when": datetime.datetime(2024, 5, 6), "range": range(3),
    "rng": torch.get_rng_state(), "np_rng": np.random.get_state(), "py_rng": random.getstate(), "complex": 1 + 2j,
    "slice": slice(1, 2), "fn": functools.partial(max, 1), "lambda_of": torch.relu, "names": {"a", "b"}, "frozen": frozenset("ab"),
    "queue": collections.deque([1, 2]), "simple": types.SimpleNamespace(a=1), "bytes": b"\xff\x00", "none": None, "odd": {1: 2},
    "loss": torch.tensor(0.25), "dtype": torch.bfloat16, "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
    "complex_tensor": torch.ones(2, dtype=torch.complex64), "sparse": torch.eye(2).to_sparse(),
    "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "expanded": torch.ones(1).expand(5),
    "float8": torch.ones(2).to(torch.float8_e4m3fn), "uint16": torch.ones(2, dtype=torch.uint16),
}


def save(name, thing, **options):
    torch.save(thing, name + ".pth", **options)


# Training scripts of every kind.
save("beside", dict(beside, model=state))
save("beside_protocol4", dict(beside, state_dict=state), pickle_protocol=4)
save("beside_legacy", {k: v for k, v in dict(beside, state_dict=state).items() if k not in ("sparse", "quantised")},
     _use_new_zipfile_serialization=False)
for key in ["model_state_dict", "params_ema"]:
    save("under_" + key, {key: state, "epoch": 1, "loss": torch.tensor(0.5)})
save("deep", {"trainer": {"run": [{"epoch": 1}, {"nets": {"student": state}}]}})
save("tuple", (state, 12))
save("adam", {"net": state, "optimizer": adam.state_dict()})
save("scalar_beside", {"loss": torch.tensor(1.0), "net": state})
save("lightning", {"epoch": 1, "state_dict": dict(prefixed("model."), **{"criterion.weight": torch.ones(3)}), "loops": {}, "callbacks": {},
                   "hyper_parameters": dict(lr=0.1), "pytorch-lightning_version": "2.0.0", "optimizer_states": [adam.state_dict()]})
save("compiled_ddp", prefixed("module.", "_orig_mod."))
save("own_prefix", prefixed("encoder.backbone.net."))
averaged = torch.optim.swa_utils.AveragedModel(model)
save("swa", averaged.state_dict())
shadow = {k: v.clone() for k, v in model.named_parameters()}
save("shadow", {"model": state, "ema": {"decay": 0.99, "shadow": shadow}})
save("same_twice", {"model": state, "net": state})

# Names of others.
save("sequential", nn.Sequential(*[getattr(model, n, nn.Identity()) for n in ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2"]]).state_dict())


def hugging_face(name):
    name = name.replace("fc.", "classifier.1.")
    name = name.replace("conv1.weight", "resnet.embedder.embedder.convolution.weight") if name == "conv1.weight" else name
    if name.startswith("bn1."):
        name = "resnet.embedder.embedder.normalization." + name[4:]
    parts = name.split(".")
    if parts[0].startswith("layer"):
        head = f"resnet.encoder.stages.{int(parts[0][5:]) - 1}.layers.{parts[1]}."
        if parts[2] == "downsample":
            return head + "shortcut." + ("convolution." if parts[3] == "0" else "normalization.") + parts[4]
        kind = "convolution." if parts[2].startswith("conv") else "normalization."
        return head + f"layer.{int(parts[2][-1]) - 1}." + kind + parts[3]
    return name


save_file({hugging_face(k): v.clone() for k, v in state.items()}, "hugging_face.safetensors", {"format": "pt"})
save("hugging_face_lightning", {"state_dict": prefixed("model.", of=renamed(hugging_face))})
save("cifar", {"net": prefixed("module.", of=renamed(lambda k: k.replace("downsample", "shortcut").replace("fc.", "linear."))), "acc": 93.2,
               "epoch": 199})


def cifar100(name):
    parts = name.split(".")
    if parts[0] in ("conv1", "bn1"):
        return f"conv1.{0 if parts[0] == 'conv1' else 1}." + parts[1]
    if parts[0].startswith("layer"):
        head = f"conv{int(parts[0][5:]) + 1}_x.{parts[1]}."
        if parts[2] == "downsample":
            return head + "shortcut." + ".".join(parts[3:])
        return head + f"residual_function.{ {'conv1': 0, 'bn1': 1, 'conv2': 3, 'bn2': 4}[parts[2]]}." + parts[3]
    return name


save("cifar100", renamed(cifar100))
save("wrapped_head", renamed(lambda k: k.replace("fc.", "fc.1.")))

# Types.
save("half", {k: v.half() if v.is_floating_point() else v for k, v in state.items()})
save("double", {k: v.double() if v.is_floating_point() else v for k, v in state.items()})
save("float_counters", {k: v.float() if "num_batches" in k else v for k, v in state.items()})
save("counters_of_one", {k: v.reshape(1) if "num_batches" in k else v for k, v in state.items()})
save("int32_counters", {k: v.int() if "num_batches" in k else v for k, v in state.items()})
save("parameters", collections.OrderedDict((k, nn.Parameter(v) if v.is_floating_point() else v) for k, v in state.items()))

# A whole module, from a script of its own.
module = types.ModuleType("resnet_of_a_script")
sys.modules["resnet_of_a_script"] = module


def adopt(m):
    """Gives the network's own classes a module that no one else has."""
    for child in m.modules():
        kind = type(child)
        if not kind.__module__.startswith("torch.") and kind.__module__ != "resnet_of_a_script":
            kind.__module__ = "resnet_of_a_script"
            setattr(module, kind.__qualname__, kind)


adopt(model)
save("module", model)
save("module_protocol4", model, pickle_protocol=4)
save("module_legacy", model, _use_new_zipfile_serialization=False)
save("module_ddp", {"epoch": 3, "model": nn.DataParallel(model)})

# Containers as other programs write them.
save("plain", state)
with zipfile.ZipFile("plain.pth") as source, zipfile.ZipFile("deflated.pth", "w", zipfile.ZIP_DEFLATED) as out:
    for item in source.infolist():
        if item.filename.count("/") == 1 and not any(n.endswith("/") for n in out.namelist()):
            folder = zipfile.ZipInfo(item.filename.split("/")[0] + "/")
            folder.external_attr = 0o40755 << 16 | 0x10
            out.writestr(folder, b"")
        out.writestr(item.filename, source.read(item.filename))
raw = pathlib.Path("plain.pth").read_bytes()
pathlib.Path("trailing.pth").write_bytes(raw + b"\0" * 100 + b"signature")

# What can't be chosen without being told, and what is another network.
save("two_dicts", {"model": state, "model_ema": other, "epoch": 2})
save("two_prefixes", dict(prefixed("encoder_q."), **prefixed("encoder_k.", of=other)))
save("two_unknown", {"generator": {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(3)},
                     "discriminator": {"a.weight": torch.zeros(2, 2), "c.weight": torch.ones(3)}})
head = collections.OrderedDict((k, v) for k, v in state.items() if not k.startswith("fc."))
head["fc.0.weight"], head["fc.0.bias"] = torch.ones(5, 6), torch.ones(5)
head["fc.3.weight"], head["fc.3.bias"] = torch.ones(3, 5), torch.ones(3)
save("other_head", {"state_dict": head})
quantised = dict(state)
quantised["conv1.weight"] = torch.quantize_per_tensor(state["conv1.weight"], 0.1, 0, torch.qint8)
save("other_quantised", quantised)
