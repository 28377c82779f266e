#!/usr/bin/env bash
# Faults of the system: kills, full and read-only disks, refused memory, outputs that nobody reads.
#   tests/faults.sh          the campaign, some minutes: 500 kills at random moments, a kill and three faults at every call
#                            that changes a file, every command with every output cut off
#   tests/faults.sh short    what `cargo test` has not: a small file system, a read-only one, little memory; under a minute
#   NUNATAK_KILLS=5000       so many kills
#   NUNATAK_PROGRAM=FILE     small disks and little memory for this program, not for the tests' own
# Lines that begin with SKIPPED name what this machine can't check.
set -euo pipefail
cd "$(dirname "$0")/.."
short=; [ "${1:-}" != short ] || short=1
export CARGO_TERM_COLOR=never

if [ -z "$short" ]; then
  export NUNATAK_KILLS=${NUNATAK_KILLS:-500} NUNATAK_FAULTS=all
  cargo test --locked -q --workspace --test suite -- --nocapture --test-threads 2 killed:: full_disk:: nobody_reads:: moved::
fi

# The program as the tests have it: its kernels are optimised, and nothing is compiled that was not.
program=${NUNATAK_PROGRAM:-$(cargo test --locked -q --workspace --test suite --no-run --message-format json | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "nunatak" and message.get("executable"):
        print(message["executable"])' | tail -1)}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/data"
# Pictures that need no library: a header, and a colour for every class.
python3 - "$place/data" <<'PYTHON'
import os, sys
for label, colour in [("blue", (20, 40, 180)), ("green", (30, 170, 40)), ("red", (180, 30, 20))]:
    for part, count in [("train", 4), ("val", 2)]:
        folder = os.path.join(sys.argv[1], part, label)
        os.makedirs(folder)
        for i in range(count):
            with open(os.path.join(folder, f"{i}.ppm"), "wb") as file:
                file.write(b"P6 16 16 255\n" + bytes(min(255, c + 7 * ((i + p) % 5)) for p in range(256) for c in colour))
PYTHON
tune="finetune $place/data --arch resnet8 --size 16 --resize 16 --batch 4 --threads 1 --epochs 2 --lr 0.01 --quiet"

# Ends as it should: 0, or 1 with this cause, and nothing torn or left.
check() { # code, stderr, cause, folder
  case $1 in
    0) ;;
    1) grep -q "^error: .*$3" <<<"$2" || { echo "an error without its cause: $2"; exit 1; } ;;
    *) echo "exit code $1: $2"; exit 1 ;;
  esac
  local left
  left=$(find "$4" -name '*.tmp' -o -name '*.lock')
  [ -z "$left" ] || { echo "left behind: $left"; exit 1; }
  for file in "$4"/*.safetensors "$4"/*.last; do
    [ ! -e "$file" ] || "$program" inspect "$file" >/dev/null
  done
}
export -f check
export program tune

if unshare -Urm true 2>/dev/null; then
  unshare -Urm bash -euo pipefail -s "$place" "${short:-}" <<'SPACE'
    tried=0 full=0
    mkdir "$1/small" "$1/read-only"
    for kilobytes in $(seq 8 $([ -n "$2" ] && echo 400 || echo 32) 1800); do
      mount -t tmpfs -o "size=${kilobytes}k" nunatak "$1/small"
      code=0; said=$(cd "$1/small" && "$program" $tune --out m.safetensors --log log.jsonl 2>&1 >/dev/null) || code=$?
      check $code "$said" "No space left on device" "$1/small"
      tried=$((tried + 1)) full=$((full + code))
      umount "$1/small"
    done
    [ $full -gt 0 ] && [ $full -lt $tried ] || { echo "$full of $tried file systems were full"; exit 1; }
    echo "file systems of $tried sizes, $full too small: an error each time, nothing torn, nothing left"
    mount -t tmpfs nunatak "$1/read-only"
    "$program" $tune --out "$1/read-only/m.safetensors" >/dev/null
    mount -o remount,ro "$1/read-only"
    for words in "$tune --resume --epochs 3" "$tune --overwrite"; do
      code=0; said=$("$program" $words --out "$1/read-only/m.safetensors" 2>&1 >/dev/null) || code=$?
      [ $code = 1 ] || { echo "exit code $code on a read-only file system: $said"; exit 1; }
      check $code "$said" "Read-only file system" "$1/read-only"
    done
    "$program" predict "$1/read-only/m.safetensors" "$1/data/val/red/0.ppm" --quiet >/dev/null
    echo "a read-only file system: refused before training, and the model there predicts"
SPACE
else
  echo "SKIPPED small and read-only file systems: no user namespaces here (unshare -Urm)"
fi

# Less and less address space: an error that says so, and never a signal.
# Where the system's loader has too little for the program itself, none of the program's lines runs: the first limit is
# one with which it can say its version.
least=20000
until (ulimit -v $least; "$program" --version >/dev/null 2>&1); do
  least=$((least + 1000))
  [ $least -lt 100000 ] || { echo "the program can't be loaded in $least kB"; exit 1; }
done 2>/dev/null
tried=0 refused=0
for kilobytes in $(seq $least $([ -n "$short" ] && echo 20000 || echo 2000) 140000); do
  for threads in 1 4; do
    code=0
    said=$(ulimit -v "$kilobytes"; "$program" ${tune/--threads 1/--threads $threads} --out "$place/memory.safetensors" --overwrite 2>&1 >/dev/null) || code=$?
    check $code "$said" "" "$place"
    tried=$((tried + 1)) refused=$((refused + code))
  done
done
echo "$tried runs with $((least / 1000)) to 140 MB of address space, $refused refused: an error each time, never a signal"
