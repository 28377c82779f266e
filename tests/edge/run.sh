#!/usr/bin/env bash
# Runs nunatak where it must work besides a desktop, and says for each target what ran and how long:
# builds without an operating system, the C library for boards, bare metal, AArch64, wasm, older x86 CPUs.
#   tests/edge/run.sh [builds] [c] [metal] [wasm] [a64] [x86]      (default: all)
#   CROSS_HOME     where emulators and compilers are put (default target/edge), see setup.sh
#   EDGE_MINUTES   nothing begins later than so many minutes after the start, but is named as skipped
#   EDGE_WHOLE=1   every suite on every CPU, not the tutorial alone where a CPU differs in what is detected alone:
#                  an hour more
#   EDGE_LOGS      where the output of each run is kept (default: the target folder, edge-logs)
# What this machine can't run is named as skipped. Exit code 1 where something failed.
set -euo pipefail
cd "$(dirname "$0")/../.."
export CROSS_HOME=${CROSS_HOME:-$PWD/target/edge} CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
folder=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
logs=${EDGE_LOGS:-$folder/edge-logs}
mkdir -p "$logs"
# One line for each thing that was run, in the order of their ends.
lines=$logs/lines
: >"$lines"

line() { printf '%-7s %-34s %-66s %s\n' "$@" | tee -a "$lines"; }
skip() { line SKIPPED "$1" "$2" ""; }
# late TARGET WHAT: whether the time is up; says so.
late() {
  [ -n "${EDGE_MINUTES:-}" ] && [ "$SECONDS" -ge $((60 * EDGE_MINUTES)) ] && skip "$1" "$2: $EDGE_MINUTES minutes are over"
}

# cpu: the seconds of CPU that this shell's ended commands took, in $cpu. Time on the clock says little where rows share
# the cores.
cpu() {
  local file=$logs/times.$BASHPID
  times >"$file"
  cpu=$(awk 'NR == 2 {gsub(/[ms]/, " "); printf "%d", 60 * $1 + $2 + 60 * $3 + $4}' "$file")
  rm "$file"
}

# run TARGET WHAT COMMAND...: one line; at a failure the end of what the command wrote. Tests are counted.
run() {
  local target=$1 what=$2 log began=$SECONDS tests cpu before limit=(timeout 1500)
  cpu; before=$cpu
  log=$logs/$(tr -cs 'A-Za-z0-9_\n' - <<<"$target $what" | cut -c1-100).log
  late "$target" "$what" && return
  shift 2
  # What hangs has failed.
  [ "$(type -t "$1")" != function ] || limit=()
  if "${limit[@]}" "$@" >"$log" 2>&1; then
    tests=$(awk '/^test result: ok/ {n += $4} END {if (n) print ", " n " tests"}' "$log")
    cpu
    line ok "$target" "$what$tests" "$((SECONDS - began)) s, $((cpu - before)) s of CPU"
  else
    line FAILED "$target" "$what: $log" "$((SECONDS - began)) s"
    tail -n 40 "$log"
  fi
}

# Tests leave out the largest convolutions (kernels/tests/conv2d.rs): an emulator is hundreds of times slower.
export NUNATAK_TEST=emulated

# set_up PART...: whether it is there, or could be put there
set_up() {
  flock "$lines" tests/edge/setup.sh "$@" >>"$logs/setup.log" 2>&1 && . "$CROSS_HOME/env.sh"
}

# Optimised as it is shipped, but not as a whole: that would be done anew for every test program.
fast=(env CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16)

part_builds() {
  set_up builds || { skip "no operating system" "no compiler for these targets: $logs/setup.log"; return; }
  local target
  for target in thumbv7em-none-eabihf riscv32imac-unknown-none-elf aarch64-unknown-none wasm32-unknown-unknown; do
    run "$target" "core, kernels, nn build without std and without a heap" \
      env CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 xcargo build -p nunatak-nn --no-default-features --target "$target"
  done
}

part_c() {
  set_up builds c || { skip "C library for boards" "no compiler: $logs/setup.log"; return; }
  run "C library, Cortex-M7" "links with nothing but the compiler's own; no allocator" \
    env CARGO=xcargo CC=arm-none-eabi-gcc capi/tests/link.sh
  # Of the kit what nothing else builds; capi/kit/build.sh makes all of it.
  set_up kit || { skip "the kit" "no compiler: $logs/setup.log"; return; }
  run "the kit, Cortex-M33, RISC-V" "archives, CMake, Zephyr's and ESP-IDF's files" kit
}
kit() { capi/kit/build.sh --out "$folder/kit-checked" m33 riscv32imafc && capi/kit/check.sh "$folder/kit-checked"; }

part_metal() {
  [ -e tests/bare_metal/run.sh ] || { skip "bare metal" "tests/bare_metal/run.sh is not there"; return; }
  set_up m7 m55 a64none c || { skip "bare metal" "no compiler or emulator: $logs/setup.log"; return; }
  late "bare metal" "tests/bare_metal/run.sh" && return
  local began=$SECONDS
  if tests/bare_metal/run.sh 2>&1 | tee "$logs/metal.log"; then
    if grep -q '^SKIPPED' "$logs/metal.log"; then
      skip "bare metal" "$(grep -m1 '^SKIPPED' "$logs/metal.log" | cut -d: -f3-)"
      return
    fi
    line ok "bare metal" "tests/bare_metal/run.sh, see above" "$((SECONDS - began)) s"
  else
    line FAILED "bare metal" "tests/bare_metal/run.sh, see above" "$((SECONDS - began)) s"
  fi
  late "bare metal" "tests/bare_metal/export.sh" && return
  began=$SECONDS
  if tests/bare_metal/export.sh 2>&1 | tee "$logs/export.log"; then
    line ok "bare metal" "tests/bare_metal/export.sh, see above" "$((SECONDS - began)) s"
  else
    line FAILED "bare metal" "tests/bare_metal/export.sh, see above" "$((SECONDS - began)) s"
  fi
}

