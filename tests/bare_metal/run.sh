#!/usr/bin/env bash
# Trains on emulated boards without an operating system, and compares with a desktop.
#   tests/bare_metal/run.sh
#   CARGO       cargo that can build for thumbv7em-none-eabihf (default: xcargo of tests/edge/setup.sh, else cargo)
#   HOST_CARGO  cargo for this machine (default: cargo)
#   QEMU        default: qemu-system-arm
#   CC          a C compiler for it (default: arm-none-eabi-gcc): for capi/examples/firmware.c
#   NUNATAK_RECORD=1   writes bench/record/bare_metal.csv anew for this compiler
# A line for each machine and lesson; what can't run is named as skipped.
set -euo pipefail
cd "$(dirname "$0")"
CARGO=${CARGO:-$(command -v xcargo || echo cargo)} HOST_CARGO=${HOST_CARGO:-cargo} QEMU=${QEMU:-qemu-system-arm} CC=${CC:-arm-none-eabi-gcc}
TARGET=thumbv7em-none-eabihf
root=$(cd ../.. && pwd)
record=$root/bench/record/bare_metal.csv
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/bare_metal
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
passed() { printf '%-12s %-46s passed, %d s\n' "$1" "$2" $((SECONDS - started)); }
fail() { printf '%-12s %-46s FAILED\n' "$1" "$2"; failed=1; }
skip() { printf 'SKIPPED: bare metal: %s\n' "$1"; exit 0; }

command -v "$QEMU" >/dev/null || skip "no $QEMU"
mkdir -p "$work/probe/src" && printf '#![no_std]\n' > "$work/probe/src/lib.rs"
printf '[package]\nname = "probe"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n' > "$work/probe/Cargo.toml"
(cd "$work/probe" && CARGO_TARGET_DIR=$work/probe/target $CARGO build -q --target $TARGET 2>/dev/null) || skip "no core for $TARGET (rustup target add $TARGET)"
# The compiler that this cargo runs.
cat > "$work/probe/build.rs" <<'R'
fn main() {
    let rustc = std::env::var("RUSTC").expect("cargo sets it");
    let out = std::process::Command::new(rustc).arg("--version").output().expect("rustc");
    let words = String::from_utf8(out.stdout).expect("text");
    println!("cargo::warning={}", words.split_whitespace().nth(1).expect("a version"));
}
R
rustc="rustc $(cd "$work/probe" && CARGO_TARGET_DIR=$work/probe/target $CARGO build --target $TARGET 2>&1 | sed -n 's/^warning: probe@[^:]*: //p' | head -1)"

build() { BOARD=$1 $CARGO build -q --release --locked --features board --bin board --target $TARGET; cp "$CARGO_TARGET_DIR/$TARGET/release/board" "$work/$1"; }
# lesson MACHINE ELF WORDS OUT [options]: a run that counts instructions: each takes a nanosecond of the board's time
lesson() {
  local machine=$1 elf=$2 words=$3 out=$4
  shift 4
  timeout "${LESSON_TIMEOUT:-900}" "$QEMU" -M "$machine" -nographic -monitor none -serial none -semihosting-config enable=on,target=native \
    -kernel "$elf" -append "$words" "$@" > "$out" 2>&1 # firmware.c prints to the emulator's stderr
}
counted=(-icount shift=0)

started=$SECONDS
CARGO_PROFILE_RELEASE_LTO=off $HOST_CARGO build -q --release --locked --features desktop --bin desktop
desktop=$CARGO_TARGET_DIR/release/desktop
for length in whole three; do "$desktop" learn "$length" > "$work/desktop-$length"; done
"$desktop" sizes > "$work/desktop-sizes"
passed desktop "the same lessons, to compare with"

