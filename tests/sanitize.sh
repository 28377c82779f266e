#!/usr/bin/env bash
# The tests of kernels, of the executor and of the C library under AddressSanitizer, and those of core, kernels and the
# executor under MemorySanitizer.
#   tests/sanitize.sh [address] [memory]     (default: both)
# AddressSanitizer is a part of every toolchain: this variable lets a stable one ask for it. MemorySanitizer wants the
# standard library built with it too: a nightly toolchain with its source (rustup component add --toolchain nightly rust-src).
# What they can't see: numbers outside of their slice but inside of the block (bounds that the code checks itself, and the
# fuzz target `program`); races (tests/threads.sh). C programs have runs of their own (capi/tests/programs.rs).
set -euo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(address memory)
folder=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
host=$(rustc -vV | sed -n 's/^host: //p')
# Tests leave out the largest convolutions, as for emulators.
export NUNATAK_TEST=emulated CARGO_INCREMENTAL=0
crates=(-p nunatak-core -p nunatak-kernels -p nunatak-nn -p nunatak-tests)
for part in "${parts[@]}"; do
  began=$SECONDS
  case $part in
    address)
      RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR=$folder/asan \
        cargo test --locked -q "${crates[@]}" -p nunatak-capi --lib --tests --target "$host"
      ;;
    memory)
      if ! [ -e "$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/Cargo.lock" ]; then
        echo "SKIPPED MemorySanitizer: no nightly toolchain with rust-src"
        continue
      fi
      # An allocation is filled with what was never written; backtraces need a library that is not built with it.
      RUSTFLAGS="-Zsanitizer=memory -Zsanitizer-memory-track-origins" CARGO_TARGET_DIR=$folder/msan RUST_BACKTRACE=0 \
        cargo +nightly test --locked -q -Zbuild-std "${crates[@]}" --lib --tests --target "$host"
      ;;
    *) echo "no such part: $part (address, memory)"; exit 2 ;;
  esac
  echo "$part: $((SECONDS - began)) s"
done
