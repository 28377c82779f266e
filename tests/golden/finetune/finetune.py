"""The recipe of `nunatak finetune` as a plain PyTorch script, to compare with.

    python finetune.py DIR WEIGHTS.pth [--trainable layer4,fc] [--epochs 2] [--batch 32] [--lr 0.01]
                       [--size 224] [--bn batch|fixed] [--out FILE.pth]

DIR has train/ and val/. Prints what `--log` of the program writes: a line of JSON per step and epoch.
JPEG decoders differ by a step or two, so losses agree to the last digits on PNG only.
"""
import argparse, json, torch, torchvision
from torch import nn
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from torch.utils.data import DataLoader

p = argparse.ArgumentParser()
p.add_argument("dir"); p.add_argument("weights")
p.add_argument("--trainable", default="fc"); p.add_argument("--epochs", type=int, default=2)
p.add_argument("--batch", type=int, default=32); p.add_argument("--lr", type=float, default=0.01)
p.add_argument("--momentum", type=float, default=0.9); p.add_argument("--seed", type=int, default=0)
p.add_argument("--size", type=int, default=224); p.add_argument("--bn", default="fixed")
p.add_argument("--clip", type=float); p.add_argument("--smoothing", type=float, default=0.0)
p.add_argument("--out")
a = p.parse_args()

preset = T.Compose([T.Resize(a.size * 256 // 224), T.CenterCrop(a.size), T.ToTensor(),
                    T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
train, val = (ImageFolder(f"{a.dir}/{part}", preset) for part in ("train", "val"))

model = torchvision.models.resnet18()
model.load_state_dict(torch.load(a.weights, weights_only=True))
torch.manual_seed(a.seed)
model.fc = nn.Linear(model.fc.in_features, len(train.classes))
wanted = a.trainable.split(",")
for name, q in model.named_parameters():
    q.requires_grad = a.trainable == "all" or any(name == w or name.startswith(w + ".") for w in wanted)
optimizer = torch.optim.SGD([q for q in model.parameters() if q.requires_grad], lr=a.lr, momentum=a.momentum)

for epoch in range(1, a.epochs + 1):
    model.train()
    if a.bn == "fixed":
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d) and not m.weight.requires_grad:
                m.eval()
    loader = DataLoader(train, batch_size=a.batch, shuffle=True)
    for step, (x, y) in enumerate(loader, 1):
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y, label_smoothing=a.smoothing)
        optimizer.zero_grad(); loss.backward()
        if a.clip:
            nn.utils.clip_grad_norm_([q for q in model.parameters() if q.requires_grad], a.clip)
        optimizer.step()
        print(json.dumps({"event": "step", "epoch": epoch, "step": step, "of": len(loader), "loss": loss.item(),
                          "right": int((logits.argmax(1) == y).sum()), "images": len(y)}), flush=True)
    model.eval()
    right, total = 0, 0.0
    with torch.no_grad():
        for x, y in DataLoader(val, batch_size=a.batch):
            logits = model(x)
            right += int((logits.argmax(1) == y).sum())
            total += nn.functional.cross_entropy(logits, y, reduction="sum").item()
    print(json.dumps({"event": "epoch", "epoch": epoch, "val_loss": total / len(val), "val_right": right, "val_images": len(val)}), flush=True)
if a.out:
    torch.save(model.state_dict(), a.out)
