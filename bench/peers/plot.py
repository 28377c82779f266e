#!/usr/bin/env python3
"""Makes the documents' tables and pictures of what was measured, from the records in bench/record.

    python3 bench/peers/plot.py              writes docs/img/*.svg, and the tables between marks in README.md and docs/*.md
    python3 bench/peers/plot.py --tables     the tables alone
    python3 bench/peers/plot.py --check      writes nothing; exit code 1 where a document or a picture is not its record's

Marks are comments, each on a line of its own; what stands between them is replaced:

    <!-- table: NAME [RECORD] -->
    <!-- end of table -->

NAME is one of tables.py's; RECORD is a file in bench/record/peers, for those of speed alone.
"""
import argparse
import glob
import os
import re
import sys

sys.dont_write_bytecode = True  # nothing is left beside the scripts
import record
import svg
import tables

MARKED = re.compile(r"^<!-- table: (?P<name>[a-z ]+?)(?: (?P<record>\S+\.json))? -->$.*?^<!-- end of table -->$", re.M | re.S)
IMAGES = os.path.join(record.ROOT, "docs", "img")


def table(path, match):
    """The marks with what stands between them now."""
    name, kept = match["name"], match["record"]
    if name not in tables.TABLES or (kept is None) == name.startswith("speed"):
        sys.exit(f"{path}: {match[0].splitlines()[0]}: expected one of {', '.join(tables.TABLES)}, and a record for speed alone")
    text = tables.TABLES[name](*([record.read(os.path.join(record.FOLDER, kept))] if kept else []))
    return f"{match[0].splitlines()[0]}\n{text}\n<!-- end of table -->"


def documents():
    """Path -> what it says now; only those with marks."""
    found, shown = {}, set()
    for path in [os.path.join(record.ROOT, "README.md"), *sorted(glob.glob(os.path.join(record.ROOT, "docs", "*.md")))]:
        with open(path, encoding="utf-8") as f:
            old = f.read()
        begun = len(re.findall(r"^<!-- table:", old, re.M))
        new, replaced = MARKED.subn(lambda match: table(path, match), old)
        if begun != replaced:
            sys.exit(f"{path}: {begun} tables begin, {replaced} of them are well marked; see the top of {__file__}")
        shown |= {match["name"] for match in MARKED.finditer(old)}
        if replaced:
            found[path] = new
    if missing := set(tables.TABLES) - shown:
        sys.exit(f"no document shows: {', '.join(sorted(missing))}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="tables alone, no pictures")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something is not its record's")
    args = parser.parse_args()
    texts = documents()
    if not args.tables:
        texts |= {os.path.join(IMAGES, name): draw() for name, draw in svg.PICTURES.items()}
    other = []
    for path, text in texts.items():
        old = open(path, encoding="utf-8").read() if os.path.exists(path) else None
        if old != text:
            other.append(os.path.relpath(path, record.ROOT))
            if not args.check:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as out:
                    out.write(text)
    if args.check and other:
        sys.exit(f"not what the records say: {', '.join(other)}; run python3 bench/peers/plot.py")
    print(f"{len(texts)} documents and pictures, {len(other)} {'differ' if args.check else 'written anew'}")


if __name__ == "__main__":
    main()
