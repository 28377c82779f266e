#!/usr/bin/env bash
# What Miri, an interpreter that finds undefined behaviour, can be asked within minutes: core's tests, the kernels' smallest
# ones, and every operation, every algorithm of a convolution and every order of updates through the executor (the programs that
# the fuzzer begins with, planned before).
#   tests/miri.sh
# Needs a nightly toolchain; its component miri is installed where it is missing and can be had.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo +nightly miri --version >/dev/null 2>&1; then
  rustup component add --toolchain nightly miri rust-src >/dev/null 2>&1 ||
    { echo "SKIPPED Miri: not installed (rustup component add --toolchain nightly miri rust-src)"; exit; }
fi
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
# The programs are planned by the tests as they are built for everything else.
export NUNATAK_PROGRAMS=$target/programs-for-miri
cargo test --locked -q --workspace --test tiny -- --ignored programs_are_written
# Files and the clock can be asked for.
export MIRIFLAGS="-Zmiri-disable-isolation" NUNATAK_PARTS
NUNATAK_PARTS=$(nproc)
cargo +nightly miri test --locked -q -p nunatak-core --lib
cargo +nightly miri test --locked -q -p nunatak-kernels --lib -- parallel
cargo +nightly miri test --locked -q -p nunatak-tests --test tiny --no-run
parts=()
for part in $(seq 0 $((NUNATAK_PARTS - 1))); do
  NUNATAK_PART=$part cargo +nightly miri test --locked -q -p nunatak-tests --test tiny -- --ignored --nocapture written_programs >"$target/miri-$part.log" 2>&1 &
  parts+=($!)
done
failed=0
for part in "${!parts[@]}"; do
  wait "${parts[$part]}" || { failed=1; tail -n 40 "$target/miri-$part.log"; }
  grep 'programs executed' "$target/miri-$part.log" || true
done
exit $failed
