#!/usr/bin/env python3
"""Looks at what the compiler made of the innermost loops: no calls, no vector registers put on the stack.

    asm.py OBJDUMP PROGRAM [--list]

The program is disassembled for AArch64. An *innermost loop* is what lies between the target of a jump
backwards and the jump, if no other jump backwards lies inside. In those of nunatak's functions that have
eight fused products of vectors or more there may be

* no call (`bl`, `blr`): every operation must be inlined;
* in *products* (matrix products, direct convolution, streaming, the products of Winograd's algorithms) no
  load or store of a vector register relative to the stack pointer: sums stay in registers.

*Transforms* (Winograd's: loops that subtract, or of more than 160 instructions) hold a square of up to 36
vectors, more than there are registers; what they put on the stack is counted and shown. So are integers (a pointer, a stride) that a
loop fetches from the stack. Exit code 1 where a loop breaks the rules, or where there are fewer products
than a build with optimisation has.
"""

import re
import subprocess
import sys

HOT = 8
LONG = 160
LEAST = 40
LINE = re.compile(r"^\s+([0-9a-f]+):\t[0-9a-f]{8} \t(\S+)\s*(.*)$")
HEAD = re.compile(r"^[0-9a-f]+ <(.*)>:$")
JUMP = re.compile(r"^(b|b\..*|cbz|cbnz|tbz|tbnz)$")
STACK = re.compile(r"\[sp[\],]")
VECTOR = re.compile(r"^[qvds]\d+|^\{v")


def functions(objdump, program):
    """(name, [(address, mnemonic, operands)]) of every function of the program."""
    # Mangled names are one word; the crate's name stands in them.
    text = subprocess.run([objdump, "-d", program], check=True, capture_output=True, text=True).stdout
    name, body = None, []
    for line in text.splitlines():
        if head := HEAD.match(line):
            if body:
                yield name, body
            name, body = head[1], []
        elif (found := LINE.match(line)) and name:
            body.append((int(found[1], 16), found[2], found[3]))
    if body:
        yield name, body


def innermost(body):
    """The loops of a function that contain no other loop."""
    index = {address: i for i, (address, _, _) in enumerate(body)}
    loops = []
    for i, (address, name, operands) in enumerate(body):
        if not JUMP.match(name):
            continue
        target = re.search(r"([0-9a-f]+) <", operands)
        start = index.get(int(target[1], 16)) if target else None
        if start is not None and start <= i:
            loops.append((start, i))
    last = -1
    for start, end in sorted(loops):
        inner = not any((a, b) != (start, end) and start <= a and b <= end for a, b in loops)
        # Several jumps back into one loop are one loop.
        if inner and start > last:
            yield body[start : end + 1]
            last = end


def main():
    objdump, program = sys.argv[1:3]
    counts = {"products": 0, "transforms": 0, "spilling": 0, "integers": 0}
    broken = []
    for name, body in functions(objdump, program):
        if "nunatak" not in name:
            continue
        for loop in innermost(body):
            fused = sum(op in ("fmla", "fmls") for _, op, _ in loop)
            if fused < HOT:
                continue
            calls = sum(op in ("bl", "blr") for _, op, _ in loop)
            touched = [args for _, _, args in loop if STACK.search(args)]
            vectors = sum(bool(VECTOR.match(args)) for args in touched)
            transform = len(loop) > LONG or any(op == "fsub" for _, op, _ in loop)
            counts["transforms" if transform else "products"] += 1
            counts["spilling"] += transform and vectors > 0
            counts["integers"] += not transform and len(touched) > vectors
            line = (
                f"{loop[0][0]:x}: {'transform' if transform else 'product'}, {len(loop)} instructions, {fused} fused products, "
                f"{calls} calls, {vectors} vectors and {len(touched) - vectors} integers on the stack: {name}"
            )
            if calls or (vectors and not transform):
                broken.append(line)
            if "--list" in sys.argv:
                print(line)
    print(f"{counts['products']} products: {len(broken)} loops with a call or a vector on the stack, {counts['integers']} fetch an integer from it")
    print(f"{counts['transforms']} transforms: {counts['spilling']} with a vector on the stack")
    print("".join(f"BROKEN {line}\n" for line in broken), end="")
    if counts["products"] < LEAST:
        print(f"fewer than {LEAST} products: is this a build with optimisation?")
    sys.exit(bool(broken) or counts["products"] < LEAST)


main()
