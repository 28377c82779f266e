"""Decodes some thousand generated pictures with PIL and with nunatak-data and compares them, byte by byte.

    cargo build -p nunatak-data --example ppm
    python data/tests/pictures.py target/debug/examples/ppm            the table, and what differs
    python data/tests/pictures.py target/debug/examples/ppm --keep DIR the files too

Needs Pillow (13.0.0 here) and NumPy. Ends with 1 where a pixel differs, or where what PIL reads is
refused; PILS_FAULTS lists what is read otherwise on purpose.
"""
import argparse
import collections
import io
import os
import struct
import subprocess
import sys
import tempfile
import zlib

import numpy as np
from PIL import Image, ImageOps

# Where PIL is wrong and is not followed.
PILS_FAULTS = {
    "TIFF of signed numbers or floats, big-endian and packed": "PIL takes the bytes the wrong way round",
    "TIFF of plain planes of 16 bits": "PIL reads them as 8 bits",
    "TIFF YCbCr, chroma of 4 x 4 pixels": "libtiff misreads pixels at the lower edge",
}
random = np.random.default_rng(0)
files = []  # (kind, suffix, bytes)


def add(kind, suffix, data):
    files.append((kind, suffix, bytes(data)))


def picture(w, h, channels=3):
    """Smooth, noisy, or sharp-edged, by chance."""
    y, x = np.mgrid[0:h, 0:w]
    style = random.integers(4)
    if style == 0:
        a = np.stack([127 + 120 * np.sin(x / (3 + 3 * k) + k) * np.cos(y / 7 - k) for k in range(channels)], -1)
    elif style == 1:
        a = random.integers(0, 256, (h, w, channels))
    elif style == 2:
        a = np.repeat(np.repeat(random.integers(0, 256, (h // 5 + 1, w // 5 + 1, channels)), 5, 0), 5, 1)[:h, :w]
    else:
        a = np.stack([(x * (k + 1) * 3 + y * 5) % 256 for k in range(channels)], -1)
    return a.clip(0, 255).astype(np.uint8)


def sizes():
    return int(random.integers(1, 90)), int(random.integers(1, 90))


def image(mode, w=None, h=None):
    if w is None:
        w, h = sizes()
    if mode == "1":
        return Image.fromarray(picture(w, h, 1)[..., 0]).convert("1")
    if mode == "P":
        return Image.fromarray(picture(w, h)).quantize(int(random.integers(2, 257)))
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "YCbCr": 3}[mode]
    a = picture(w, h, channels)
    if channels in (2, 4) and mode != "CMYK":
        a[..., -1] = random.choice([0, 1, 128, 255], (h, w))
    im = Image.frombytes(mode, (w, h), a.tobytes())
    return im


def saved(im, form, **options):
    b = io.BytesIO()
    im.save(b, form, **options)
    return b.getvalue()


# ---------------------------------------------------------------- JPEG

def jpegs():
    for sub in ("4:4:4", "4:2:2", "4:2:0"):
        for progressive in (False, True):
            for i in range(40):
                options = dict(quality=int(random.choice([1, 20, 50, 75, 90, 95, 100])), subsampling=sub, progressive=progressive)
                if i % 4 == 3:
                    options["restart_marker_blocks"] = int(random.integers(1, 9))
                if i % 5 == 4:
                    options["optimize"] = True
                add(f"JPEG {sub} {'progressive' if progressive else 'baseline'}", "jpg", saved(image("RGB"), "JPEG", **options))
    for mode in ("L", "CMYK"):
        for i in range(30):
            add(f"JPEG {mode}", "jpg", saved(image(mode), "JPEG", quality=int(random.integers(1, 101)), progressive=i % 2 == 0))
    for i in range(20):
        add("JPEG RGB without conversion", "jpg", saved(image("RGB"), "JPEG", keep_rgb=True, quality=90))
    for i in range(4):
        add("JPEG large", "jpg", saved(image("RGB", 700 + i, 500 + 3 * i), "JPEG", quality=85, subsampling=i % 3))
    odd_sampling()
    markers()
    films()


def encode(planes, w, h, factors, ids=(1, 2, 3, 4), adobe=None, jfif=False, quality=90, interleaved=True, restart=0):
    """A baseline JPEG with any sampling: planes of samples, each at its own size; written here since PIL writes few."""
    hm, vm = max(f[0] for f in factors), max(f[1] for f in factors)
    q = np.clip(np.full(64, max(1, (100 - quality) // 2 + 1)), 1, 255).astype(int)
    zig = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
    c = np.array([[np.sqrt((1 if k == 0 else 2) / 8) * np.cos((2 * n + 1) * k * np.pi / 16) for n in range(8)] for k in range(8)])
    out = bytearray(b"\xff\xd8")
    if jfif:
        out += b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    if adobe is not None:
        out += b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([adobe])
    out += b"\xff\xdb\0\x43\0" + bytes(int(q[z]) for z in zig)
    n = len(planes)
    out += b"\xff\xc0" + struct.pack(">HBHHB", 8 + 3 * n, 8, h, w, n)
    for i, (fh, fv) in enumerate(factors):
        out += bytes([ids[i], fh << 4 | fv, 0])
    # One code for all: every symbol has eight or nine bits.
    symbols = list(range(12)), [r << 4 | s for r in range(16) for s in range(11)]
    codes = []
    for cls, sym in enumerate(symbols):
        counts = [0] * 16
        length = 4 if cls == 0 else 8
        counts[length - 1] = len(sym) if len(sym) < (1 << length) else (1 << length) - 1
        out += b"\xff\xc4" + struct.pack(">H", 19 + len(sym)) + bytes([cls << 4]) + bytes(counts) + bytes(sym)
        codes.append({s: (k, length) for k, s in enumerate(sym)})
    if restart:
        out += b"\xff\xdd\0\4" + struct.pack(">H", restart)
    blocks = []
    for plane, (fh, fv) in zip(planes, factors):
        bw, bh = -(-w // (8 * hm)) * fh, -(-h // (8 * vm)) * fv
        full = np.pad(plane.astype(float), ((0, bh * 8 - plane.shape[0]), (0, bw * 8 - plane.shape[1])), "edge") - 128
        blocks.append([[np.rint((c @ full[8 * y:8 * y + 8, 8 * x:8 * x + 8] @ c.T).flatten() / q).astype(int) for x in range(bw)] for y in range(bh)])

    def scan(parts):
        head = b"\xff\xda" + struct.pack(">HB", 6 + 2 * len(parts), len(parts)) + b"".join(bytes([ids[p], 0]) for p in parts) + b"\0\x3f\0"
        bits, last, body = [], [0] * n, bytearray()

        def flush():
            text = "".join(bits)
            text += "1" * (-len(text) % 8)
            data = bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8))
            body.extend(data.replace(b"\xff", b"\xff\0"))
            bits.clear()

        def number(v, s):
            if s:
                bits.append(format(v if v > 0 else v + (1 << s) - 1, f"0{s}b"))

        def block(p, b):
            d = int(b[0]) - last[p]
            last[p] = int(b[0])
            s = abs(d).bit_length()
            k, l = codes[0][s]
            bits.append(format(k, f"0{l}b"))
            number(d, s)
            run = 0
            for z in zig[1:]:
                v = int(b[z])
                if v == 0:
                    run += 1
                    continue
                while run > 15:
                    k, l = codes[1][0xF0]
                    bits.append(format(k, f"0{l}b"))
                    run -= 16
                s = abs(v).bit_length()
                k, l = codes[1][run << 4 | s]
                bits.append(format(k, f"0{l}b"))
                number(v, s)
                run = 0
            if run:
                k, l = codes[1][0]
                bits.append(format(k, f"0{l}b"))
        if len(parts) == 1:
            p = parts[0]
            fh, fv = factors[p]
            bw, bh = -(-(-(-w * fh // hm)) // 8), -(-(-(-h * fv // vm)) // 8)
            units = [[(p, y, x)] for y in range(bh) for x in range(bw)]
        else:
            units = [[(p, y * factors[p][1] + j, x * factors[p][0] + i) for p in parts for j in range(factors[p][1]) for i in range(factors[p][0])]
                     for y in range(-(-h // (8 * vm))) for x in range(-(-w // (8 * hm)))]
        for u, unit in enumerate(units):
            if restart and u and u % restart == 0:
                flush()
                body.extend([0xFF, 0xD0 + (u // restart - 1) % 8])
                last[:] = [0] * n
            for p, y, x in unit:
                block(p, blocks[p][y][x])
        flush()
        return head + bytes(body)
    for parts in [list(range(n))] if interleaved else [[p] for p in range(n)]:
        out += scan(parts)
    return bytes(out + b"\xff\xd9")


def plane(w, h):
    return picture(max(w, 1), max(h, 1), 1)[..., 0]


def sampled(factors, w, h, **options):
    hm, vm = max(f[0] for f in factors), max(f[1] for f in factors)
    planes = [plane(-(-w * f[0] // hm), -(-h * f[1] // vm)) for f in factors]
    return encode(planes, w, h, factors, **options)


def odd_sampling():
    one = (1, 1)
    kinds = {
        "JPEG chroma finer than luma": [[one, (2, 2), (2, 2)], [one, (2, 1), (2, 1)], [one, (1, 2), (1, 2)], [one, (2, 2), one], [one, one, (2, 2)], [(2, 1), (2, 2), (2, 2)]],
        "JPEG 4:4:0, 4:1:1, 4:1:0 and others": [[(1, 2), one, one], [(4, 1), one, one], [(4, 2), one, one], [(1, 4), one, one], [(2, 4), one, one],
                                                [(2, 2), (2, 1), (1, 2)], [(2, 2), (1, 2), (2, 1)], [(3, 1), one, one], [(2, 2), (2, 2), one], [(1, 3), one, one]],
        "JPEG equal factors other than 1": [[(2, 2)] * 3, [(2, 1)] * 3, [(1, 2)] * 3],
        "JPEG grey with factors": [[(2, 2)], [(1, 2)], [(4, 1)]],
        "JPEG four components, sampled": [[(2, 2), one, one, (2, 2)], [(2, 1), one, one, (2, 1)], [one, (2, 2), (2, 2), one]],
    }
    for kind, factors in kinds.items():
        for f in factors:
            for i in range(6):
                w, h = sizes()
                if sum(a * b for a, b in f) > 10:
                    continue
                add(kind, "jpg", sampled(f, w, h, interleaved=i % 3 != 2, restart=0 if i % 2 else 3,
                                         adobe=2 if len(f) == 4 and i % 2 else None))


def markers():
    for i in range(10):
        w, h = sizes()
        f = [(1, 1)] * 3
        add("JPEG colours by Adobe's marker", "jpg", sampled(f, w, h, adobe=i % 3))
        add("JPEG colours by components' names", "jpg", sampled(f, w, h, ids=b"RGB\0" if i % 2 else (0, 1, 2, 3)))
        add("JPEG JFIF and Adobe at once", "jpg", sampled(f, w, h, adobe=i % 2, jfif=True))
        add("JPEG CMYK and YCCK by Adobe's marker", "jpg", sampled([(1, 1)] * 4, w, h, adobe=(0, 2, None)[i % 3]))
        data = saved(image("RGB"), "JPEG")
        add("JPEG with bytes after its end", "jpg", data + b"\0\1\2" * 30)
        add("JPEG with fill bytes and junk between segments", "jpg", data[:2] + b"\xff\xff\xff" + data[2:20] + b"junk" + data[20:])
        add("JPEG with comment, ICC, EXIF", "jpg", saved(image("RGB"), "JPEG", comment=b"x" * 300, icc_profile=bytes(2000), exif=exif(1 + i % 8)))


def films():
    """Frames of Motion JPEG: no Huffman tables, since they are the standard's."""
    for i in range(20):
        data = saved(image("RGB" if i % 3 else "L"), "JPEG", quality=80, subsampling=i % 3)
        at, out = 2, bytearray(data[:2])
        while data[at + 1] != 0xDA:
            n = struct.unpack(">H", data[at + 2:at + 4])[0]
            if data[at + 1] != 0xC4:
                out += data[at:at + 2 + n]
            at += 2 + n
        add("JPEG of a film, without tables", "jpg", out + data[at:])


def exif(orientation):
    e = Image.Exif()
    e[0x0112] = orientation
    return e.tobytes()


def damaged_jpegs():
    for i in range(60):
        data = bytearray(saved(image("RGB", 60, 60), "JPEG", quality=80, progressive=i % 3 == 0, restart_marker_blocks=4 * (i % 2)))
        start = data.index(b"\xff\xda") + 14
        for _ in range(1 + i % 3):
            data[int(random.integers(start, len(data) - 2))] = int(random.integers(256))
        add("JPEG with damaged data", "jpg", data)


# ---------------------------------------------------------------- PNG

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, bits, colour, interlaced=False, palette=None, before=b"", end=True, pieces=1):
    """Any kind of PNG with random samples and filters."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]

    def rows(w, h):
        raw = b""
        for _ in range(h if w else 0):
            row = random.integers(0, 256, -(-w * bits * channels // 8), dtype=np.uint8)
            if palette and bits == 8:
                row %= len(palette) // 3
            raw += bytes([int(random.integers(5)) if not palette else 0]) + row.tobytes()
        return raw
    if interlaced:
        raw = b""
        for x, y, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
            raw += rows(-(-(w - x) // dx) if w > x else 0, -(-(h - y) // dy) if h > y else 0)
    else:
        raw = rows(w, h)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, colour, 0, 0, interlaced))
    out += before
    if palette:
        out += chunk(b"PLTE", palette)
    data = zlib.compress(raw)
    step = -(-len(data) // pieces)
    for i in range(0, len(data), step):
        out += chunk(b"IDAT", data[i:i + step])
    return out + (chunk(b"IEND", b"") if end else b"")


def pngs():
    for colour, depths in {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items():
        for bits in depths:
            for interlaced in (False, True):
                for i in range(8):
                    w, h = sizes()
                    palette = random.integers(0, 256, 3 * int(random.integers(1, 2 ** bits + 1)), dtype=np.uint8).tobytes() if colour == 3 else None
                    name = {0: "grey", 2: "RGB", 3: "palette", 4: "grey and alpha", 6: "RGB and alpha"}[colour]
                    add(f"PNG {name}" + (", interlaced" if interlaced else ""), "png", png(w, h, bits, colour, interlaced, palette, pieces=1 + i % 4))
    for i in range(12):
        w, h = sizes()
        before = [chunk(b"tRNS", bytes(6)), chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"sRGB", b"\0"), chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(999))),
                  chunk(b"tEXt", b"a\0b"), chunk(b"eXIf", exif(6)[6:]), chunk(b"pHYs", bytes(9)), chunk(b"sBIT", b"\5\5\5"), chunk(b"bKGD", bytes(6)),
                  chunk(b"cICP", b"\1\1\0\1"), chunk(b"PLTE", bytes(9)), chunk(b"zzZz", b"own")][i]
        add("PNG with other chunks", "png", png(w, h, 8, 2, before=before))
        add("PNG without its end", "png", png(w, h, 8, 2, end=False))
        add("PNG without its end and checksum", "png", png(w, h, 8, 2, end=False)[:-4])
        add("PNG animated", "png", saved(image("RGB", 20, 20), "PNG", save_all=True, append_images=[image("RGB", 20, 20)], default_image=i % 2 == 0))
        add("PNG by PIL", "png", saved(image(("1", "L", "P", "RGB", "RGBA", "LA")[i % 6]), "PNG"))


# ---------------------------------------------------------------- GIF, WebP

def gif(screen, frame, at, palette, local=None, transparent=None, interlaced=False, background=0, ahead=b""):
    """One picture, anywhere on a screen of any size."""
    w, h = frame
    base = Image.fromarray(random.integers(0, len(local or palette or bytes(768)) // 3, (h, w), dtype=np.uint8).astype(np.uint8))
    data = saved(base, "GIF", interlace=int(interlaced), optimize=False)
    body = data[data.index(b"\x2c", 13 + (3 << ((data[10] & 7) + 1))):]
    if body[9] & 0x80:
        body = body[:10] + body[10 + (3 << ((body[9] & 7) + 1)):]

    def sized(p):
        n = max(1, (len(p) // 3 - 1).bit_length())
        return n - 1, p + bytes(3 * 2 ** n - len(p))
    out = b"GIF89a" + struct.pack("<HH", *screen)
    if palette:
        n, p = sized(palette)
        out += bytes([0x80 | n, background, 0]) + p
    else:
        out += bytes([0, background, 0])
    out += ahead
    if transparent is not None:
        out += b"\x21\xf9\4" + bytes([1, 0, 0, transparent, 0])
    flags = body[9] & 0x40
    if local:
        n, p = sized(local)
        return out + b"\x2c" + struct.pack("<HHHH", *at, w, h) + bytes([flags | 0x80 | n]) + p + body[10:]
    return out + b"\x2c" + struct.pack("<HHHH", *at, w, h) + bytes([flags]) + body[10:]


def gifs():
    colours = lambda n: random.integers(0, 256, 3 * n, dtype=np.uint8).tobytes()  # noqa: E731
    for i in range(20):
        w, h = sizes()
        add("GIF by PIL", "gif", saved(image(("1", "L", "P", "RGB")[i % 4]), "GIF", interlace=i % 2))
        add("GIF animated", "gif", saved(image("RGB", 30, 20), "GIF", save_all=True, append_images=[image("RGB", 30, 20) for _ in range(3)], disposal=i % 4))
        add("GIF on a larger screen", "gif", gif((w + 9, h + 7), (w, h), (int(random.integers(10)), int(random.integers(8))), colours(256), background=i, interlaced=i % 2 == 1))
        add("GIF with a clear colour", "gif", gif((w + 3, h), (w, h), (2, 0), colours(256), transparent=i % 9))
        add("GIF over its screen's edge", "gif", gif((w, h), (w, h), (i % 3, i % 5), colours(256)))
        add("GIF with a palette of its picture's own", "gif", gif((w, h), (w, h), (0, 0), colours(256) if i % 2 else None, local=colours(int(random.choice([2, 16, 200])))))
        add("GIF without a palette", "gif", gif((w, h), (w, h), (0, 0), None))
        add("GIF without its end", "gif", gif((w, h), (w, h), (0, 0), colours(256))[:-1])
        add("GIF with comments", "gif", gif((w, h), (w, h), (0, 0), colours(256), ahead=b"\x21\xfe\3abc\0" + b"\x21\xff\x0bNETSCAPE2.0\3\1\0\0\0"))


def webps():
    for i in range(30):
        add("WebP lossless", "webp", saved(image(("RGB", "RGBA", "L", "P")[i % 4]), "WEBP", lossless=True, exact=i % 8 < 4))
        add("WebP lossy", "webp", saved(image(("RGB", "L")[i % 2]), "WEBP", quality=int(random.integers(1, 101)), method=i % 7))
        add("WebP lossy with alpha", "webp", saved(image("RGBA"), "WEBP", quality=int(random.integers(1, 101)), exact=i % 2 == 0))
        add("WebP animated", "webp", saved(image("RGBA" if i % 2 else "RGB", 30, 20), "WEBP", save_all=True, lossless=True, append_images=[image("RGB", 30, 20)]))
        add("WebP with EXIF and ICC", "webp", saved(image("RGB"), "WEBP", lossless=True, exif=exif(6), icc_profile=bytes(500)))


# ---------------------------------------------------------------- BMP, PNM

def bmp(w, h, bits, data, compression=0, palette=b"", size=40, masks=b"", colours=0, offset=None, entry=4):
    head = struct.pack("<IiiHHIIiiII", size, w, h, 1, bits, compression, len(data), 2835, 2835, colours, 0)
    if size == 12:
        head = struct.pack("<IHHHH", 12, w, h, 1, bits)
    elif size > 40:
        head += masks + bytes(size - 40 - len(masks))
        masks = b""
    at = 14 + len(head) + len(masks) + len(palette) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", at + len(data), 0, 0, at) + head + masks + palette + data


def bmps():
    noise = lambda n: random.integers(0, 256, n, dtype=np.uint8).tobytes()  # noqa: E731
    rows = lambda w, h, bits: noise((w * bits + 31) // 32 * 4 * h)  # noqa: E731
    for i in range(16):
        w, h = sizes()
        up = -h if i % 2 else h
        for bits in (1, 4, 8):
            n = 2 ** bits
            add(f"BMP {bits} bits", "bmp", bmp(w, up, bits, rows(w, h, bits), palette=noise(4 * n)))
            add("BMP of OS/2", "bmp", bmp(w, h, bits, rows(w, h, bits), palette=noise(3 * n), size=12))
        few = int(random.integers(3, 256))
        add("BMP few colours", "bmp", bmp(w, up, 8, bytes(v % few for v in rows(w, h, 8)), palette=noise(4 * few), colours=few))
        add("BMP grey palette", "bmp", bmp(w, up, 8, rows(w, h, 8), palette=b"".join(bytes([v, v, v, 0]) for v in range(256))))
        add("BMP 16 bits", "bmp", bmp(w, up, 16, rows(w, h, 16)))
        add("BMP 24 bits", "bmp", bmp(w, up, 24, rows(w, h, 24), size=(40, 12, 108, 124)[i % 4] if up > 0 else 40))
        add("BMP 32 bits", "bmp", bmp(w, up, 32, rows(w, h, 32)))
        for m in [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)]:
            add("BMP 16 bits with masks", "bmp", bmp(w, up, 16, rows(w, h, 16), 3, masks=struct.pack("<III", *m), size=40 if i % 3 else 56))
        for m in [(0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF000000, 0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xFF000000, 0xFF00, 0xFF, 0xFF0000)]:
            add("BMP 32 bits with masks", "bmp", bmp(w, up, 32, rows(w, h, 32), 3, masks=struct.pack("<IIII", *m), size=108))
        for m in [(0xFF0000, 0xFF00, 0xFF), (0xFF000000, 0xFF0000, 0xFF00), (0xFF000000, 0xFF00, 0xFF)]:
            add("BMP 32 bits with masks", "bmp", bmp(w, up, 32, rows(w, h, 32), 3, masks=struct.pack("<III", *m)))
        add("BMP in runs", "bmp", bmp(w, h, 8, runs(w, h, False), 1, palette=noise(1024)))
        add("BMP in runs", "bmp", bmp(w, h, 4, runs(w, h, True), 2, palette=noise(64)))
        add("BMP by PIL", "bmp", saved(image(("1", "L", "P", "RGB", "RGBA")[i % 5]), "BMP"))


def runs(w, h, four):
    out = bytearray()
    for y in range(h):
        x = 0
        while x < w:
            n = min(int(random.integers(1, 12)), w - x)
            if n >= 3 and random.integers(2):
                size = (n + 1) // 2 if four else n
                out += bytes([0, n]) + random.integers(0, 256, size, dtype=np.uint8).tobytes() + b"\0" * (size % 2)
            elif n >= 2 and random.integers(4) == 0:
                out += bytes([0, 2, n, 0])
            else:
                out += bytes([n, int(random.integers(256))])
            x += n
        out += b"\0\0"
    return bytes(out) + b"\0\1"


def pnms():
    for i in range(12):
        w, h = sizes()
        most = int(random.choice([1, 7, 100, 254, 255]))
        wide = int(random.choice([256, 1000, 4095, 65535]))
        head = lambda kind, m: b"P%d\n# made\n%d %d\n%s" % (kind, w, h, b"%d\n" % m if m else b"")  # noqa: E731
        for kind, n in ((5, 1), (6, 3)):
            add(f"P{'GP'[kind - 5]}M bytes", "ppm", head(kind, most) + random.integers(0, most + 1, w * h * n, dtype=np.uint8).tobytes())
            add(f"P{'GP'[kind - 5]}M 16 bits", "ppm", head(kind, wide) + random.integers(0, wide + 1, w * h * n).astype(">u2").tobytes())
        for kind, n in ((2, 1), (3, 3)):
            for m in (most, wide):
                text = b" ".join(b"%d" % v for v in random.integers(0, m + 1, w * h * n))
                add("PGM and PPM in text", "ppm", head(kind, m) + text.replace(b" 1", b"\n# c\n1", 2) + b"\n")
        add("PBM", "pbm", head(4, 0) + random.integers(0, 256, -(-w // 8) * h, dtype=np.uint8).tobytes())
        add("PBM in text", "pbm", head(1, 0) + b"".join(b"%d" % v + (b" " if i % 2 else b"") for v in random.integers(0, 2, w * h)))
        add("PFM", "pfm", b"Pf\n%d %d\n%s\n" % (w, h, b"-1.0" if i % 2 else b"1.0") + (random.random(w * h) * 400 - 50).astype("<f4" if i % 2 else ">f4").tobytes())


# ---------------------------------------------------------------- TIFF

def tiff(w, h, entries, chunks, tiles=None, rows=None, big_endian=False, bigtiff=False):
    """entries: {tag: (type, values)}; chunks: packed strips or tiles."""
    e = ">" if big_endian else "<"
    entries = dict(entries)
    entries.setdefault(256, (4, [w]))
    entries.setdefault(257, (4, [h]))
    head = (b"MM" if big_endian else b"II") + struct.pack(e + "H", 43 if bigtiff else 42) + (struct.pack(e + "HHQ", 8, 0, 16) if bigtiff else struct.pack(e + "I", 8))
    entries[325 if tiles else 279] = (4, [len(c) for c in chunks])
    entries[324 if tiles else 273] = (4, [0] * len(chunks))
    if tiles:
        entries[322], entries[323] = (3, [tiles[0]]), (3, [tiles[1]])
    elif rows:
        entries[278] = (3, [rows])
    code = {1: "B", 2: "B", 3: "H", 4: "I", 5: "I", 7: "B"}
    width, size = (8, 20) if bigtiff else (4, 12)
    start = len(head) + (8 if bigtiff else 2) + size * len(entries) + width
    pack = lambda t, v: struct.pack(e + code[t] * len(v), *v)  # noqa: E731
    extra = {tag: len(pack(t, v)) for tag, (t, v) in entries.items() if len(pack(t, v)) > width}
    at = start + sum(n + n % 2 for n in extra.values())
    offsets = []
    for c in chunks:
        offsets.append(at)
        at += len(c) + len(c) % 2
    entries[324 if tiles else 273] = (4, offsets)
    table, outside = b"", b""
    for tag in sorted(entries):
        t, v = entries[tag]
        data = pack(t, v)
        count = len(v) // 2 if t == 5 else len(v)
        table += struct.pack(e + "HH" + ("Q" if bigtiff else "I"), tag, t, count)
        if len(data) > width:
            table += struct.pack(e + ("Q" if bigtiff else "I"), start + len(outside))
            outside += data + b"\0" * (len(data) % 2)
        else:
            table += data + bytes(width - len(data))
    out = head + struct.pack(e + ("Q" if bigtiff else "H"), len(entries)) + table + struct.pack(e + ("Q" if bigtiff else "I"), 0) + outside
    for c in chunks:
        out += c + b"\0" * (len(c) % 2)
    return out


def packbits(data):
    out = b""
    for i in range(0, len(data), 100):
        piece = data[i:i + 100]
        out += bytes([len(piece) - 1]) + piece if len(set(piece)) > 1 or len(piece) == 1 else bytes([257 - len(piece), piece[0]])
    return out


def raw_tiffs():
    forms = [  # name, photometric, bits, samples, extra, format
        ("grey", 1, 8, 1, None, 1), ("grey", 0, 8, 1, None, 1), ("grey", 1, 4, 1, None, 1), ("grey", 0, 2, 1, None, 1), ("1 bit", 1, 1, 1, None, 1), ("1 bit", 0, 1, 1, None, 1),
        ("grey 16", 1, 16, 1, None, 1), ("grey 16 signed", 1, 16, 1, None, 2), ("grey 32", 1, 32, 1, None, 2), ("float", 1, 32, 1, None, 3), ("grey and alpha", 1, 8, 2, 2, 1),
        ("RGB", 2, 8, 3, None, 1), ("RGB 16", 2, 16, 3, None, 1), ("RGBA", 2, 8, 4, 2, 1), ("RGBA premultiplied", 2, 8, 4, 1, 1), ("RGBX", 2, 8, 4, 0, 1), ("RGBA 16", 2, 16, 4, 2, 1),
        ("palette", 3, 8, 1, None, 1), ("palette", 3, 4, 1, None, 1), ("palette", 3, 1, 1, None, 1), ("CMYK", 5, 8, 4, None, 1), ("CMYK", 5, 16, 4, None, 1), ("YCbCr", 6, 8, 3, None, 1),
    ]
    for name, photo, bits, samples, extra, form in forms:
        for i in range(14):
            w, h = sizes()
            big = i % 2 == 1
            compression = (1, 8, 32773, 5, 1, 8, 32946)[i % 7]
            planar = 2 if samples > 1 and i % 5 == 4 and name not in ("YCbCr", "RGBA premultiplied", "grey and alpha") else 1
            tiles = (16, 32) if i % 6 == 5 and not (compression == 1 and bits < 8) else None
            rows = int(random.integers(1, h + 1))
            predictor = 2 if compression in (5, 8) and bits in (8, 16) and i % 3 == 0 and name != "YCbCr" else 1
            together = 1 if planar == 2 else samples
            cw, ch = tiles or (w, rows)
            chunks = []
            for _ in range(samples // together):
                for y in range(0, h, ch):
                    for x in range(0, w, cw):
                        n = ch if tiles else min(ch, h - y)
                        if form == 3:
                            data = (random.random(cw * n * together) * 400 - 60).astype(">f4" if big else "<f4").tobytes()
                        else:
                            data = random.integers(0, 256, -(-cw * together * bits // 8) * n, dtype=np.uint8).tobytes()
                        chunks.append(data)
            if compression == 5:  # PIL writes LZW: strips of its own
                chunks = None
            entries = {258: (3, [bits] * samples), 259: (3, [compression]), 262: (3, [photo]), 277: (3, [samples]), 284: (3, [planar]), 339: (3, [form] * samples)}
            if extra is not None:
                entries[338] = (3, [extra])
            if photo == 3:
                entries[320] = (3, [int(v) for v in random.integers(0, 65536, 3 << bits)])
            if photo == 6:
                entries[530] = (3, [1, 1])
                entries[532] = (5, [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1])
            if predictor == 2:
                entries[317] = (3, [2])
            if i % 7 == 4:
                entries[274] = (3, [int(random.integers(1, 9))])
            kind = f"TIFF {name}"
            if big and compression != 1 and (form > 1):
                kind = "TIFF of signed numbers or floats, big-endian and packed"
            elif planar == 2 and bits == 16 and compression == 1:
                kind = "TIFF of plain planes of 16 bits"
            if chunks is None:
                lzw(f"TIFF {name}", photo, bits, samples, form, extra)
                continue
            pack = {1: bytes, 8: zlib.compress, 32946: zlib.compress, 32773: packbits}[compression]
            add(kind, "tif", tiff(w, h, entries, [pack(c) for c in chunks], tiles, rows, big, bigtiff=i % 4 == 2))
    for i in range(24):  # chroma of several pixels
        w, h = sizes()
        sh, sv = [(2, 2), (2, 1), (1, 2), (4, 1), (4, 2), (4, 4)][i % 6]
        unit = sh * sv + 2
        data = random.integers(0, 256, -(-w // sh) * -(-h // sv) * unit, dtype=np.uint8).tobytes()
        entries = {258: (3, [8] * 3), 259: (3, [8]), 262: (3, [6]), 277: (3, [3]), 530: (3, [sh, sv])}
        add("TIFF YCbCr, chroma of 4 x 4 pixels" if sv == 4 else "TIFF YCbCr, chroma of several pixels", "tif", tiff(w, h, entries, [zlib.compress(data)], rows=h))


def lzw(kind, photo, bits, samples, form, extra):
    mode = {(1, 8, 1): "L", (0, 8, 1): "L", (2, 8, 3): "RGB", (2, 8, 4): "RGBA", (3, 8, 1): "P", (5, 8, 4): "CMYK", (1, 1, 1): "1", (6, 8, 3): "YCbCr"}.get((photo, bits, samples))
    if mode and extra != 1 and extra != 0:
        add(kind, "tif", saved(image(mode), "TIFF", compression="tiff_lzw", tiffinfo={317: 2} if mode in ("L", "RGB") and random.integers(2) else {}))


def tiffs():
    raw_tiffs()
    for i in range(12):
        add("TIFF JPEG", "tif", saved(image(("RGB", "L", "CMYK")[i % 3]), "TIFF", compression="jpeg", quality=80))
        add("TIFF JPEG YCbCr", "tif", saved(image("YCbCr"), "TIFF", compression="jpeg", quality=80))
        add("TIFF fax", "tif", saved(image("1"), "TIFF", compression=("group3", "group4")[i % 2]))
        add("TIFF YCbCr by PIL", "tif", saved(image("YCbCr"), "TIFF", compression=(None, "tiff_lzw", "tiff_deflate", "packbits")[i % 4]))
        add("TIFF by PIL", "tif", saved(image(("1", "L", "P", "RGB", "RGBA", "LA", "CMYK")[i % 7]), "TIFF", compression=(None, "tiff_lzw", "tiff_adobe_deflate", "packbits")[i % 4]))
        add("TIFF several pictures", "tif", saved(image("RGB"), "TIFF", save_all=True, append_images=[image("RGB")], compression="tiff_lzw"))
        add("TIFF 16 bits by PIL", "tif", saved(Image.fromarray(random.integers(0, 500, (20, 30)).astype(np.uint16)), "TIFF", compression=(None, "tiff_lzw", "tiff_adobe_deflate")[i % 3]))
        add("TIFF float by PIL", "tif", saved(Image.fromarray((random.random((20, 30)) * 300).astype(np.float32)), "TIFF", compression=(None, "tiff_lzw", "tiff_adobe_deflate")[i % 3]))


# ---------------------------------------------------------------- comparison

def pils(data, turn=False):
    im = Image.open(io.BytesIO(data))
    im.load()
    if turn:
        im = ImageOps.exif_transpose(im)
    return np.asarray(im.convert("RGB"))


def ours(program, paths, *options):
    out = subprocess.run([program, *options, *paths], stdout=subprocess.PIPE, check=True).stdout
    found, at = [], 0
    for _ in paths:
        end = out.index(b"\n", at)
        line, at = out[at:end], end + 1
        if line.startswith(b"ERROR"):
            found.append(line.decode(errors="replace"))
            continue
        w, h = (int(v) for v in line.split()[1:3])
        found.append(np.frombuffer(out, np.uint8, w * h * 3, at).reshape(h, w, 3))
        at += w * h * 3
    return found


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 % (1 << 64)
    return h


def golden(folder):
    """For the tests: of every kind the two smallest files that are at least 9 x 9."""
    os.makedirs(folder, exist_ok=True)
    kinds = collections.OrderedDict()
    for kind, suffix, data in files:
        if kind not in PILS_FAULTS and "damaged" not in kind:
            kinds.setdefault(kind, []).append((len(data), data, suffix))
    lines, turned = [], "EXIF"
    for i, (kind, found) in enumerate(kinds.items()):
        kept = 0
        for _, data, suffix in sorted(found):
            try:
                seen = pils(data)
            except Exception:  # of many types
                continue
            if min(seen.shape[:2]) < 9 or kept == 2:
                continue
            name = f"{i:02}{'ab'[kept]}.{suffix}"
            kept += 1
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data)
            up = pils(data, turn=True) if turned in kind else seen
            lines.append(f"{name} {seen.shape[1]} {seen.shape[0]} {fnv(seen.tobytes())} {up.shape[1]} {up.shape[0]} {fnv(up.tobytes())} {kind}\n")
    with open(os.path.join(folder, "kinds.txt"), "w") as f:
        f.writelines(lines)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("--keep")
    arguments.add_argument("--verbose", action="store_true")
    arguments.add_argument("--golden", help="write a small file of every kind there, and kinds.txt with what PIL sees in it")
    args = arguments.parse_args()
    for make in (jpegs, damaged_jpegs, pngs, gifs, webps, bmps, pnms, tiffs):
        make()
    if args.golden:
        return golden(args.golden)
    folder = args.keep or tempfile.mkdtemp()
    os.makedirs(folder, exist_ok=True)
    paths = []
    for i, (kind, suffix, data) in enumerate(files):
        paths.append(os.path.join(folder, f"{i:04}.{suffix}"))
        with open(paths[-1], "wb") as f:
            f.write(data)
    got = [g for i in range(0, len(paths), 200) for g in ours(args.program, paths[i:i + 200])]
    table, failed = collections.OrderedDict(), False
    for (kind, _, data), path, g in zip(files, paths, got):
        row = table.setdefault(kind, dict(n=0, equal=0, refused=0, pil=0, most=0, sum=0.0, compared=0))
        row["n"] += 1
        try:
            want = pils(data)
        except Exception as e:  # PIL's refusals are of many types
            row["pil"] += 1
            if args.verbose and not isinstance(g, str):
                print(f"read, but refused by PIL: {kind} {path}: {e}")
            continue
        if isinstance(g, str):
            row["refused"] += 1
            failed = True
            if args.verbose:
                print(f"refused: {kind} {g}")
            continue
        off = np.abs(want.astype(int) - g) if want.shape == g.shape else np.full(1, 999)
        row["compared"] += 1
        row["equal"] += not off.any()
        row["most"] = max(row["most"], int(off.max()))
        row["sum"] += float(off.mean())
        if off.any():
            failed |= kind not in PILS_FAULTS
            if args.verbose:
                print(f"differs: {kind} {path}: {off.max()} at most, {off.mean():.3f} on average, {want.shape} {g.shape}")
    print("| kind | files | equal to PIL | largest difference | mean | refused here | refused by PIL |\n|---|---:|---:|---:|---:|---:|---:|")
    total = collections.Counter()
    for kind, r in table.items():
        kind += f" ({PILS_FAULTS[kind]})" if kind in PILS_FAULTS else ""
        print(f"| {kind} | {r['n']} | {r['equal']} | {r['most']} | {r['sum'] / max(r['compared'], 1):.3f} | {r['refused']} | {r['pil']} |")
        total.update({k: r[k] for k in ("n", "equal", "refused", "pil")})
    print(f"| all | {total['n']} | {total['equal']} | | | {total['refused']} | {total['pil']} |")
    turned = [(p, d) for (k, _, d), p in zip(files, paths) if "EXIF" in k]
    for (path, data), g in zip(turned, ours(args.program, [p for p, _ in turned], "--exif")):
        if isinstance(g, str) or not np.array_equal(g, pils(data, turn=True)):
            print(f"turned otherwise than by exif_transpose: {path}")
            failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
