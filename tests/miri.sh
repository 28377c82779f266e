#!/usr/bin/env bash
# Runs what Miri can run: it executes Rust's own intermediate code and finds every access outside of an object, every use of
# what was never written or is gone, every race of threads, every reference that breaks the rules of borrowing.
#   tests/miri.sh [PART...]     core kernels pool wrapping step     (default: all; about 10 minutes of one core)
#
# | part | what runs |
# |---|---|
# | core | every unit test of `core` |
# | kernels | the unit tests of `kernels` that take some seconds here, at the level `portable`: SSE2's instructions by Miri's own |
# | pool | the pool and its parts, in other orders of threads for each of four seeds |
# | wrapping | the parts again where arithmetic wraps, as in a release build |
# | step | programs of a few numbers: every operation and algorithm of a convolution, forward, backward, update |
#
# What it can't do: AVX2 and AVX-512 (Miri knows few of their instructions; AddressSanitizer runs them: tests/sanitize.sh), a
# thread by POSIX's own call (the pool has Rust's here), files mapped into memory, networks of more than some thousand numbers.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(core kernels pool wrapping step)
cargo +nightly miri --version >/dev/null || { echo "no Miri: rustup component add --toolchain nightly miri rust-src"; exit 1; }
# Threads are asked for by number, whatever the machine has; the clock is Miri's own.
export CARGO_INCREMENTAL=0 NUNATAK_TEST=emulated RUST_BACKTRACE=0
# What asks for the folder that it is in (proptest) is told that there is none.
export MIRIFLAGS="-Zmiri-isolation-error=hide"
miri() { cargo +nightly miri test --locked -q "$@"; }
for part in "${parts[@]}"; do
  began=$SECONDS
  case $part in
    core) miri -p nunatak-core --lib ;;
    kernels) miri -p nunatak-kernels --lib -- "${SMALL_TESTS[@]}" ;;
    pool) MIRIFLAGS="$MIRIFLAGS -Zmiri-many-seeds=0..4" miri -p nunatak-kernels --lib -- "${POOL_TESTS[@]}" ;;
    wrapping) RUSTFLAGS="-C overflow-checks=off" miri -p nunatak-kernels --lib -- "${PARTS_TESTS[@]}" ;;
    step) miri -p nunatak-tests --test tiny ;;
    *) echo "no such part: $part (core, kernels, pool, wrapping, step)"; exit 2 ;;
  esac
  echo "Miri, $part: $((SECONDS - began)) s"
done
