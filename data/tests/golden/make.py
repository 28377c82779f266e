"""Makes the fixtures and the expected numbers of data/tests/.

    python make.py        (Pillow 13.0.0, torch 2.15.0, torchvision 0.29.2)

Writes beside itself: tiny images, whose pixels as PIL sees them lie in <name>.rgb (raw RGB8),
and numbers.txt, one golden per line: kind, parameters, then what came out.
"""
import io
import os
import struct
import zlib

import numpy as np
import torch
from PIL import Image
from torchvision import transforms as T

HERE = os.path.dirname(os.path.abspath(__file__))
BILINEAR = Image.Resampling.BILINEAR
lines = []


def noise(w, h, period=251):
    """The image of SEMANTICS.md, section 9, at any size; cheap to make again in Rust."""
    return (np.arange(w * h * 3) % period).astype(np.uint8).reshape(h, w, 3)


def waves(w, h):
    """Smooth, so that JPEG has something to keep."""
    y, x = np.mgrid[0:h, 0:w]
    c = [127 + 120 * np.sin(x / 5 + k) * np.cos(y / 7 - k) for k in range(3)]
    return np.stack(c, -1).astype(np.uint8)


def fnv(data):
    h = 0xCBF29CE484222325
    for b in bytes(data):
        h = (h ^ b) * 0x100000001B3 % (1 << 64)
    return h


# resize in_w in_h out_w out_h checksum: whole images
for a, b in [((341, 300), (291, 256)), ((1, 1), (5, 3)), ((7, 5), (7, 5)), ((7, 5), (3, 9)),
             ((13, 31), (97, 2)), ((2, 3), (224, 224)), ((1000, 3), (10, 30)), ((3, 1000), (30, 7)),
             ((255, 257), (254, 258)), ((640, 480), (64, 48)), ((97, 89), (1, 1)), ((32, 32), (256, 256)),
             # where Pillow 13 changes the order of the passes: height lost against twice the width lost
             ((51, 88), (26, 38)), ((51, 88), (26, 37)), ((20, 50), (16, 42)), ((20, 50), (16, 41)),
             ((22, 19), (34, 18)), ((22, 19), (34, 19)), ((40, 90), (40, 60)), ((11, 80), (69, 52))]:
    out = Image.fromarray(noise(*a)).resize(b, BILINEAR)
    lines.append(f"resize {a[0]} {a[1]} {b[0]} {b[1]} {fnv(out.tobytes())}")

# evaluate in_w in_h resize crop sum first middle last: the whole preset, in float64 sum
norm = T.Normalize([.485, .456, .406], [.229, .224, .225])
for w, h, r, s in [(341, 300, 256, 224), (300, 341, 256, 224), (500, 375, 256, 224), (375, 500, 256, 224),
                   (32, 32, 256, 224), (32, 32, 36, 32), (17, 1, 256, 224), (1, 40, 64, 56), (400, 399, 232, 224),
                   (50, 20, 10, 16), (20, 50, 16, 16), (9, 9, 7, 12), (64, 48, 31, 40)]:
    f = T.Compose([T.Resize(r), T.CenterCrop(s), T.ToTensor(), norm])
    t = f(Image.fromarray(noise(w, h)))
    v = t.flatten().tolist()
    bits = fnv(t.numpy().astype("<f4").tobytes())
    lines.append(f"evaluate {w} {h} {r} {s} {bits} {v[0]:.9g} {v[len(v) // 2]:.9g} {v[-1]:.9g}")

# crop seed w h: top left height width of five RandomResizedCrops, each followed by its flip
for seed, w, h in [(0, 500, 375), (1, 32, 32), (2, 1, 100), (3, 100, 1), (4, 1, 1), (5, 3000, 900), (6, 224, 1000)]:
    torch.manual_seed(seed)
    img, out = Image.new("RGB", (w, h)), []
    for _ in range(5):
        out += T.RandomResizedCrop.get_params(img, (.08, 1.), (3 / 4, 4 / 3))
        out.append(int(torch.rand(1) < .5))
    lines.append(f"crop {seed} {w} {h} {' '.join(map(str, out))}")

# train seed w h s checksum: the training preset's tensor
for seed, w, h, s in [(0, 100, 75, 32), (1, 32, 32, 32), (2, 60, 200, 24), (3, 7, 5, 16)]:
    torch.manual_seed(seed)
    f = T.Compose([T.RandomResizedCrop(s), T.RandomHorizontalFlip(), T.ToTensor(), norm])
    bits = fnv(f(Image.fromarray(noise(w, h))).numpy().astype("<f4").tobytes())
    lines.append(f"train {seed} {w} {h} {s} {bits}")

