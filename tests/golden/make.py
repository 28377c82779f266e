"""Makes the goldens beside this file: `python make.py` (torch, torchvision, safetensors).

`steps/*.safetensors`: for each scenario images and labels, the initial state, what PyTorch computes in
float64 (stored as float32, which is 800 times finer than the tolerance), and in the metadata the
scenario and the yardsticks of the tolerance. `schedules.json`, `sgd.json`, `init.safetensors`: see the
functions.
"""

import json
import pathlib

import torch
import torchvision
from safetensors.torch import save_file

import reference

HERE = pathlib.Path(__file__).parent
STEM3 = dict(kernel=3, stride=1, pad=1, pool=False)


def recipe(layers, widths, in_channels=3, classes=5, stem=STEM3):
    return dict(layers=layers, widths=widths, stem=stem, in_channels=in_channels, classes=classes)


ODD = recipe([2, 1, 1], [8, 12, 20], classes=7)
SMALL = recipe([1, 1, 1], [5, 7, 9])
GREY = recipe([1, 2], [6, 11], in_channels=1, classes=3)
POOLED = recipe([1, 1], [4, 9], classes=4, stem=dict(kernel=7, stride=2, pad=3, pool=True))
WIDE = recipe([1, 1], [8, 33], classes=4)

DEFAULTS = dict(mode="train", trainable=["all"], loss="sum", steps=3, lr=0.01, momentum=0.9, dampening=0.0, weight_decay=0.0,
                nesterov=False, maximize=False)

# Name: recipe, n x c x h x w, what differs from DEFAULTS.
SCENARIOS = {
    "odd_sum": (ODD, (4, 3, 16, 16), dict(steps=5, lr=1e-4)),
    "odd_eval_frozen_stem": (ODD, (3, 3, 13, 11), dict(mode="eval", loss="cross-entropy", trainable=["layer2", "layer3", "fc"])),
    "small_mse": (SMALL, (4, 3, 12, 12), dict(loss="mse", momentum=0.0, weight_decay=0.05, lr=0.05, steps=4)),
    "small_cross_entropy": (SMALL, (5, 3, 12, 12), dict(loss="cross-entropy", momentum=0.9, nesterov=True, weight_decay=1e-3, steps=5)),
    "small_probabilities": (SMALL, (4, 3, 11, 14), dict(loss="probabilities", momentum=0.8, dampening=0.3, lr=0.02, steps=4)),
    "small_maximize": (SMALL, (4, 3, 12, 12), dict(loss="mse", maximize=True, weight_decay=0.01, momentum=0.5)),
    "small_head_only": (SMALL, (4, 3, 12, 12), dict(loss="cross-entropy", trainable=["fc"], lr=0.1, steps=5)),
    "small_norms_only": (SMALL, (4, 3, 12, 12), dict(loss="mse", trainable=["bn1", "layer1.0.bn1", "layer2.0.downsample.1", "layer3.0.bn2"])),
    "small_middle_only": (SMALL, (4, 3, 12, 12), dict(loss="mse", trainable=["layer2"])),
    "small_first_conv_only": (SMALL, (4, 3, 12, 12), dict(loss="mse", trainable=["conv1"])),
    "small_all_frozen": (SMALL, (4, 3, 12, 12), dict(loss="mse", trainable=["none"])),
    "grey_eval": (GREY, (2, 1, 9, 9), dict(mode="eval", loss="mse", weight_decay=1e-2)),
    "grey_train": (GREY, (6, 1, 9, 9), dict(loss="cross-entropy", dampening=0.5)),
    "pooled_train": (POOLED, (3, 3, 40, 36), dict(loss="cross-entropy", nesterov=True)),
    "pooled_batch_of_one": (POOLED, (1, 3, 37, 33), dict(loss="sum", lr=1e-3)),
    "wide_train": (WIDE, (2, 3, 18, 18), dict(loss="mse", lr=0.05)),
}


def make_step(name, number):
    """Takes the first seed at which no relu stands at rounding distance from its kink: there the
    tolerance is at its firmest, where a flipped sign would have widened it to several percent."""
    for attempt in range(30):
        first, rest, tensors, scenario = try_step(name, number + 100 * attempt)
        if 4 * rest <= 2e-4:
            break
    metadata = {"scenario": json.dumps(scenario), "first": repr(first), "rest": repr(rest)}
    path = HERE / "steps" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path, metadata)
    path.chmod(0o644)
    print(f"{name}: attempt {attempt}, float32 {first:.1e}, Y {rest:.1e}, {path.stat().st_size} bytes")


def try_step(name, number):
    recipe, shape, options = SCENARIOS[name]
    scenario = dict(DEFAULTS, **options, recipe=recipe)
    model = reference.build(recipe, seed=number)
    # Statistics and gammas that differ from channel to channel, as in a trained network.
    g = torch.Generator().manual_seed(1000 + number)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.weight.data = 0.5 + torch.rand(m.weight.shape, generator=g)
            m.bias.data = 0.2 * torch.randn(m.bias.shape, generator=g)
            m.running_mean = 0.3 * torch.randn(m.bias.shape, generator=g)
            m.running_var = 0.5 + torch.rand(m.bias.shape, generator=g)
            m.num_batches_tracked.fill_(number)
    data, labels = reference.batch(shape, scenario["loss"], recipe["classes"], 2000 + number)
    truth = reference.run(scenario, model, data, labels)
    first, rest = reference.yardsticks(scenario, model, data, labels, truth, disturbed=24)
    tensors = {"input": data, "labels": labels}
    tensors |= {"initial." + k: v.clone().contiguous() for k, v in model.state_dict().items()}
    tensors |= {k: v.to(torch.int64 if "num_batches" in k else torch.float32) for k, v in truth.items()}
    return first, rest, tensors, scenario