part_a64() {
  set_up a64 || { skip "AArch64" "no compiler or emulator: $logs/setup.log"; return; }
  local crates=(-p nunatak-core -p nunatak-kernels -p nunatak-nn -p nunatak-tests) cpu
  local test=("${fast[@]}" xcargo test --release --target aarch64-unknown-linux-gnu) suites=(--lib --tests)
  run "AArch64" "the tests build" "${test[@]}" "${suites[@]}" --no-run "${crates[@]}"
  # NEON is part of every AArch64: these CPUs run the code that the A72 runs below.
  for cpu in a53 a76; do
    run "AArch64, Cortex-${cpu^^}" "the tutorial with PyTorch's numbers, NEON" \
      env A64_CPU=cortex-$cpu NUNATAK_LEVEL=neon "${test[@]}" --test tutorial "${crates[@]}"
  done
  run "AArch64, assembly" "no calls and no vectors on the stack in the innermost loops" tests/edge/asm.sh
  # Most tests loop over the levels of the CPU: NEON and portable in one run.
  # tests/suite/learning.rs trains until networks have learnt, which takes an emulator many minutes.
  for cpu in a72 ${EDGE_WHOLE:+a53 a76}; do
    run "AArch64, Cortex-${cpu^^}" "core, kernels, nn, tests, all but learning; NEON and portable" \
      env A64_CPU=cortex-$cpu NUNATAK_EXPECT_LEVELS=neon,portable "${test[@]}" "${suites[@]}" --no-fail-fast "${crates[@]}" \
      -- --skip a_network_learns_to_tell_images_apart --skip a_new_head_learns_on_frozen_features --skip every_loss_falls
  done
}

part_wasm() {
  command -v node >/dev/null || { skip "wasm32, simd128" "no node (apt-get install nodejs)"; return; }
  if set_up wasi; then
    # No emulator: node compiles the module. With checks of sizes that wrap, at 32 bits.
    run "wasm32, simd128, node's WASI" "core and the kernels' suite, proptest and checked sums too; portable level" \
      env -u NUNATAK_TEST CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true "${fast[@]}" xcargo test --release --target wasm32-wasip1 --lib --tests --no-default-features --features nunatak-kernels/algorithms -p nunatak-core -p nunatak-kernels
  else
    skip "wasm32, node's WASI" "no compiler: $logs/setup.log"
  fi
  set_up wasm || { skip "wasm32, simd128, node" "no compiler, or no wasm-objdump: $logs/setup.log"; return; }
  run "wasm32, simd128" "a ResNet18 builds without std" xcargo build --release -p nunatak-wasm --target wasm32-unknown-unknown
  local wasm=$folder/wasm32-unknown-unknown/release/nunatak_wasm.wasm
  run "wasm32, simd128" "128-bit products are in it" simd_in "$wasm"
  run "wasm32, simd128, node" "the tutorial with PyTorch's numbers; a head is trained" node tests/wasm/train.mjs "$wasm"
}

# The products of vectors in a module: a build without simd128 has none.
simd_in() {
  local count
  count=$(wasm-objdump -d "$1" | grep -c 'f32x4\.mul')
  echo "$count f32x4.mul"
  [ "$count" -ge 100 ]
}

part_x86() {
  [ "$(uname -m)" = x86_64 ] || { skip "older x86" "this machine is none"; return; }
  set_up x86 || { skip "older x86" "no emulator: $logs/setup.log"; return; }
  local cpu levels what
  # The desktop's own programs. A level that the CPU lacks dies of an illegal instruction.
  export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$CROSS_HOME/bin/qemu-x86"
  for cpu in "qemu64 portable SSE2" "Nehalem portable SSE4.2" "SandyBridge portable AVX" "Haswell avx2,portable AVX2"; do
    read -r cpu levels what <<<"$cpu"
    local here=(env X86_CPU="$cpu" NUNATAK_EXPECT_LEVELS="$levels" cargo test --workspace)
    run "x86-64, $cpu ($what)" "the tutorial with PyTorch's numbers" "${here[@]}" --test tutorial
    # Those between differ in what is detected alone: they run the same code.
    case $cpu${EDGE_WHOLE:+ whole} in
      qemu64 | Haswell | *whole)
        run "x86-64, $cpu ($what)" "exactly the levels $levels; every op but convolution" "${here[@]}" --lib --test ops
        # The desktop's suite runs the same code for the same levels; the tutorial above runs what is detected here.
        [ -z "${EDGE_WHOLE:-}" ] || run "x86-64, $cpu ($what)" "convolutions at the levels $levels, proptest too" \
          "${here[@]}" --no-fail-fast --test conv2d --test conv2d_finish
        ;;
      *) run "x86-64, $cpu ($what)" "exactly the levels $levels" "${here[@]}" --lib -- the_levels_that_are_due ;;
    esac
  done
  unset CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER
}

row() { for part in "$@"; do "part_$part"; done; }
# ended PID PARTS: waits; a row that has died is told.
ended() { wait "$1" || line FAILED "$2" "ended before its end" ""; }
if [ $# -gt 0 ]; then
  row "$@"
else
  # Boards fill every core by themselves; the rest leaves one idle here and there, so goes in two rows.
  row metal
  row a64 & a64=$!
  row builds c wasm x86 & others=$!
  ended $a64 "a64"
  ended $others "builds c wasm x86"
fi
printf '\n%s\n' "At the edge, $((SECONDS / 60)) min $((SECONDS % 60)) s:"
sort -k2 "$lines"
! grep -q '^FAILED' "$lines"
