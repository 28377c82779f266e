#!/usr/bin/env bash
# Trains on emulated boards without an operating system, and compares with a desktop.
#   tests/bare_metal/run.sh
#   CARGO       cargo that can build for thumbv7em-none-eabihf (default: xcargo of tests/edge/setup.sh, else cargo)
#   HOST_CARGO  cargo for this machine (default: cargo)
#   QEMU        default: qemu-system-arm
#   CC          a C compiler for it (default: arm-none-eabi-gcc): for capi/examples/firmware.c
#   HOST_CC     a C compiler for this machine (default: cc): its programs are planned here
#   NUNATAK_RECORD=1   writes bench/record/bare_metal.csv anew for this compiler
# A line for each machine and lesson; what can't run is named as skipped.
set -euo pipefail
cd "$(dirname "$0")"
CARGO=${CARGO:-$(command -v xcargo || echo cargo)} HOST_CARGO=${HOST_CARGO:-cargo} QEMU=${QEMU:-qemu-system-arm} CC=${CC:-arm-none-eabi-gcc} HOST_CC=${HOST_CC:-cc}
TARGET=thumbv7em-none-eabihf
root=$(cd ../.. && pwd)
record=$root/bench/record/bare_metal.csv
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/bare_metal
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
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

# The longest first, one emulator for each core. Instructions are counted: each takes a nanosecond of the board's
# time, so what a board prints depends on no clock.
#   lesson OUT ELF MACHINE WORDS
lesson() {
  local out=$work/$1 elf=$work/$2
  while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
  (
    began=$SECONDS
    # firmware.c prints to the emulator's stderr.
    timeout "${LESSON_TIMEOUT:-900}" "$QEMU" -M "$3" -nographic -monitor none -serial none -icount shift=0 \
      -semihosting-config enable=on,target=native -kernel "$elf" -append "$4" > "$out" 2>&1 && echo $((SECONDS - began)) > "$out.seconds"
  ) &
}
# passed NAME WHAT [OUT]; the time is the lesson's, which ran beside another
passed() { printf '%-12s %-46s passed%s\n' "$1" "$2" "${3:+, $(cat "$work/$3.seconds") s}"; }
fail() { printf '%-12s %-46s FAILED\n' "$1" "$2"; [ $# -lt 3 ] || tail -n 5 "$work/$3"; failed=1; }
# check OUT COMMAND...: whether the lesson ended well, and what it printed is right
check() {
  local out=$1
  shift
  [ -e "$work/$out.seconds" ] && "$@" && { grep -E '^(bytes|right|stack executing|planned in|loss .*PyTorch)' "$work/$out" | sed 's/^/  /' || true; }
}
count() { python3 compare.py count "$record" "$rustc" "$1" "$work/$2"; }
SIZE=${CC%gcc}size
# flash ELF OUT: what a firmware takes of flash and of RAM, besides the memory that is set apart; written behind
# what it printed. Room to plan in is zeros: it takes no flash.
flash() {
  command -v "$SIZE" >/dev/null || { echo "SKIPPED: sizes of firmware: no $SIZE"; return; }
  "$SIZE" -A "$1" | python3 -c '
import sys
size = {w[0]: int(w[1]) for w in map(str.split, sys.stdin) if len(w) == 3 and w[1].isdigit()}
of = lambda *names: sum(size.get(name, 0) for name in names)
print("flash bytes", of(".vector_table", ".text", ".rodata", ".ARM.exidx", ".data"))
print("ram bytes", of(".data", ".bss"))
sys.exit(".vector_table" in size and of(".data") > 0 and "initialised data: " + str(of(".data")))' >> "$2"
}

CARGO_PROFILE_RELEASE_LTO=off $HOST_CARGO build -q --release --locked --features desktop --bin desktop
desktop=$CARGO_TARGET_DIR/release/desktop
# firmware BOARD TARGET BIN...
firmware() {
  local board=$1 target=$2
  shift 2
  BOARD=$board $CARGO build -q --release --locked --features board "${@/#/--bin=}" --target "$target"
  for bin in "$@"; do cp "$CARGO_TARGET_DIR/$target/release/$bin" "$work/$board-$bin"; done
}
firmware m4 $TARGET board planner
firmware m7 $TARGET board planner
# With Helium.
RUSTFLAGS="-C target-cpu=cortex-m55" firmware m55 thumbv8m.main-none-eabihf board
if command -v "$CC" >/dev/null; then
  # Small code: one algorithm, statuses without words, hashing in a loop. This processor has double precision too.
  (cd "$root" && CARGO_PROFILE_EMBEDDED_OPT_LEVEL=z RUSTFLAGS='-C target-cpu=cortex-m7 --cfg sha2_backend_soft="compact"' $CARGO rustc -q -p nunatak-capi \
    --profile embedded --no-default-features --features panic-handler --target $TARGET --crate-type staticlib)
  # Its steps are planned here, and lie in its flash.
  (cd "$root" && CARGO_PROFILE_RELEASE_LTO=off $HOST_CARGO rustc -q --release -p nunatak-capi --crate-type staticlib)
  (cd "$root/capi/examples" && $HOST_CC -std=c11 -O1 -I ../include firmware_plan.c "$CARGO_TARGET_DIR/release/libnunatak.a" \
    -lpthread -ldl -lm -o "$work/firmware_plan" && "$work/firmware_plan" > "$work/firmware_programs.h")
  (cd "$root/capi/examples" && $CC -mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16 -std=c11 -Os -Wall -Wextra -Werror -pedantic \
    -ffreestanding -fno-builtin -ffunction-sections -nostdlib -I ../include -I "$work" -T firmware.ld firmware_board.c firmware.c \
    "$CARGO_TARGET_DIR/$TARGET/embedded/libnunatak.a" -lgcc -Wl,--gc-sections,-z,noexecstack -o "$work/firmware.elf")
  lesson firmware firmware.elf mps2-an500 firmware
fi
lesson m7-learn m7-board mps2-an500 "learn whole"
lesson tutorial m55-board mps3-an547 tutorial
lesson m4-learn m4-board mps2-an386 "learn three"
lesson m55-learn m55-board mps3-an547 "learn three"
lesson sizes m4-planner mps2-an386 sizes
lesson m4-plan m4-planner mps2-an386 plan
lesson m7-plan m7-planner mps2-an500 plan
for length in whole three; do "$desktop" learn "$length" > "$work/desktop-$length"; done
for lesson in plan sizes; do "$desktop" "$lesson" > "$work/desktop-$lesson"; done
wait

for pair in "board learn" "planner plan"; do
  read -r bin lesson <<<"$pair"
  flash "$work/m7-$bin" "$work/m7-$lesson" || fail Cortex-M7 "what takes flash"
done

# learnt NAME OUT LENGTH [rounded-once]
learnt() { python3 compare.py losses "$work/$2" "$work/desktop-$3" ${4+"$4"} && count "$1, ResNet-8" "$2"; }
while read -r name board length how; do
  what="ResNet-8, frozen and whole: $([ "$length" = whole ] && echo until it has learnt || echo three steps each)"
  if check "$board-learn" learnt "$name" "$board-learn" "$length" ${how:+"$how"}; then passed "$name" "$what" "$board-learn"; else fail "$name" "$what" "$board-learn"; fi
done <<'BOARDS'
Cortex-M4F m4 three
Cortex-M7 m7 whole
Cortex-M55 m55 three rounded-once
BOARDS

planned() { python3 compare.py plan "$work/$2" "$work/desktop-plan" && count "$1, planning" "$2"; }
while read -r name board; do
  what="ResNet-8 and a small network, planned on the board"
  if check "$board-plan" planned "$name" "$board-plan"; then passed "$name" "$what" "$board-plan"; else fail "$name" "$what" "$board-plan"; fi
done <<'BOARDS'
Cortex-M4F m4
Cortex-M7 m7
BOARDS

what="the tutorial's step of ResNet18 at 64x64"
if check tutorial count "Cortex-M55, ResNet18 at 64x64" tutorial; then passed Cortex-M55 "$what" tutorial; else fail Cortex-M55 "$what" tutorial; fi

if command -v "${CC%gcc}objdump" >/dev/null; then
  what="no function calls itself"
  if python3 stack.py "$work/m7-board" --objdump "${CC%gcc}objdump" && python3 stack.py "$work/m7-planner" --objdump "${CC%gcc}objdump"; then passed Cortex-M "$what"; else fail Cortex-M "$what"; fi
else
  echo "SKIPPED: the search for recursion in the firmware: no ${CC%gcc}objdump"
fi

if command -v "$CC" >/dev/null; then
  what="firmware.c: ResNet-8 in C, head and whole"
  flash "$work/firmware.elf" "$work/firmware"
  if check firmware count "Cortex-M7, firmware.c" firmware; then passed Cortex-M7 "$what" firmware; else fail Cortex-M7 "$what" firmware; fi
else
  echo "SKIPPED: capi/examples/firmware.c on a Cortex-M7: no $CC"
fi

what="plans that are too large for 32 bits"
if check sizes python3 compare.py sizes "$work/sizes" "$work/desktop-sizes"; then passed Cortex-M4F "$what" sizes; else fail Cortex-M4F "$what" sizes; fi

exit $failed
