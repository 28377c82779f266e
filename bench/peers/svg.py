"""Pictures of the records, as SVG: plain text, written with the standard library alone.

A picture lies on a card of its own, light or dark as the reader's browser asks for, so that it can be read on any page.
"""
import os

import record
import tables

WIDTH = 880
LIGHT = {"card": "#ffffff", "edge": "#d0d7de", "text": "#1f2328", "weak": "#59636e", "line": "#d8dee4"}
DARK = {"card": "#151b23", "edge": "#3d444d", "text": "#f0f6fc", "weak": "#9198a1", "line": "#2f353d"}
# Colours that differ in lightness too, for readers who see few colours; they stand out on both cards.
LIGHT_BARS = ["#0b5cad", "#2f9e8f", "#e08a1e", "#9a4fb5", "#8a939c"]
DARK_BARS = ["#4c9be8", "#41c3b0", "#f0a742", "#c084d8", "#8b949e"]


def style():
    """Classes for both cards."""

    def of(colours, bars):
        lines = [f".{name}{{fill:{colours[name]}}}" for name in ("text", "weak")]
        lines.append(f".card{{fill:{colours['card']};stroke:{colours['edge']}}}")
        lines.append(f".line{{stroke:{colours['line']}}}.one{{stroke:{colours['weak']}}}")
        return "".join(lines + [f".b{i}{{fill:{bar}}}" for i, bar in enumerate(bars)])

    return f"<style>{of(LIGHT, LIGHT_BARS)}@media (prefers-color-scheme:dark){{{of(DARK, DARK_BARS)}}}</style>"


def escape(words):
    return words.replace("&", "&amp;").replace("<", "&lt;")


def text(x, y, words, size=13, kind="text", anchor="start", weight="normal"):
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )


def bar(x, y, width, height, colour):
    return f'<rect class="b{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def line(x1, y1, x2, y2, kind="line", dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{dashes}/>'


def picture(height, title, description, parts):
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        "font-family=\"system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif\">"
    )
    card = f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
    inside = [f"<title>{escape(title)}</title>", f"<desc>{escape(description)}</desc>", style(), card, *parts]
    return "\n".join([head, *inside, "</svg>"]) + "\n"


def legend(x, y, names):
    parts = []
    for i, name in enumerate(names):
        parts += [bar(x, y - 10, 12, 12, i), text(x + 18, y, name)]
        x += 44 + 7.6 * len(name)
    return parts


def speed():
    """How many times as fast as PyTorch each step is, by cell."""
    kept = record.read(os.path.join(record.FOLDER, "resnet18-zen4-2-threads.json"))
    steps, cells = record.steps(kept)
    ratios = {(s, c): record.ratio(kept, s, c, "pytorch") for s in steps for c in cells}
    measured = kept["measured"]
    left, right, top, bottom, height = 52, WIDTH - 84, 98, 318, 392
    top_value = max(ratios.values()) * 1.08
    y_of = lambda value: bottom - (bottom - top) * value / top_value
    parts = [
        text(20, 32, "ResNet18: how many times as fast as PyTorch", 18, weight="600"),
        text(20, 53, f"PyTorch {kept['versions']['pytorch']}, eager, the faster of its two memory formats; float32; higher is better", 12.5, "weak"),
        *legend(20, 78, ["train everything", "train a new head", "predict"]),
    ]
    for value in range(int(top_value) + 1):
        parts.append(line(left, y_of(value), right, y_of(value)))
        parts.append(text(left - 8, y_of(value) + 4, f"{value}", 12, "weak", "end"))
    room = (right - left) / len(cells)
    wide = 40
    for i, cell in enumerate(cells):
        begin = left + room * i + (room - len(steps) * (wide + 4)) / 2
        for j, step in enumerate(steps):
            ratio, x = ratios[step, cell], begin + j * (wide + 4)
            parts.append(bar(x, y_of(ratio), wide, bottom - y_of(ratio), j))
            parts.append(text(x + wide / 2, y_of(ratio) - 5, f"{ratio:.2f}", 12.5, anchor="middle"))
        batch, size = cell.split("x")
        images = f"{batch} image{'s' if batch != '1' else ''}, {size} x {size}"
        parts.append(text(left + room * (i + 0.5), bottom + 20, images, 13, anchor="middle"))
    parts.append(line(left, y_of(1), right, y_of(1), "one", "5 4"))
    parts.append(text(right + 8, y_of(1) + 4, "PyTorch", 13))
    where = f"{measured['machine']}, {measured['cores']} virtual cores, {tables.threads(measured)}; {measured['date']}"
    parts.append(text(20, height - 34, f"{where}; medians of {measured['rounds']} alternated rounds.", 12, "weak"))
    parts.append(text(20, height - 16, "All cells, other frameworks, other machines: docs/speed.md", 12, "weak"))
    said = "; ".join(f"{cell} images: " + ", ".join(f"{s} {ratios[s, cell]:.2f}" for s in steps) for cell in cells)
    return picture(height, "ResNet18's steps: PyTorch's time divided by nunatak's", said, parts)


def memory():
    """What takes the bytes of ResNet18's steps."""
    kinds = [("weights", ["weights"]), ("momentum", ["momentum"]), ("gradients", ["gradients"]), ("activations", ["activations"])]
    kinds.append(("scratch and the rest", ["scratch", "statistics", "padding", "tables"]))
    steps = [row for row in tables.memory_rows() if tables.is_step(row)]
    left, top, each, height = 318, 100, 36, 100 + 36 * len(steps) + 46
    most = max(int(row["all"]) for row in steps)
    scale = (WIDTH - left - 96) / most
    parts = [
        text(20, 32, "ResNet18: planned memory of a step, all that it takes", 18, weight="600"),
        text(20, 53, "One image of 64 x 64, --memory small, 2 threads; known to the byte before the first step; MB = 1 000 000 bytes", 12.5, "weak"),
        *legend(20, 78, [name for name, _ in kinds]),
    ]
    for i, row in enumerate(steps):
        y, x = top + each * i, float(left)
        parts.append(text(left - 12, y + 18, row["step"], 13, anchor="end"))
        for colour, (_, columns) in enumerate(kinds):
            width = scale * sum(int(row[column]) for column in columns)
            if width >= 0.05:
                parts.append(bar(x, y, width, each - 10, colour))
            x += width
        total = int(row["all"]) / 1e6
        parts.append(text(x + 8, y + 18, f"{total:.2f} MB" if total < 10 else f"{total:.1f} MB", 13, weight="600"))
    parts.append(text(20, height - 16, "In place: frozen weights are read from the mapped file, or from flash. Every number: docs/memory.md", 12, "weak"))
    said = "; ".join(f"{row['step']}: {int(row['all'])} bytes" for row in steps)
    return picture(height, "Planned memory of ResNet18's steps", said, parts)


PICTURES = {"speed.svg": speed, "memory.svg": memory}
