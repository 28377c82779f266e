#!/usr/bin/env bash
# The suites under tools that see what a test can't: accesses out of bounds and after the end of a value's life, numbers that
# are read and were never written, races, and what the language calls undefined.
#   tests/sanitizers.sh                     all
#   tests/sanitizers.sh address thread      these: address, memory, thread, miri
#   NUNATAK_INSTALL=1                       fetches what a nightly toolchain lacks first
#   NUNATAK_MIRI_SEEDS=16                   so many orders of threads for the pool under Miri (default 4)
# Lines that begin with SKIPPED name what this machine can't check. Each part takes minutes: docs/TESTING.md has the times.
set -uo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0
folder=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
host=$(rustc -vV | sed -n 's/^host: //p')
failed=0
# What is small and does all: an emulator's sizes.
export NUNATAK_TEST=emulated
crates=(-p nunatak-core -p nunatak-kernels -p nunatak-data -p nunatak-nn -p nunatak-tests)
# Networks that train until they have learnt take minutes here, and execute nothing that others don't. A sanitizer has stacks
# of its own, an allocator of its own, and no child processes that it follows.
left_out=(--skip a_network_learns_to_tell_images_apart --skip a_new_head_learns_on_frozen_features --skip every_loss_falls
  --skip steps_have_the_recorded_bits)

part() {
  local name=$1 began=$SECONDS log=$folder/sanitizers-$1.log
  shift
  if "$@" >"$log" 2>&1; then
    printf 'ok      %-8s %s tests, %d s\n' "$name" "$(awk '/^test result: ok/ {n += $4} END {print n + 0}' "$log")" $((SECONDS - began))
  else
    printf 'FAILED  %-8s %s\n' "$name" "$log"
    grep -E -A12 '^(error|test .*FAILED|==[0-9]+==ERROR|WARNING: |---- .* stdout)' "$log" | head -60
    failed=1
  fi
}
# with FLAGS FOLDER CARGO...: a build of the standard library too where the sanitizer must see into it
suites() {
  local sanitizer=$1 toolchain=$2
  shift 2
  RUSTFLAGS="-Zsanitizer=$sanitizer -Cunsafe-allow-abi-mismatch=sanitizer --cfg sanitized" CARGO_TARGET_DIR=$folder/$sanitizer \
    cargo $toolchain test --locked --no-fail-fast --target "$host" "$@" "${crates[@]}" --lib --tests -- "${left_out[@]}"
}
nightly() { cargo +nightly --version >/dev/null 2>&1; }
sources() { nightly && [ -e "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; }

if [ -n "${NUNATAK_INSTALL:-}" ]; then
  rustup toolchain install nightly --profile minimal --component rust-src --component miri
fi
[ $# -gt 0 ] || set -- address memory thread miri
for name in "$@"; do
  case $name in
    address) # part of every toolchain
      ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 RUSTC_BOOTSTRAP=1 part address suites address "" ;;
    memory | thread) # these must see what the standard library does
      if sources; then
        TSAN_OPTIONS=halt_on_error=1 part "$name" suites "$name" +nightly -Zbuild-std
      else
        echo "SKIPPED $name: no nightly toolchain with rust-src (NUNATAK_INSTALL=1)"
      fi ;;
    miri)
      if cargo +nightly miri --version >/dev/null 2>&1; then
        part miri miri
      else
        echo "SKIPPED miri: no nightly toolchain with it (NUNATAK_INSTALL=1)"
      fi ;;
    *) echo "no such part: $name; there are address, memory, thread, miri" >&2; exit 2 ;;
  esac
done
exit $failed
