"""Pictures of shapes and textures with random colours, places, sizes, directions and noise: the sets of search.py.

A picture depends on its class, its number and the seed alone. Needs nothing but Python.
"""

import math
import random
import struct
import zlib
from pathlib import Path

SIDE = 32


def png(path: Path, rows: list) -> None:
    """Writes rows of red, green and blue bytes."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows), 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def wave(t: float) -> bool:
    return math.sin(t) > 0


# What is covered by ink, for x and y from -1 to 1 around a random middle, turned at random where TURNED says so.
# `k` is a random size from 0.6 to 1.4.
SHAPES = {
    "triangle": lambda x, y, k: -0.35 < y < 0.5 and abs(x) < (y + 0.35) * 0.7,
    "square": lambda x, y, k: max(abs(x), abs(y)) < 0.42,
    "disc": lambda x, y, k: x * x + y * y < 0.22,
    "ring": lambda x, y, k: 0.1 < x * x + y * y < 0.25,
    "cross": lambda x, y, k: min(abs(x), abs(y)) < 0.14 and max(abs(x), abs(y)) < 0.52,
    "half": lambda x, y, k: x * x + y * y < 0.3 and y > 0,
    "ellipse": lambda x, y, k: x * x + 5 * y * y < 0.3,
    "two discs": lambda x, y, k: (abs(x) - 0.32) ** 2 + y * y < 0.06,
    "frame": lambda x, y, k: 0.3 < max(abs(x), abs(y)) < 0.45,
    # Of the sets to fine-tune on:
    "diamond": lambda x, y, k: abs(x) + 1.6 * abs(y) < 0.55,
    "star": lambda x, y, k: math.hypot(x, y) < 0.34 + 0.18 * math.cos(5 * math.atan2(y, x)),
    "corner": lambda x, y, k: max(abs(x), abs(y)) < 0.45 and (x < -0.2 or y > 0.2),
    "arrow": lambda x, y, k: (abs(y) < 0.1 and -0.5 < x < 0.15) or (0.1 < x < 0.52 and abs(y) < (0.52 - x) * 0.8),
    "crescent": lambda x, y, k: x * x + y * y < 0.26 and (x - 0.25) ** 2 + y * y > 0.2,
    "tee": lambda x, y, k: (abs(x) < 0.5 and -0.45 < y < -0.2) or (abs(x) < 0.12 and -0.45 < y < 0.5),
}
TEXTURES = {
    "bars": lambda x, y, k: wave(11 * k * y),
    "rings": lambda x, y, k: wave(14 * k * math.hypot(x, y)),
    "dots": lambda x, y, k: math.sin(9 * k * x) * math.sin(9 * k * y) > 0.35,
    "spokes": lambda x, y, k: wave(round(7 * k) * math.atan2(y, x)),
    "waves": lambda x, y, k: wave(10 * k * y + 2 * math.sin(6 * x)),
    "slope": lambda x, y, k: (x + 1) / 2,
    "spiral": lambda x, y, k: wave(12 * k * math.hypot(x, y) + 2 * math.atan2(y, x)),
    # Of the sets to fine-tune on:
    "slanted": lambda x, y, k: wave(8 * k * (x + y)),
    "squares": lambda x, y, k: wave(9 * k * x) != wave(9 * k * y),
    "zigzag": lambda x, y, k: wave(10 * k * y + 3 * abs((2 * x) % 1 - 0.5) * 4),
    "lattice": lambda x, y, k: math.sin(9 * k * x) > 0.7 or math.sin(9 * k * y) > 0.7,
    "bricks": lambda x, y, k: math.sin(10 * k * y) > 0.75 or math.sin(6 * k * x + (math.pi if wave(5 * k * y) else 0)) > 0.85,
    "petals": lambda x, y, k: math.hypot(x, y) * 1.6 < 0.6 + 0.4 * math.cos(round(6 * k) * math.atan2(y, x)),
}
ALL = {**SHAPES, **TEXTURES}
TURNED = {*SHAPES, "slope", "waves", "zigzag"} - {"bars"}


def picture(name: str, number: int, seed: int, noise: float) -> list:
    """Rows of bytes."""
    r = random.Random(f"{seed} {name} {number}")
    cover = ALL[name]
    while True:
        paper, ink = ([r.random() for _ in range(3)] for _ in range(2))
        if sum(abs(a - b) for a, b in zip(paper, ink)) > 0.7:
            break
    k, grain = r.uniform(0.6, 1.4), noise * r.uniform(0.4, 1.0)
    turn = r.uniform(0, 2 * math.pi) if name in TURNED else r.uniform(-0.25, 0.25)
    dx, dy = r.uniform(-0.35, 0.35), r.uniform(-0.35, 0.35)
    scale = r.uniform(0.8, 1.6) if name in SHAPES else 1.0
    c, s = math.cos(turn) * scale, math.sin(turn) * scale
    rows = []
    for v in range(SIDE):
        row = bytearray()
        b = (v + 0.5) / SIDE * 2 - 1 - dy
        for u in range(SIDE):
            a = (u + 0.5) / SIDE * 2 - 1 - dx
            share = float(cover(c * a - s * b, s * a + c * b, k))
            for low, high in zip(paper, ink):
                value = low + (high - low) * share + grain * (r.random() * 2 - 1)
                row.append(int(255 * min(max(value, 0.0), 1.0)))
        rows.append(row)
    return rows


def draw(folder: Path, counts: dict, val: int, test: int, seed: int, noise: float) -> None:
    """A folder with `train` and `val`: so many pictures of each class to train on, `val` to validate with; and beside it a
    folder `NAME-test` with `test` of each."""
    for name, train in counts.items():
        for number in range(train + val + test):
            here = folder / ("train" if number < train else "val") if number < train + val else folder.with_name(f"{folder.name}-test")
            path = here / name.replace(" ", "-") / f"{number}.png"
            if not path.is_file():
                png(path, picture(name, number, seed, noise))


BEFORE = [*list(SHAPES)[:9], *list(TEXTURES)[:7]]
SETS = {
    # Shapes, few of each.
    "shapes": ({name: 30 for name in list(SHAPES)[9:]}, 50, 0.5),
    # Textures under noise.
    "textures": ({name: 80 for name in list(TEXTURES)[7:]}, 50, 1.2),
    # Classes of unequal size.
    "unequal": (dict(zip(["star", "squares", "arrow", "lattice", "crescent", "zigzag"], [160, 80, 40, 20, 10, 10])), 50, 0.7),
    # Eight pictures of each class.
    "few": ({name: 8 for name in ["diamond", "corner", "slanted", "petals", "tee"]}, 50, 0.5),
}


def draw_all(folder: Path, before: int) -> None:
    """The set that networks are trained on first, with so many pictures of each class, and those to fine-tune on."""
    draw(folder / "before", {name: before for name in BEFORE}, 50, 0, 1, 0.7)
    for name, (counts, val, noise) in SETS.items():
        draw(folder / name, counts, val, 100, 2, noise)
