#!/usr/bin/env bash
# Builds firmware from what `nunatak export` writes and nothing else (C, no C library), and runs it on an emulated
# Cortex-M7: the self-test passes with every bit of the desktop's, and names the call that a changed weight spoils; what
# is linked and how much memory it takes are compared with limits.
#   tests/bare_metal/export.sh
#   CARGO, HOST_CARGO, QEMU, CC   as for run.sh
#   NUNATAK   the program that exports (default: built here)
set -euo pipefail
cd "$(dirname "$0")"
CARGO=${CARGO:-$(command -v xcargo || echo cargo)} HOST_CARGO=${HOST_CARGO:-cargo} QEMU=${QEMU:-qemu-system-arm} CC=${CC:-arm-none-eabi-gcc}
TARGET=thumbv7em-none-eabihf
root=$(cd ../.. && pwd)
examples=$root/capi/examples
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
skip() { printf 'SKIPPED: export: %s\n' "$1"; exit 0; }
passed() { printf '%-12s %-62s passed\n' Cortex-M7 "$1"; }
fail() { printf '%-12s %-62s FAILED\n' Cortex-M7 "$1"; failed=1; }

command -v "$QEMU" >/dev/null || skip "no $QEMU"
command -v "$CC" >/dev/null || skip "no $CC"
if [ -z "${NUNATAK:-}" ]; then
  (cd "$root" && $HOST_CARGO test -q --workspace --no-run) # the tests' program: nothing is built twice
  NUNATAK=$(cd "$root" && $HOST_CARGO metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/nunatak
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/bare_metal
(cd "$root" && CARGO_PROFILE_EMBEDDED_OPT_LEVEL=z RUSTFLAGS='-C target-cpu=cortex-m7 --cfg sha2_backend_soft="compact"' $CARGO rustc -q -p nunatak-capi \
  --profile embedded --no-default-features --features panic-handler,operations --target $TARGET --crate-type staticlib)
library=$CARGO_TARGET_DIR/$TARGET/embedded/libnunatak.a

# build FOLDER OUT WORDS...: the firmware of a folder
build() {
  local folder=$1 out=$2
  shift 2
  local test=()
  case " $* " in *" -DSELFTEST "*) test=("$folder/selftest.c") ;; esac
  $CC -mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16 -std=c11 -Os -Wall -Wextra -Werror -pedantic -ffreestanding -fno-builtin \
    -ffunction-sections -fdata-sections -nostdlib -I "$root/capi/include" -I "$folder" -I "$examples" -T "$examples/firmware.ld" "$@" \
    "$examples/firmware_board.c" export/main.c "$folder/model.c" ${test[@]+"${test[@]}"} "$library" -lgcc -Wl,--gc-sections,-z,noexecstack -o "$out"
}
# emulate ELF OUT
emulate() {
  timeout "${LESSON_TIMEOUT:-900}" "$QEMU" -M mps2-an500 -nographic -monitor none -serial none -icount shift=0 \
    -semihosting-config enable=on,target=native -kernel "$1" > "$2" 2>&1
}
# code ELF: bytes of code in flash, without programs and weights
code() {
  "${CC%gcc}nm" -S "$1" | python3 -c '
import subprocess, sys
sections = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=True).stdout
size = {w[0]: int(w[1]) for w in map(str.split, sections.splitlines()) if len(w) == 3 and w[1].isdigit()}
data = sum(int(w[1], 16) for w in map(str.split, sys.stdin) if len(w) == 4 and w[3] in ("model_bundle", "model_weights"))
print(sum(size.get(name, 0) for name in (".text", ".ARM.exidx", ".data")) - data)' "${CC%gcc}size" -A "$1"
}

