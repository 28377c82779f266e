#!/usr/bin/env bash
# The suites of core, kernels, data, nn and of whole steps under AddressSanitizer: accesses out of bounds, and after the end of
# a value's life. It is a part of every Rust toolchain; to ask for it needs a nightly one, or this variable. A quarter of an
# hour on two cores, most of it to build.
#   tests/address.sh
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
export NUNATAK_TEST=emulated # without the largest networks: they execute the same code
# Nor those that train until they have learnt.
CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$folder/address cargo test --locked -q --no-fail-fast --target "$host" --lib --tests \
  -p nunatak-core -p nunatak-kernels -p nunatak-data -p nunatak-nn -p nunatak-tests -- \
  --skip a_network_learns_to_tell_images_apart --skip a_new_head_learns_on_frozen_features --skip every_loss_falls \
  --skip steps_have_the_recorded_bits
