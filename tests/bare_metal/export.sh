#!/usr/bin/env bash
# Builds firmware from what `nunatak export` writes and nothing else (C, no C library), and runs it on an emulated
# Cortex-M7, M4F and M55: the self-test passes with every bit of the desktop's (with Helium within a tolerance), and names
# the call that a changed weight spoils; what is linked and how much memory it takes are compared with limits.
#   tests/bare_metal/export.sh [m7] [m4f] [m55]      (default: all)
#   CARGO, HOST_CARGO, QEMU, CC   as for run.sh
#   NUNATAK   the program that exports (default: built here)
set -euo pipefail
cd "$(dirname "$0")"
CARGO=${CARGO:-$(command -v xcargo || echo cargo)} HOST_CARGO=${HOST_CARGO:-cargo} QEMU=${QEMU:-qemu-system-arm} CC=${CC:-arm-none-eabi-gcc}
root=$(cd ../.. && pwd)
examples=$root/capi/examples
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
skip() { printf 'SKIPPED: export: %s\n' "$1"; exit 0; }
passed() { printf '%-12s %-62s passed\n' "$core" "$1"; }
fail() { printf '%-12s %-62s FAILED\n' "$core" "$1"; failed=1; }

command -v "$QEMU" >/dev/null || skip "no $QEMU"
command -v "$CC" >/dev/null || skip "no $CC"
if [ -z "${NUNATAK:-}" ]; then
  (cd "$root" && $HOST_CARGO test -q --workspace --no-run) # the tests' program: nothing is built twice
  NUNATAK=$(cd "$root" && $HOST_CARGO metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/nunatak
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/bare_metal

# board TARGET: what is exported for from now on; builds the library for it
board() {
  board=$1 exact="every bit"
  [ "$1" != m55 ] || exact="within 0.001" # Helium rounds once where others round twice
  case $1 in
    m7) core=Cortex-M7 TARGET=thumbv7em-none-eabihf cpu=cortex-m7 machine=mps2-an500 flags=(-mcpu=cortex-m7 -mfpu=fpv5-d16) script=firmware.ld ;;
    m4f) core=Cortex-M4F TARGET=thumbv7em-none-eabihf cpu=cortex-m4 machine=mps2-an386 flags=(-mcpu=cortex-m4 -mfpu=fpv4-sp-d16) script=firmware.ld ;;
    m55) core=Cortex-M55 TARGET=thumbv8m.main-none-eabihf cpu=cortex-m55 machine=mps3-an547 flags=(-mcpu=cortex-m55) script=firmware_m55.ld ;;
  esac
  (cd "$root" && CARGO_PROFILE_EMBEDDED_OPT_LEVEL=z RUSTFLAGS="-C target-cpu=$cpu --cfg sha2_backend_soft=\"compact\"" $CARGO rustc -q -p nunatak-capi \
    --profile embedded --no-default-features --features panic-handler,operations --target $TARGET --crate-type staticlib)
  library=$work/libnunatak-$1.a
  cp "$CARGO_TARGET_DIR/$TARGET/embedded/libnunatak.a" "$library"
}

# build FOLDER OUT WORDS...: the firmware of a folder
build() {
  local folder=$1 out=$2
  shift 2
  local test=()
  case " $* " in *" -DSELFTEST "*) test=("$folder/selftest.c") ;; esac
  $CC "${flags[@]}" -mthumb -mfloat-abi=hard -std=c11 -Os -Wall -Wextra -Werror -pedantic -ffreestanding -fno-builtin \
    -ffunction-sections -fdata-sections -nostdlib -I "$root/capi/include" -I "$folder" -I "$examples" -T "$examples/$script" "$@" \
    "$examples/firmware_board.c" export/main.c "$folder/model.c" ${test[@]+"${test[@]}"} "$library" -lgcc -Wl,--gc-sections,-z,noexecstack -o "$out"
}
# emulate ELF OUT
emulate() {
  timeout "${LESSON_TIMEOUT:-900}" "$QEMU" -M "$machine" -nographic -monitor none -serial none -icount shift=0 \
    -semihosting-config enable=on,target=native -kernel "$1" > "$2" 2>&1
}
# code ELF: bytes of code in flash, without programs and weights
code() {
  "${CC%gcc}nm" -S "$1" | python3 -c '
import subprocess, sys
sections = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=True).stdout
size = {w[0]: int(w[1]) for w in map(str.split, sections.splitlines()) if len(w) == 3 and w[1].isdigit()}
data = sum(int(w[1], 16) for w in map(str.split, sys.stdin) if len(w) == 4 and w[3] in ("model_bundle", "model_weights"))
print(sum(size.get(name, 0) for name in (".text", ".ARM.exidx", ".data", ".model")) - data)' "${CC%gcc}size" -A "$1"
}