# case_of NAME MOST_CODE PROGRAM BATCH STEPS RATE FLAGS...
case_of() {
  local name=$1 most=$2 program=$3 batch=$4 steps=$5 rate=$6 folder=$work/$1
  shift 6
  "$NUNATAK" export --name model --target m7 --out "$folder" "$@" > "$folder.table" 2> "$folder.notes" || { cat "$folder.notes"; fail "$name: export"; return; }
  "$NUNATAK" export --name model --target m7 --out "$folder.again" "$@" > /dev/null 2>&1
  if diff -r "$folder" "$folder.again"; then passed "$name: the same bytes again"; else fail "$name: the same bytes again"; fi
  sed 's/^/  /' "$folder.table"
  build "$folder" "$folder.elf" -DSELFTEST
  if emulate "$folder.elf" "$folder.out" && grep -q '^selftest: pass' "$folder.out"; then
    grep -E '^(bytes|  (train|stack))' "$folder.out" || true
    passed "$name: the self-test, every bit"
  else
    tail -n 5 "$folder.out"
    fail "$name: the self-test, every bit"
  fi
  local micro=()
  case " $* " in *" --micro-batch "*) micro=("-DMICRO=MODEL_${program}_MICRO_BATCHES") ;; esac
  build "$folder" "$folder.learn.elf" ${micro[@]+"${micro[@]}"} "-DPROGRAM=MODEL_$program" "-DBATCH=$batch" "-DSTEPS=$steps" "-DRATE=$rate"
  local bytes
  bytes=$(code "$folder.learn.elf")
  if emulate "$folder.learn.elf" "$folder.learn" && [ "$bytes" -le "$most" ]; then
    grep -E '^(bytes|right|stack)' "$folder.learn" | sed 's/^/  /'
    passed "$name: learns; $bytes bytes of code, $most at most"
  else
    tail -n 5 "$folder.learn"
    fail "$name: learns; $bytes bytes of code, $most at most"
  fi
}

# spoilt TENSOR CALL FLAGS...: a changed weight is found, and the call named that reads it
spoilt() {
  local tensor=$1 call=$2 folder=$work/spoilt-$1
  shift 2
  "$NUNATAK" export --name model --target m7 --raw --out "$folder" "$@" > /dev/null 2>&1
  python3 export/flip.py "$folder/model_weights.bin" "$tensor"
  printf '.section .rodata\n.global model_weights\n.balign 64\nmodel_weights:\n.incbin "%s"\n' "$folder/model_weights.bin" > "$folder/weights.s"
  build "$folder" "$folder.elf" -DSELFTEST "$folder/weights.s"
  if ! emulate "$folder.elf" "$folder.out" && grep -q "^selftest: FAILED: .*, $call\$" "$folder.out"; then
    passed "a changed byte of $tensor: $call"
  else
    tail -n 5 "$folder.out"
    fail "a changed byte of $tensor: $call"
  fi
}

# The same as a Rust module, without unsafe code: it compiles for the board.
module() {
  local crate=$work/crate
  "$NUNATAK" export --name model --target m7 --rust --out "$crate/src" "$@" > /dev/null 2>&1
  printf '#![no_std]\n#![forbid(unsafe_code)]\npub mod model;\n' > "$crate/src/lib.rs"
  printf '[package]\nname = "exported"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\nnunatak-nn = { path = "%s", default-features = false }\n' \
    "$root/nn" > "$crate/Cargo.toml"
  if (cd "$crate" && RUSTFLAGS='-D warnings' $CARGO check -q --target $TARGET); then passed "a Rust module compiles"; else fail "a Rust module compiles"; fi
}

head=(--arch resnet8 --classes 10 --trainable fc --batch 8 --size 32 --region ram=4M)
case_of head 185000 TRAIN_FC 8 12 .1f "${head[@]}"
case_of everything 230000 TRAIN_ALL 4 4 .02f --arch resnet8 --classes 10 --trainable fc --trainable all --batch 4 --size 32 --region ram=4M
case_of banks 185000 TRAIN_FC 2 12 .1f --arch resnet8 --classes 10 --trainable fc --batch 2 --size 32 --region dtcm=128K --region axi=512K --region sram=288K
# Everything in the least memory: one image at a time, sums in the momentum, values computed again.
case_of micro 230000 TRAIN_ALL 1 6 .02f --arch resnet8 --classes 10 --trainable all --batch 6 --micro-batch 1 --accumulate momentum --size 32 --region ram=1081K --max-mem 1079K
case_of tiny 185000 TRAIN_FC 1 12 .1f --arch resnet8 --classes 10 --trainable fc --batch 1 --size 32 --region ram=200K
spoilt layer2.0.conv2.weight "layer2.0.conv2 forward" "${head[@]}"
module "${head[@]}"
spoilt fc.weight "fc forward" "${head[@]}"
exit $failed
