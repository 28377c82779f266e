#!/usr/bin/env bash
# The tests of the pool of threads, and of some kernels that run on it, under ThreadSanitizer. It is part of
# every Rust toolchain; to ask for it needs a nightly one, or this variable.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp"
folder=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
host=$(rustc -vV | sed -n 's/^host: //p')
CARGO_TARGET_DIR=$folder/tsan cargo test --locked -q -p nunatak-kernels --lib --target "$host" -- parallel linear maxpool
