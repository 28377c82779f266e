#!/usr/bin/env python3
"""Reads the machine code of a firmware (Thumb-2) and fails where a function can call itself.

    stack.py FIRMWARE.elf [--objdump arm-none-eabi-objdump]

From `objdump -d` it takes every function, the bytes that its prologue takes from the stack, and its direct
calls and jumps. A circle of direct calls is recursion, and fails. Calls through a register can't be followed
so; the functions that have them are counted and named by module, to be read. Then it prints the largest
frames and the deepest path of direct calls: with what the firmware measures by painting its stack, that is
how its stack is known.
"""
import argparse
import re
import subprocess
import sys

FUNCTION = re.compile(r"^([0-9a-f]{8}) <(.+)>:$")
LINE = re.compile(r"^\s+([0-9a-f]+):\s+((?:[0-9a-f]{4} ?)+|[0-9a-f]{8})\s+(\S+)\s*(.*)$")


def registers(text):
    """How many registers a list such as {r4, r5, s16-s31, lr} names."""
    count = 0
    for part in text.strip("{}").split(","):
        ends = re.findall(r"(\d+)", part)
        count += int(ends[1]) - int(ends[0]) + 1 if "-" in part and len(ends) == 2 else 1
    return count


class Function:
    def __init__(self, name):
        self.name, self.frame, self.calls, self.indirect, self.takes, self.unknown = name, 0, set(), False, set(), False


def read(elf, objdump):
    """Functions by address."""
    text = subprocess.run([objdump, "-d", "-C", "--no-show-raw-insn", elf], check=True, capture_output=True, text=True).stdout
    functions, bodies = {}, {}
    now = None
    for line in text.splitlines():
        if head := FUNCTION.match(line):
            address = int(head[1], 16)
            now = functions[address] = Function(head[2])
            bodies[address] = []
        elif now is not None and "\t" in line:
            parts = line.strip().split("\t")
            if len(parts) < 2:
                continue
            bodies[address].append((parts[0].rstrip(":"), parts[1].strip(), parts[2].split(";")[0].split("@")[0].strip() if len(parts) > 2 else ""))
    starts = set(functions)
    for address, f in functions.items():
        constants = {}
        for _, op, args in bodies[address]:
            op = op.removesuffix(".w").removesuffix(".n")
            if op in ("push", "stmdb") and (op == "push" or args.startswith("sp!")):
                f.frame += 4 * registers(args[args.index("{"):])
            elif op in ("vpush", "vstmdb") and (op == "vpush" or args.startswith("sp!")):
                inside = args[args.index("{"):]
                f.frame += (8 if "d" in inside else 4) * registers(inside)
            elif op in ("sub", "subw") and args.startswith("sp,"):
                if amount := re.search(r"#(\d+)$", args):
                    f.frame += int(amount[1])
                else:
                    register = args.split(",")[-1].strip()
                    f.frame += constants.get(register, 0)
                    f.unknown |= register not in constants
            elif op == "str" and (pushed := re.search(r"\[sp, #-(\d+)\]!", args)):
                f.frame += int(pushed[1])
            elif op == "strd" and (pushed := re.search(r"\[sp, #-(\d+)\]!", args)):
                f.frame += int(pushed[1])
            elif op in ("movw", "mov") and (value := re.match(r"(\w+), #(\d+)", args)):
                constants[value[1]] = int(value[2])
            elif op == "movt" and (value := re.match(r"(\w+), #(\d+)", args)):
                whole = constants.get(value[1], 0) | int(value[2]) << 16
                constants[value[1]] = whole
                if whole & 1 and whole - 1 in starts:
                    f.takes.add(whole - 1)
            elif op == ".word" and (value := re.match(r"0x([0-9a-f]+)", args)):
                whole = int(value[1], 16)
                if whole & 1 and whole - 1 in starts:
                    f.takes.add(whole - 1)
            elif op == "blx" and re.match(r"r\d+|ip|lr", args):
                f.indirect = True
            elif op == "bx" and not args.startswith("lr"):
                f.indirect = True
            elif op.startswith("b") and (target := re.match(r"([0-9a-f]+) <([^+]+)>$", args.split(", ")[-1])):
                to = int(target[1], 16)
                if to in starts and (to != address or op.startswith("bl")):
                    f.calls.add(to)
            elif op in ("cbz", "cbnz") and (target := re.match(r"([0-9a-f]+) <([^+]+)>$", args.split(", ")[-1])):
                if int(target[1], 16) in starts and int(target[1], 16) != address:
                    f.calls.add(int(target[1], 16))
    return functions


def circles(functions):
    """Functions that reach themselves by direct calls: Tarjan's strongly connected components, in a loop."""
    index, low, on, stack, found, count = {}, {}, set(), [], [], 0
    for root in functions:
        if root in index:
            continue
        work = [(root, iter(functions[root].calls))]
        index[root] = low[root] = count
        count += 1
        stack.append(root)
        on.add(root)
        while work:
            at, calls = work[-1]
            for to in calls:
                if to not in index:
                    index[to] = low[to] = count
                    count += 1
                    stack.append(to)
                    on.add(to)
                    work.append((to, iter(functions[to].calls)))
                    break
                if to in on:
                    low[at] = min(low[at], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    group = []
                    while True:
                        group.append(stack.pop())
                        on.discard(group[-1])
                        if group[-1] == at:
                            break
                    if len(group) > 1 or at in functions[at].calls:
                        found.append(group)
    return found


def deepest(functions):
    """The deepest path of direct calls, in a program without circles: bytes, functions."""
    best, on = {}, set()
    for root in functions:
        work = [(root, False)]
        while work:
            at, calls_done = work.pop()
            if calls_done:
                below = max((best[to] for to in functions[at].calls if to in best), default=(0, ()))
                best[at] = (functions[at].frame + below[0], (at,) + below[1])
                on.discard(at)
            elif at not in best and at not in on:
                on.add(at)
                work.append((at, True))
                work.extend((to, False) for to in functions[at].calls if to not in best and to not in on)
    return max(best.values())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("elf")
    parser.add_argument("--objdump", default="arm-none-eabi-objdump")
    args = parser.parse_args()
    functions = read(args.elf, args.objdump)
    if len(functions) < 50 or not any(f.calls for f in functions.values()):
        sys.exit(f"  {args.elf}: {len(functions)} functions: not read rightly")
    # core's words for a wrong slice of a text are cut by slicing a text: on the way to a panic, once.
    found = [g for g in circles(functions) if not all(functions[a].name.startswith("core::str::slice_error_fail") for a in g)]
    for group in found:
        print("  recursion: " + ", ".join(functions[a].name for a in group))
    if found:
        sys.exit(1)
    unknown = [f.name for f in functions.values() if f.unknown]
    if unknown:
        sys.exit("  the stack grows by a number that is not in the code: " + ", ".join(unknown))
    indirect = sorted({f.name for f in functions.values() if f.indirect})
    own = [name for name in indirect if "core::fmt" not in name]
    print(f"  no recursion among the direct calls of {len(functions)} functions; {len(indirect)} call through a register, "
          f"{len(indirect) - len(own)} of them to format text, the others: {'; '.join(own)}")
    depth, path = deepest(functions)
    print(f"  the deepest path of direct calls takes {depth} bytes: " +
          ", ".join(f"{functions[a].name} {functions[a].frame}" for a in path if functions[a].frame >= 4096))


if __name__ == "__main__":
    main()
