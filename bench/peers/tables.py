"""Tables in Markdown from the records: what stands between marks of the documents (see plot.py)."""
import csv
import glob
import os
import textwrap

import record


def rows(header, lines):
    """A table, the first column of which is text."""
    out = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join(out + ["| " + " | ".join(line) + " |" for line in lines])


def ms(value):
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def by(cell):
    return cell.replace("x", " x ")


def threads(measured):
    return "1 thread" if measured["threads"] == 1 else f"{measured['threads']} threads"


def of_peer(kept, peer):
    """Their milliseconds / nunatak's = ratio, in each step and cell; None where nothing was measured."""
    steps, cells = record.steps(kept)
    lines = []
    for step in steps:
        if peer in record.INFERENCE_ALONE and step != "infer":
            continue
        line = []
        for cell in cells:
            both = record.pair(kept, step, cell, peer)
            line.append(f"{ms(both[0])} / {ms(both[1])} = **{record.ratio(kept, step, cell, peer):.2f}**" if both else "–")
        lines.append([step, *line])
    if all(entry == "–" for line in lines for entry in line[1:]):
        return None
    return rows(["", *map(by, cells)], lines)


def speed(kept):
    """All peers of a run, a table for each."""
    measured = kept["measured"]
    versions = ", ".join(f"{shown} {kept['versions'][peer]}" for peer, shown in record.NAMES.items() if peer in kept["versions"])
    tree = f" ({measured['tree']})" if measured["tree"] else ""
    kind = "every convolution in 8 bits" if measured.get("frozen") else "float32"
    parts = [
        f"Measured with `{measured['command']}` on {measured['date']}{tree}; {measured['machine']}, {measured['cores']} virtual "
        f"cores, {threads(measured)}; {versions}; {kind}; medians of {measured['rounds']} alternated rounds. Each cell: their "
        "milliseconds / nunatak's = **ratio**, above 1 where nunatak is faster; –: left out."
    ]
    for peer, shown in record.NAMES.items():
        if table := of_peer(kept, peer):
            parts.append(f"**{shown}**" + (" (the faster of its two memory formats)" if peer == "pytorch" else ""))
            parts.append(table)
    return "\n\n".join(parts)


def summary(kept):
    """The same in a sentence: how many times as fast, from the lowest to the highest cell."""
    steps, cells = record.steps(kept)

    def between(step, peer):
        ratios = [ratio for cell in cells if (ratio := record.ratio(kept, step, cell, peer))]
        return f"{min(ratios):.1f} to {max(ratios):.1f}"

    names = {"train": "training everything", "head": "training a new head", "infer": "predicting"}
    pytorch = [f"{names[step]} {between(step, 'pytorch')}" for step in steps]
    others = [f"beside {record.NAMES[peer]} {between('infer', peer)}" for peer in record.INFERENCE_ALONE if peer in kept["versions"]]
    measured = kept["measured"]
    text = (
        f"How many times as fast as PyTorch, on {threads(measured)} ({measured['machine']}, {measured['date']}): "
        f"{', '.join(pytorch)}. Predicting {', '.join(others)}. "
        "Every cell, other networks and machines, how it was measured, and what is below our aims: "
        "[docs/speed.md](docs/speed.md)."
    )
    return textwrap.fill(text, 120, break_on_hyphens=False)


def networks():
    """Other networks than ResNet18 against PyTorch: ratios alone, a line for each run."""
    found = [record.read(path) for path in sorted(glob.glob(os.path.join(record.FOLDER, "*.json")))]
    kept = [run for run in found if run["measured"]["arch"] != "resnet18"]
    columns = [(step, cell) for step in ("train", "head", "infer") for cell in ("1x224", "8x224")]
    lines = []
    for run in kept:
        ratios = [record.ratio(run, step, cell, "pytorch") for step, cell in columns]
        shown = [f"**{ratio:.2f}**" if ratio else "–" for ratio in ratios]
        lines.append([f"`{run['measured']['arch']}`", run["measured"]["machine"], *shown])
    names = [f"{step} {by(cell)}" for step, cell in columns]
    return rows(["network", "machine", *names], lines)


def megabytes(count):
    """Three digits; nothing where there is nothing to speak of."""
    if count < 5000:
        return ""
    value = count / 1e6
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def memory_rows():
    with open(os.path.join(record.ROOT, "bench", "record", "memory.csv"), encoding="utf-8") as f:
        return list(csv.DictReader(f))


def is_step(row):
    """Whether the row is ResNet18's small step, and not one of the others."""
    return ": " not in row["step"]


def memory():
    """The bytes of ResNet18's steps on one image of 64 x 64, by kind."""
    kinds = ["weights", "gradients", "momentum", "activations", "scratch"]
    lines = []
    for row in filter(is_step, memory_rows()):
        total = float(row["all"]) / 1e6
        options = row["command"].removeprefix("nunatak plan").split(" --memory")[0].strip()
        what = row["step"] + (f" (`{options}`)" if options else "")
        of_kind = [megabytes(int(row[kind])) for kind in kinds]
        lines.append([what, *of_kind, megabytes(int(row["in_place"])), f"**{total:.2f}**" if total < 10 else f"**{total:.1f}**"])
    return rows(["step", *kinds, "read from the file", "all, MB"], lines)


def networks_memory():
    """The bytes of other steps: 8 images of 224 x 224."""
    by_network = {}
    for row in memory_rows():
        if not is_step(row):
            network, what = row["step"].split(": ")
            by_network.setdefault(network, {})[what] = f"{float(row['all']) / 1e6:.0f}"
    steps = ["train everything", "train a new head", "predict"]
    return rows(["network", *(f"{step}, MB" for step in steps)], [[f"`{n}`", *(of[s] for s in steps)] for n, of in by_network.items()])


def boards():
    """What emulated boards counted: bytes and instructions."""
    with open(os.path.join(record.ROOT, "bench", "record", "bare_metal.csv"), encoding="utf-8") as f:
        kept = list(csv.DictReader(f))
    newest = max(row["rustc"] for row in kept)
    figures = {}
    for row in kept:
        if row["rustc"] == newest:
            figures.setdefault(row["what"], {})[row["figure"]] = int(row["value"])
    kilo = lambda of, name: "" if name not in of else f"{of[name] / 1e3:.1f} kB" if of[name] >= 100 else f"{of[name]} B"
    million = lambda count: f"{count / 1e6:.1f} M"
    lines = []
    for what, of in figures.items():
        target, program = what.split(", ", 1)
        stack = kilo(of, "stack bytes, executing") or kilo(of, "stack bytes")
        counted = {name: of[name] for name in of if name.startswith(("train", "plan ")) or name == "tutorial, executing"}
        instructions = ", ".join(f"{name.removesuffix(', executing')} {million(count)}" for name, count in counted.items())
        lines.append([target, program, kilo(of, "flash bytes"), kilo(of, "ram bytes"), stack, kilo(of, "stack bytes, planning"), instructions])
    header = ["emulated", "firmware", "flash", "static RAM", "stack of a step", "stack of planning", "instructions"]
    return rows(header, lines) + f"\n\nWith {newest}."


TABLES = {"speed": speed, "speed in short": summary, "networks": networks, "memory": memory, "networks memory": networks_memory, "boards": boards}
