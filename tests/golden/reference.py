"""The reference: PyTorch, run the ways that the tolerance of the semantics asks for.

A scenario is a dictionary:
  recipe     "resnet18", "resnet34", "resnet8", or {"layers", "widths", "stem": {"kernel", "stride",
             "pad", "pool"}, "in_channels", "classes"} (the JSON of the program)
  mode       "train" or "eval"
  trainable  ["all"], ["none"] or prefixes of names
  loss       "sum", "mse", "cross-entropy", "probabilities"
  steps      how many
  lr, momentum, dampening, weight_decay, nesterov, maximize
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

NAMED = {
    "resnet18": dict(layers=[2, 2, 2, 2], widths=[64, 128, 256, 512], stem=dict(kernel=7, stride=2, pad=3, pool=True), in_channels=3),
    "resnet34": dict(layers=[3, 4, 6, 3], widths=[64, 128, 256, 512], stem=dict(kernel=7, stride=2, pad=3, pool=True), in_channels=3),
    "resnet8": dict(layers=[1, 1, 1], widths=[16, 32, 64], stem=dict(kernel=3, stride=1, pad=1, pool=False), in_channels=3),
}
SGD = ["lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"]


class Block(nn.Module):
    """torchvision's BasicBlock."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        # The order in which layers are made is the order of the random draws; names sort otherwise.
        down = None
        if stride != 1 or inputs != outputs:
            down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = down

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """torchvision's ResNet for any recipe of basic blocks."""

    def __init__(self, layers, widths, stem, in_channels, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], stem["kernel"], stem["stride"], stem["pad"], bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.pool = stem["pool"]
        self.count = len(layers)
        inputs = widths[0]
        for i, (count, width) in enumerate(zip(layers, widths)):
            blocks = []
            for b in range(count):
                blocks.append(Block(inputs, width, 2 if i > 0 and b == 0 else 1))
                inputs = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.pool:
            x = F.max_pool2d(x, 3, 2, 1)
        for i in range(self.count):
            x = getattr(self, f"layer{i + 1}")(x)
        return self.fc(x.mean((2, 3)) if x.dtype == torch.float64 else F.adaptive_avg_pool2d(x, 1).flatten(1))


def build(recipe, classes=None, seed=0):
    recipe = copy.deepcopy(NAMED[recipe] if isinstance(recipe, str) else recipe)
    if classes is not None:
        recipe["classes"] = classes
    torch.manual_seed(seed)
    return ResNet(**recipe)


def is_trainable(name, trainable):
    if trainable == ["all"]:
        return True
    return any(name == t or name.startswith(t + ".") for t in trainable)


def loss_of(kind, prediction, labels):
    match kind:
        case "sum":
            return (prediction - labels).sum()
        case "mse":
            return F.mse_loss(prediction, labels)
        case "cross-entropy" | "probabilities":
            return F.cross_entropy(prediction, labels)
    raise ValueError(kind)


VARIANTS = ["contiguous", "channels_last", "no_mkldnn"]


def run(scenario, model, data, labels, *, dtype=torch.float64, variant="contiguous", noise=None):
    """One run: a dictionary of float64 tensors, named as the program names what it writes.

    `noise` is a generator: every convolution's output is disturbed by 3e-7 of its largest value.
    """
    model = copy.deepcopy(model).to(dtype)
    data = data.to(dtype)
    if labels.is_floating_point():
        labels = labels.to(dtype)
    if variant == "channels_last":
        model, data = model.to(memory_format=torch.channels_last), data.to(memory_format=torch.channels_last)
    model.train(scenario["mode"] == "train")
    for name, p in model.named_parameters():
        p.requires_grad_(is_trainable(name, scenario["trainable"]))
    if noise is not None:

        def disturb(module, args, y):
            return y + torch.randn(y.shape, generator=noise, dtype=y.dtype) * (3e-7 * y.detach().abs().max())

        for m in model.modules():
            if isinstance(m, nn.Conv2d):
                m.register_forward_hook(disturb)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    sgd = torch.optim.SGD(trained.values(), **{k: scenario[k] for k in SGD if k in scenario}) if trained else None
    out, losses = {}, []
    with torch.backends.mkldnn.flags(enabled=variant != "no_mkldnn"):
        for step in range(scenario["steps"]):
            prediction = model(data)
            loss = loss_of(scenario["loss"], prediction, labels)
            losses.append(loss.detach().double())
            if sgd is not None:
                sgd.zero_grad()
                loss.backward()
            if step == 0:
                out["prediction"] = prediction.detach().double().clone()
                for name, p in trained.items():
                    out["grad." + name] = p.grad.detach().double().clone()
            if sgd is not None:
                sgd.step()
    out["loss"] = torch.stack(losses)
    for name, value in model.state_dict().items():
        out["state." + name] = value.detach().double().clone()
    for name, p in trained.items():
        buffer = sgd.state[p].get("momentum_buffer")
        if buffer is not None:
            out["momentum." + name] = buffer.detach().double().clone()
    return {k: v.contiguous() for k, v in out.items()}


def distance(got, truth):
    """max|difference| / max|truth|; infinite where one is not finite and the other is."""
    got, truth = got.double().flatten(), truth.double().flatten()
    if got.numel() != truth.numel():
        return float("inf")
    difference = (got - truth).abs()
    difference = torch.where(got.isnan() & truth.isnan() | (got == truth), 0.0, difference)
    scale = truth.abs().max().item() or 1.0
    worst = (difference / scale).max().item()
    return float("inf") if worst != worst else worst


def distances(got, truth):
    """d of the first prediction and loss, and the largest d of everything else."""
    first = max(distance(got["prediction"], truth["prediction"]), distance(got["loss"][:1], truth["loss"][:1]))
    rest = {k: distance(got[k], t) for k, t in truth.items() if k not in ("prediction", "loss")}
    for i in range(1, len(truth["loss"])):
        rest[f"loss[{i}]"] = distance(got["loss"][i : i + 1], truth["loss"][i : i + 1])
    worst = max(rest, key=rest.get, default="")
    return first, rest.get(worst, 0.0), worst


def yardsticks(scenario, model, data, labels, truth, disturbed=6):
    """PyTorch float32's d of the first prediction and loss, and Y."""
    first, rest = 0.0, 0.0
    for variant in VARIANTS:
        d = distances(run(scenario, model, data, labels, dtype=torch.float32, variant=variant), truth)
        first, rest = max(first, d[0]), max(rest, d[1])
    for seed in range(disturbed):
        noise = torch.Generator().manual_seed(seed)
        rest = max(rest, distances(run(scenario, model, data, labels, noise=noise), truth)[1])
    return first, rest


def batch(shape, loss, classes, seed):
    """Images and labels as a user would make them: uniform in [0, 1)."""
    g = torch.Generator().manual_seed(seed)
    data = torch.rand(shape, generator=g)
    n = shape[0]
    if loss == "cross-entropy":
        return data, torch.randint(0, classes, (n,), generator=g)
    labels = torch.rand((n, classes), generator=g)
    return data, labels / labels.sum(1, keepdim=True) if loss == "probabilities" else labels
