#!/usr/bin/env python3
"""Compares what a board printed with what a desktop did, and its counts of instructions with the record.

    compare.py losses BOARD.txt DESKTOP.txt [rounded-once]   Helium's products and sums are: other bits than on a desktop
    compare.py plan BOARD.txt DESKTOP.txt
    compare.py sizes BOARD.txt DESKTOP.txt
    compare.py count RECORD.csv RUSTC NAME BOARD.txt     NUNATAK_RECORD=1 writes the record
"""
import csv
import os
import re
import sys

LOSS = re.compile(r"^(?:(\S+) )?loss (head|all) (\d+) (\S+) bits ([0-9a-f]{8}) instructions (\d+)$")


def losses_of(path):
    """Lists of losses by who computed them, in the order of the file."""
    found = {}
    for line in open(path):
        if m := LOSS.match(line.strip()):
            found.setdefault(m[1] or "board", []).append((m[2], int(m[3]), float(m[4]), m[5]))
    return found


def losses(board, desktop, how=""):
    mine, theirs = losses_of(board)["board"], losses_of(desktop)
    twin, best = theirs["as-a-board"], theirs["desktop"]
    disturbed = theirs["disturbed"]
    length = len(twin)
    if len(mine) != length or len(best) != length or len(disturbed) % length or [m[:2] for m in mine] != [t[:2] for t in twin]:
        return f"{len(mine)} losses, {length} expected"
    off = lambda a, b: abs(a[2] / b[2] - 1)
    # The first loss within 5e-5; later ones within the same, or four times what
    # rounding alone has made of them by then.
    spread = [max(off(d, b) for d in disturbed[i::length]) for i, b in enumerate(best)]
    for i, (m, b) in enumerate(zip(mine, best)):
        allowed = 5e-5 if i == 0 else max(5e-5, 4 * max(spread[:i + 1]))
        if not off(m, b) <= allowed:
            return f"loss {m[0]} {m[1]} is {m[2]}, the desktop's {b[2]}: off by {off(m, b):.1e}, allowed {allowed:.1e}"
    same = sum(m[3] == t[3] for m, t in zip(mine, twin))
    if same != length and not how:
        return f"only {same} of {length} losses have the bits that the same arithmetic gives on a desktop"
    bits = "products and sums rounded once" if how else "the bits of the same arithmetic on a desktop"
    print(f"  {length} losses: {bits}; off the desktop's best level by "
          f"{max(off(m, b) for m, b in zip(mine, best)):.1e} (rounding alone: {max(spread):.1e})")


def plan(board, desktop):
    """Programs that the board planned, and losses of the one that it trained with, as on the desktop."""
    words = ("planned ", "bytes ", "loss ")
    # What room takes depends on the size of an address.
    wanted = lambda l: l.startswith(words) and not l.startswith("planned in ")
    mine, theirs = ([l.strip() for l in open(p) if wanted(l)] for p in (board, desktop))
    planned = sum(l.startswith("planned ") and l.endswith(" same true") for l in mine)
    losses = sum(l.startswith("loss ") for l in mine)
    if len(mine) != len(theirs) or planned < 4 or losses < 12:
        return f"{planned} programs and {losses} losses"
    for a, b in zip(mine, theirs):
        if a != b:
            return f"'{a}' on the board, '{b}' is due"
    print(f"  {planned} programs: byte for byte the desktop's; {losses} losses: bit for bit")


def sizes(board, desktop):
    mine, theirs = ([l.strip() for l in open(p) if l.startswith("plan ")] for p in (board, desktop))
    if not mine or len(mine) != len(theirs):
        return f"{len(mine)} plans, {len(theirs)} expected"
    for a, b in zip(mine, theirs):
        if a != b:
            return f"'{a}' on the board, '{b}' is due"
    refused = sum(l.endswith("refused") for l in mine)
    if not 0 < refused < len(mine):
        return f"{refused} of {len(mine)} plans refused: says nothing"
    print(f"  {len(mine)} plans: {len(mine) - refused} with the bytes that they have with 64 bits, {refused} refused")


def counts_of(path):
    """Instructions of the third step of each lesson: the first ones also warm up."""
    found = {}
    for line in open(path):
        if (m := LOSS.match(line.strip())) and m[3] == "2":
            found["train " + m[2]] = int(m[6])
        elif m := re.match(r"^step instructions (\d+)$", line):
            found["tutorial"] = int(m[1])
        elif m := re.match(r"^executing instructions (\d+)$", line):
            found["tutorial, executing"] = int(m[1])
        elif m := re.match(r"^planning (\S+): stack planning (\d+) bytes, instructions (\d+)$", line):
            found["plan " + m[1]] = int(m[3])
            found["stack bytes, planning"] = max(int(m[2]), found.get("stack bytes, planning", 0))
        elif m := re.match(r"^stack executing (\d+) bytes ", line):
            found["stack bytes, executing"] = int(m[1])
        elif m := re.match(r"^stack (\d+) ", line):
            found["stack bytes"] = int(m[1])
        elif m := re.match(r"^(flash|ram) bytes (\d+)$", line):
            found[m[1] + " bytes"] = int(m[2])
    return found


def count(record, rustc, name, board):
    found = counts_of(board)
    if not found:
        return "no counts"
    rows = list(csv.DictReader(open(record))) if os.path.exists(record) else []
    keep = [r for r in rows if not (r["rustc"] == rustc and r["what"] == name)]
    before = {r["figure"]: int(r["value"]) for r in rows if r["rustc"] == rustc and r["what"] == name}
    other = {r["figure"]: (int(r["value"]), r["rustc"]) for r in rows if r["rustc"] != rustc and r["what"] == name}
    if os.environ.get("NUNATAK_RECORD"):
        new = [{"what": name, "figure": f, "value": v, "rustc": rustc} for f, v in found.items()]
        with open(record, "w", newline="") as out:
            writer = csv.DictWriter(out, ["what", "figure", "value", "rustc"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted(keep + new, key=lambda r: (r["rustc"], r["what"], r["figure"])))
    grown = []
    for figure, value in found.items():
        line = f"  {figure} {value}"
        if figure in before:
            line += f" (record {before[figure]}, {100 * (value / before[figure] - 1):+.2f} %)"
            if value > 1.03 * before[figure] and not os.environ.get("NUNATAK_RECORD"):
                grown.append(figure)
        elif figure in other:
            line += f" (record of {other[figure][1]}: {other[figure][0]}; this is {rustc}: NUNATAK_RECORD=1 makes a new one)"
        else:
            line += " (no record: NUNATAK_RECORD=1 makes one)"
        print(line)
    if grown:
        return f"more than 3 % above the record: {', '.join(grown)}; if that is meant, NUNATAK_RECORD=1 changes it"


if __name__ == "__main__":
    wrong = {"losses": losses, "plan": plan, "sizes": sizes, "count": count}[sys.argv[1]](*sys.argv[2:])
    if wrong:
        sys.exit(f"  {sys.argv[1]}: {wrong}")