def make_init():
    """Some numbers of every parameter of torchvision's networks, as a seed makes them."""
    tensors = {}
    for arch, seed, classes in [("resnet18", 0, 1000), ("resnet34", 3, 10)]:
        torch.manual_seed(seed)
        model = getattr(torchvision.models, arch)(num_classes=classes)
        for name, p in model.named_parameters():
            flat = p.detach().flatten()
            if "bn" in name or "downsample.1" in name:
                continue  # ones and zeros
            n = flat.numel()
            # Eight at both ends (the end is drawn twice), and eight spread with an odd stride.
            at = torch.cat([torch.arange(min(8, n)), torch.arange(max(0, n - 8), n), (torch.arange(8) * 104729 + 17) % n])
            tensors[f"{arch}.{name}"] = torch.cat([flat[at].double(), flat.double().sum()[None], flat.double().square().sum()[None]])
    save_file(tensors, HERE / "init.safetensors")
    (HERE / "init.safetensors").chmod(0o644)


def make_schedules():
    """Learning rates of torch.optim.lr_scheduler, from a base rate of 1."""
    from torch.optim import lr_scheduler as s

    def rates(make, units):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make(optimizer)
        out = []
        for _ in range(units):
            out.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return out

    # OneCycleLR refuses a step past its last.
    out = [
        dict(kind="step", size=3, gamma=0.1, rates=rates(lambda o: s.StepLR(o, 3, 0.1), 12)),
        dict(kind="step", size=1, gamma=0.97, rates=rates(lambda o: s.StepLR(o, 1, 0.97), 40)),
        dict(kind="multistep", milestones=[2, 5, 5, 9], gamma=0.5, rates=rates(lambda o: s.MultiStepLR(o, [2, 5, 5, 9], 0.5), 12)),
        dict(kind="cosine", total=10, floor=0.0, rates=rates(lambda o: s.CosineAnnealingLR(o, 10), 11)),
        dict(kind="cosine", total=37, floor=0.05, rates=rates(lambda o: s.CosineAnnealingLR(o, 37, 0.05), 38)),
    ]
    for total, rise, div, final_div in [(10, 0.3, 25.0, 1e4), (100, 0.3, 25.0, 1e4), (37, 0.1, 10.0, 100.0), (5, 0.5, 25.0, 1e4), (4, 0.3, 25.0, 1e4),
                                        (1000, 0.25, 4.0, 10.0), (3, 0.3, 25.0, 1e4), (20, 0.05, 25.0, 1e4)]:
        make = lambda o: s.OneCycleLR(o, 1.0, total_steps=total, pct_start=rise, div_factor=div, final_div_factor=final_div, cycle_momentum=False)
        try:
            one = []
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            schedule = make(optimizer)
            for i in range(total):
                one.append(schedule.get_last_lr()[0])
                optimizer.step()
                if i + 1 < total:
                    schedule.step()
        except ZeroDivisionError:
            print(f"torch itself divides by zero for OneCycleLR of {total} steps")
            continue
        out.append(dict(kind="onecycle", total=total, rise=rise, div=div, final_div=final_div, rates=one))
    (HERE / "schedules.json").write_text(json.dumps(out, indent=0) + "\n")


def make_sgd():
    """torch.optim.SGD in float64 on three numbers with given gradients, null where there is none; and
    clip_grad_norm_ before each step."""
    out = []
    g = torch.Generator().manual_seed(5)
    for i in range(40):
        pick = lambda *values: values[int(torch.randint(len(values), (), generator=g))]
        o = dict(lr=pick(0.0, 0.1, 1.0), momentum=pick(0.0, 0.5, 0.9), weight_decay=pick(0.0, 0.1), maximize=pick(False, True))
        o["nesterov"] = pick(False, True) and o["momentum"] > 0
        o["dampening"] = 0.0 if o["nesterov"] else pick(0.0, 0.25)
        clip = pick(None, 0.5, 100.0)
        start = torch.randn(3, generator=g)
        steps = [pick(None, torch.zeros(3), torch.randn(3, generator=g), torch.randn(3, generator=g)) for _ in range(6)]
        p = torch.nn.Parameter(start.double())
        sgd = torch.optim.SGD([p], **o)
        after, norms = [], []
        for grad in steps:
            p.grad = None if grad is None else grad.double()
            norms.append(None if clip is None or grad is None else torch.nn.utils.clip_grad_norm_([p], clip).item())
            sgd.step()
            after.append(p.detach().tolist())
        out.append(dict(options=o, clip=clip, start=start.tolist(), gradients=[None if s is None else s.tolist() for s in steps], after=after, norms=norms))
    (HERE / "sgd.json").write_text("[\n" + ",\n".join(json.dumps(o) for o in out) + "\n]\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_sgd()
    make_schedules()
    make_init()
    for number, name in enumerate(SCENARIOS):
        make_step(name, number)
