# Writes what PyTorch computes in a few training steps into one file, for `nunatak verify`:
#     pip install torch torchvision safetensors
#     python3 trace.py --arch resnet18 --out trace.safetensors
# It computes in float64. In float32, PyTorch's own gradients can be 1 % from the truth: where a number lies at the kink of a
# relu, or two are equal in a max-pool, rounding decides which way the gradient goes. Then nobody could tell whose difference
# it is. How far a float32 run and disturbed float64 runs are from the float64 run is measured too; four times that is the
# tolerance of `nunatak verify`.
import argparse, copy, json, torch, torchvision
from safetensors.torch import load_file, save_file

p = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
for name, value, text in [
    ("arch", "resnet18", "torchvision's name of the model"), ("weights", "", "state dict, .pth or .safetensors"),
    ("classes", 1000, "outputs"), ("batch", 4, "images"), ("size", 64, "rows and columns of an image"), ("seed", 0, "of weights and images"),
    ("loss", "cross-entropy", "or sum, or mse"), ("mode", "train", "or eval"), ("steps", 2, "of SGD"), ("lr", 0.001, "learning rate"),
    ("momentum", 0.9, "of SGD"), ("weight-decay", 0.0, "of SGD"), ("disturbed", 2, "runs"), ("out", "trace.safetensors", "the file"),
]:  # fmt: skip
    p.add_argument("--" + name, type=type(value), default=value, help=text)
p.add_argument("--double", action=argparse.BooleanOptionalAction, default=True, help="compute in float64")
a = p.parse_args()
torch.manual_seed(a.seed)
model = torchvision.models.get_model(a.arch, weights=None, num_classes=a.classes)
if a.weights:
    model.load_state_dict(load_file(a.weights) if a.weights.endswith(".safetensors") else torch.load(a.weights, weights_only=True))
start, images = copy.deepcopy(model.state_dict()), torch.rand(a.batch, 3, a.size, a.size)
labels = torch.randint(a.classes, (a.batch,)) if a.loss == "cross-entropy" else torch.rand(a.batch, a.classes)
F = torch.nn.functional
loss_of = {"sum": lambda y, t: (y - t).sum(), "mse": F.mse_loss, "cross-entropy": F.cross_entropy}[a.loss]


def run(dtype, noise=0.0):
    net, out, losses = copy.deepcopy(model).to(dtype).train(a.mode == "train"), {}, []
    head = None

    def convolved(name, y):  # only the first forward is kept
        y = y + noise * y.detach().abs().max() * torch.randn_like(y) if noise else y
        out.setdefault("forward." + name, y.detach().clone())
        return y

    for name, m in net.named_modules():
        if isinstance(m, torch.nn.Conv2d):
            m.register_forward_hook(lambda m, x, y, name=name: convolved(name, y))
        head = m if isinstance(m, torch.nn.Linear) else head
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.0  # PyTorch's random numbers are its own
    head.register_forward_pre_hook(lambda m, x: (out.setdefault("features", x[0].detach().clone()),) and None)
    sgd = torch.optim.SGD(net.parameters(), lr=a.lr, momentum=a.momentum, weight_decay=a.weight_decay)
    for step in range(a.steps):
        prediction = net(images.to(dtype))
        loss = loss_of(prediction, labels.to(dtype) if labels.is_floating_point() else labels)
        losses.append(loss.detach())
        sgd.zero_grad()
        loss.backward()
        if step == 0:
            out["prediction"] = prediction.detach()
            out |= {"grad." + name: w.grad.clone() for name, w in net.named_parameters()}
        sgd.step()
    out |= {"loss": torch.stack(losses)} | {"state." + name: w for name, w in net.state_dict().items()}
    return out | {"momentum." + name: sgd.state[w]["momentum_buffer"] for name, w in net.named_parameters() if a.momentum}


def far(x, keys):  # the largest difference as a share of the tensor's largest number, of several tensors
    pairs = [(x[k].double(), truth[k].double(), scale[k]) for k in keys]
    pairs.append((x["loss"][:1].double(), truth["loss"][:1].double(), truth["loss"][0].abs().item()))
    return max((x - t).abs().max().item() / (most or 1.0) for x, t, most in pairs)


truth = run(torch.float64 if a.double else torch.float32)
other = run(torch.float32 if a.double else torch.float64)
own, kinds = {k: t.abs().max().item() for k, t in truth.items()}, {}
for k, most in own.items():
    kinds[k.split(".")[0]] = max(most, kinds.get(k.split(".")[0], 0.0))
# What is 0 but for rounding (the gradient of a shift before a normalisation) is measured by the largest of its kind.
none = 1e-10 if a.double else 1e-5
scale = {k: most if most > none * kinds[k.split(".")[0]] else kinds[k.split(".")[0]] for k, most in own.items()}
first = [k for k in truth if k.startswith(("forward.", "features", "prediction"))]
rest = [k for k in truth if k not in first]
spread = max(far(x, rest) for x in [other] + [run(torch.float64, 3e-7) for _ in range(a.disturbed)])
keys = ["arch", "loss", "mode", "steps", "lr", "momentum", "weight_decay", "double"]
settings = {k: getattr(a, k) for k in keys} | {"first": far(other, first), "rest": spread, "torch": torch.__version__}
tensors = {"input": images, "labels": labels} | {"start." + k: w for k, w in start.items()} | truth
tensors = {k: (w.float() if w.is_floating_point() else w).detach().contiguous() for k, w in tensors.items()}
save_file(tensors, a.out, metadata={"nunatak.trace": json.dumps(settings)})
print(f"{a.out}: {len(tensors)} tensors; now: nunatak verify {a.out}")