with open(os.path.join(HERE, "numbers.txt"), "w") as f:
    f.write("\n".join(lines) + "\n")


# --- files that the image crate cannot write, or not like this ---
def keep(name, data):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(data)
    with open(os.path.join(HERE, name + ".rgb"), "wb") as f:
        f.write(Image.open(io.BytesIO(data)).convert("RGB").tobytes())


def save(img, fmt, **kw):
    b = io.BytesIO()
    img.save(b, fmt, **kw)
    return b.getvalue()


def chunk(tag, data):
    return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))


def png(w, h, colour, depth, rows, extra=b""):
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + r for r in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


img = Image.fromarray(waves(37, 29))
keep("420.jpg", save(img, "JPEG", quality=90, subsampling="4:2:0"))
keep("422.jpg", save(img, "JPEG", quality=90, subsampling="4:2:2"))
keep("444.jpg", save(img, "JPEG", quality=90, subsampling="4:4:4"))
keep("progressive.jpg", save(img, "JPEG", quality=90, progressive=True))
keep("restart.jpg", save(img, "JPEG", quality=90, restart_marker_blocks=2))
keep("grey.jpg", save(img.convert("L"), "JPEG", quality=90))
keep("cmyk.jpg", save(img.convert("CMYK"), "JPEG", quality=90))
exif = Image.Exif()
exif[0x0112] = 6  # turn right: must have no effect
keep("rotated.jpg", save(img, "JPEG", quality=90, exif=exif))
keep("lossy.webp", save(img, "WEBP", quality=80))
keep("lossless.webp", save(img.convert("RGBA"), "WEBP", lossless=True))
keep("cmyk.tif", save(img.convert("CMYK"), "TIFF"))
keep("palette.tif", save(img.quantize(16), "TIFF"))
keep("lzw.tif", save(img, "TIFF", compression="tiff_lzw"))
keep("bilevel.tif", save(img.convert("1"), "TIFF"))
keep("grey16.tif", save(Image.fromarray((waves(37, 29)[:, :, 0].astype(np.uint16) * 3)), "TIFF"))
keep("float.tif", save(Image.fromarray(waves(37, 29)[:, :, 0].astype(np.float32) * 1.3 - 20), "TIFF"))
keep("palette.bmp", save(img.quantize(16), "BMP"))
keep("palette.png", save(img.quantize(16), "PNG"))
four = struct.pack(">4H", 0, 100, 300, 65535)
keep("grey16.png", png(4, 1, 0, 16, [four]))
keep("greyalpha16.png", png(2, 1, 4, 16, [four]))
keep("rgb16.png", png(1, 1, 2, 16, [struct.pack(">3H", 100, 0x80FF, 65535)]))
keep("rgba16.png", png(1, 1, 6, 16, [four]))
keep("grey2.png", png(4, 1, 0, 2, [b"\x1b"]))
keep("grey1.png", png(8, 1, 0, 1, [b"\xb0"]))
keep("palette_trns.png", png(4, 1, 3, 2, [b"\x1b"], chunk(b"PLTE", bytes(range(12))) + chunk(b"tRNS", b"\0\x80")))
keep("palette_short.png", png(4, 1, 3, 2, [b"\x1b"], chunk(b"PLTE", bytes(range(9)))))
keep("rgb_trns.png", png(1, 1, 2, 8, [b"\1\2\3"], chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))))
keep("16.pgm", b"P5 4 1 65535\n" + four)
keep("100.pgm", b"P5 4 1 100\n" + bytes([0, 10, 50, 100]))
keep("16.ppm", b"P6 1 1 65535\n" + struct.pack(">3H", 100, 300, 65535))
keep("100.ppm", b"P6 1 1 100\n" + bytes([0, 50, 33]))
keep("text.ppm", b"P3\n# made by hand\n1 1 255\n0 1 2\n")

# Adam7: seven passes, written by hand because PIL does not write it.
a = waves(11, 9)
rows = []
for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
    rows += [r.tobytes() for r in a[y0::dy, x0::dx]]
head = struct.pack(">IIBBBBB", 11, 9, 8, 2, 0, 0, 1)
body = zlib.compress(b"".join(b"\0" + r for r in rows))
keep("interlaced.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
