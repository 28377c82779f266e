#!/usr/bin/env bash
# A project that finds an installed nunatak by CMake: the tutorial with each library there is, and a program with another static
# library in Rust beside it.
#   capi/kit/desktop.sh FOLDER     the folder of nunatak-config.cmake
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(realpath "$1")
command -v cmake >/dev/null || { echo "SKIPPED CMake: not installed (apt-get install cmake)"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rustc --edition 2024 --crate-type staticlib -C opt-level=1 -o "$work/libother.a" capi/tests/c/other.rs
cmake -S capi/kit/check -B "$work/build" -Dnunatak_DIR="$folder" -DTUTORIAL="$PWD/capi/examples/tutorial.c" -DOTHER="$work/libother.a" >"$work/log" 2>&1 &&
  cmake --build "$work/build" >>"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
for program in "$work"/build/tutorial_*; do "$program" >/dev/null; echo "CMake: $(basename "$program") runs"; done
[ ! -e "$work/build/two_of_rust" ] || "$work/build/two_of_rust" | tail -1