# name, emulated machine, board, steps
while read -r name machine board length; do
  started=$SECONDS
  what="ResNet-8, frozen and whole: $([ "$length" = whole ] && echo until it has learnt || echo three steps each)"
  build "$board"
  if lesson "$machine" "$work/$board" "learn $length" "$work/$board-learn" "${counted[@]}" &&
    python3 compare.py losses "$work/$board-learn" "$work/desktop-$length" &&
    python3 compare.py count "$record" "$rustc" "$name, ResNet-8" "$work/$board-learn"; then
    grep -E '^(bytes|right) ' "$work/$board-learn" | sed 's/^/  /'
    passed "$name" "$what"
  else
    tail -5 "$work/$board-learn"
    fail "$name" "$what"
  fi
done <<'BOARDS'
Cortex-M4F mps2-an386 m4 three
Cortex-M7 mps2-an500 m7 whole
Cortex-M55 mps3-an547 m55 three
BOARDS

started=$SECONDS
what="the tutorial's step of ResNet18 at 64x64"
if lesson mps3-an547 "$work/m55" tutorial "$work/tutorial" "${counted[@]}" &&
  python3 compare.py count "$record" "$rustc" "Cortex-M55, ResNet18 at 64x64" "$work/tutorial"; then
  grep -E '^(bytes|loss)' "$work/tutorial" | sed 's/^/  /'
  passed Cortex-M55 "$what"
else
  cat "$work/tutorial"
  fail Cortex-M55 "$what"
fi

if command -v "${CC%gcc}objdump" >/dev/null; then
  started=$SECONDS
  what="no function calls itself"
  if python3 stack.py "$work/m7" --objdump "${CC%gcc}objdump"; then passed Cortex-M "$what"; else fail Cortex-M "$what"; fi
else
  echo "SKIPPED: the search for recursion in the firmware: no ${CC%gcc}objdump"
fi

started=$SECONDS
what="firmware.c: ResNet-8 in C, head and whole"
if command -v "$CC" >/dev/null; then
  # Small code: one algorithm, statuses without words, hashing in a loop. This processor has double precision too.
  (cd "$root" && CARGO_PROFILE_EMBEDDED_OPT_LEVEL=z RUSTFLAGS='-C target-cpu=cortex-m7 --cfg sha2_backend_soft="compact"' $CARGO rustc -q -p nunatak-capi \
    --profile embedded --no-default-features --features panic-handler --target $TARGET --crate-type staticlib)
  (cd "$root/capi/examples" && $CC -mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16 -std=c11 -Os -Wall -Wextra -Werror -pedantic \
    -ffreestanding -fno-builtin -ffunction-sections -nostdlib -I ../include -T firmware.ld firmware_board.c firmware.c \
    "$CARGO_TARGET_DIR/$TARGET/embedded/libnunatak.a" -lgcc -Wl,--gc-sections,-z,noexecstack -o "$work/firmware")
  if lesson mps2-an500 "$work/firmware" firmware "$work/firmware.txt" "${counted[@]}" && "${CC%gcc}size" -A "$work/firmware" | python3 -c '
import sys
size = {w[0]: int(w[1]) for w in map(str.split, sys.stdin) if len(w) == 3 and w[1].isdigit()}
print("flash bytes", size[".text"] + size[".ARM.exidx"] + size[".data"])
print("ram bytes", size[".data"] + size[".bss"])' >> "$work/firmware.txt" &&
    python3 compare.py count "$record" "$rustc" "Cortex-M7, firmware.c" "$work/firmware.txt"; then
    grep -E '^(bytes|right) ' "$work/firmware.txt" | sed 's/^/  /'
    passed Cortex-M7 "$what"
  else
    tail -5 "$work/firmware.txt"
    fail Cortex-M7 "$what"
  fi
else
  echo "SKIPPED: capi/examples/firmware.c on a Cortex-M7: no $CC"
fi

started=$SECONDS
what="plans that are too large for 32 bits"
if lesson mps2-an386 "$work/m4" sizes "$work/sizes" && python3 compare.py sizes "$work/sizes" "$work/desktop-sizes"; then
  passed Cortex-M4F "$what"
else
  fail Cortex-M4F "$what"
fi

exit $failed