# case_of NAME MOST_CODE PROGRAM BATCH STEPS RATE FLAGS...
case_of() {
  local name=$1 most=$2 program=$3 batch=$4 steps=$5 rate=$6 folder=$work/$1
  shift 6
  "$NUNATAK" export --name model --target "$board" --out "$folder" "$@" > "$folder.table" 2> "$folder.notes" || { cat "$folder.notes"; fail "$name: export"; return; }
  "$NUNATAK" export --name model --target "$board" --out "$folder.again" "$@" > /dev/null 2>&1
  if diff -r "$folder" "$folder.again"; then passed "$name: the same bytes again"; else fail "$name: the same bytes again"; fi
  sed 's/^/  /' "$folder.table"
  build "$folder" "$folder.elf" -DSELFTEST
  if emulate "$folder.elf" "$folder.out" && grep -q '^selftest: pass' "$folder.out"; then
    grep -E '^(bytes|  (train|stack))' "$folder.out" || true
    passed "$name: the self-test, $exact"
  else
    tail -n 5 "$folder.out"
    fail "$name: the self-test, $exact"
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

# odd WIDTH WIDTH POOL: the self-test of a network with so many channels, all of it trained, on planes of 13 x 13
odd() {
  local folder=$work/odd-$1-$2
  printf '{"block":"basic","layers":[1,1],"widths":[%s,%s],"stem":{"kernel":3,"stride":1,"pad":1,"pool":%s},"in_channels":3,"classes":5}' "$@" \
    > "$folder.json"
  "$NUNATAK" export --name model --target "$board" --out "$folder" --arch "$folder.json" --trainable all --batch 3 --size 13 \
    --region ram=1M > /dev/null 2>&1
  build "$folder" "$folder.elf" -DSELFTEST
  if emulate "$folder.elf" "$folder.out" && grep -q '^selftest: pass' "$folder.out"; then
    passed "$1 and $2 channels: the self-test, $exact"
  else
    tail -n 5 "$folder.out"
    fail "$1 and $2 channels: the self-test, $exact"
  fi
}

# spoilt TENSOR CALL FLAGS...: a changed weight is found, and the call named that reads it
spoilt() {
  local tensor=$1 call=$2 folder=$work/spoilt-$1
  shift 2
  "$NUNATAK" export --name model --target "$board" --raw --out "$folder" "$@" > /dev/null 2>&1
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
  "$NUNATAK" export --name model --target "$board" --rust --out "$crate/src" "$@" > /dev/null 2>&1
  printf '#![no_std]\n#![forbid(unsafe_code)]\npub mod model;\n' > "$crate/src/lib.rs"
  printf '[package]\nname = "exported"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\nnunatak-nn = { path = "%s", default-features = false }\n' \
    "$root/nn" > "$crate/Cargo.toml"
  if (cd "$crate" && RUSTFLAGS='-D warnings' $CARGO check -q --target $TARGET); then passed "a Rust module compiles"; else fail "a Rust module compiles"; fi
}

head=(--arch resnet8 --classes 10 --trainable fc --batch 8 --size 32 --region ram=4M)
int8=(--arch resnet8 --classes 10 --trainable fc --batch 1 --size 32 --frozen int8 --calibrate "$work/pictures" --region ram=80K)
python3 export/pictures.py "$work/pictures"

of_m7() {
  case_of head 145000 TRAIN_FC 8 12 .1f "${head[@]}"
  case_of everything 205000 TRAIN_ALL 4 4 .02f --arch resnet8 --classes 10 --trainable fc --trainable all --batch 4 --size 32 --region ram=4M
  case_of banks 145000 TRAIN_FC 2 12 .1f --arch resnet8 --classes 10 --trainable fc --batch 2 --size 32 --region dtcm=128K --region axi=512K --region sram=288K
  # Everything in the least memory: one image at a time, sums in the momentum, values computed again.
  case_of micro 205000 TRAIN_ALL 1 6 .02f --arch resnet8 --classes 10 --trainable all --batch 6 --micro-batch 1 --accumulate momentum --size 32 --region ram=1081K --max-mem 1079K
  case_of tiny 145000 TRAIN_FC 1 12 .1f --arch resnet8 --classes 10 --trainable fc --batch 1 --size 32 --region ram=200K
  # Frozen layers in 8 bits: the whole head's step in 80 kB.
  case_of int8 127000 TRAIN_FC 1 12 .1f "${int8[@]}"
  spoilt layer2.0.conv2.int8 "layer2.0.conv2 forward" "${int8[@]}"
  spoilt layer2.0.conv2.weight "layer2.0.conv2 forward" "${head[@]}"
  module "${head[@]}"
  spoilt fc.weight "fc forward" "${head[@]}"
}

# In 256 kB, with single precision alone (doubles take code).
of_m4f() {
  case_of m4f 150000 TRAIN_FC 1 12 .1f --arch resnet8 --classes 10 --trainable fc --batch 1 --size 32 --region ram=200K
  case_of m4f-int8 130000 TRAIN_FC 1 12 .1f "${int8[@]}"
  odd 10 18 false
  odd 5 7 true
}

# With Helium, and with weights in a memory of their own.
of_m55() {
  case_of m55 185000 TRAIN_FC 4 12 .1f --arch resnet8 --classes 10 --trainable fc --batch 4 --size 32 --section .model --region ram=1M
  case_of m55-int8 135000 TRAIN_FC 1 12 .1f "${int8[@]}"
  spoilt layer2.0.conv2.weight "layer2.0.conv2 forward" "${head[@]}"
  module "${head[@]}"
  odd 10 18 false
  odd 5 7 true
  odd 17 33 false
  case_of m55-everything 205000 TRAIN_ALL 2 4 .02f --arch resnet8 --classes 10 --trainable all --batch 2 --size 32 --section .model --region ram=2200K
}

[ $# -gt 0 ] || set -- m7 m4f m55
for name in "$@"; do
  board "$name"
  "of_$name"
done
exit $failed
