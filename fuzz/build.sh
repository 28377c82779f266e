#!/usr/bin/env bash
# Builds the fuzz targets with AddressSanitizer and what libFuzzer asks of a program, and prints the folder where they lie.
#   fuzz/build.sh [TARGET...]      all, or these
# It is what cargo-fuzz does, with the toolchain that is here: AddressSanitizer is a part of each, and RUSTC_BOOTSTRAP lets a
# stable one ask for it.
set -euo pipefail
cd "$(dirname "$0")"
export RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0
flags="--cfg fuzzing -Zsanitizer=address -Cforce-frame-pointers"
NUNATAK_COVERAGE="-Cpasses=sancov-module"
for flag in level=3 inline-8bit-counters pc-table; do
  NUNATAK_COVERAGE+=" -Cllvm-args=-sanitizer-coverage-$flag"
done
export NUNATAK_COVERAGE RUSTC_WRAPPER=$PWD/rustc.sh
host=$(rustc -vV | sed -n 's/^host: //p')
# What the targets need, and no more.
targets=()
[ $# = 0 ] || targets=(--no-default-features)
for target in "$@"; do
  targets+=(--bin "$target")
  case $target in capi | cli | image) targets+=(--features "$target") ;; esac
done
RUSTFLAGS="$flags" cargo build --locked --quiet --release --target "$host" "${targets[@]}" >&2
echo "$PWD/target/$host/release"
