#!/usr/bin/env bash
# The suites of core, kernels, data, nn and of whole steps under a sanitizer of the compiler's.
#   tests/sanitize.sh address      accesses out of bounds, and after the end of a value's life
#   tests/sanitize.sh memory       reads of memory that nobody has written
#   tests/sanitize.sh thread       data races
#   tests/sanitize.sh thread pool  the same for the pool of threads and some kernels that run on it alone: a minute or two
# The runtimes are a part of every Rust toolchain; to ask for them needs a nightly one, or a variable that is set here. For
# `memory` and `thread` the standard library is built with the sanitizer too, from its source (rustup component add rust-src,
# which is tried here). A quarter to half an hour on two cores each, most of it to build.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-}
host=$(rustc -vV | sed -n 's/^host: //p')
folder=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
source=$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock
standard=()
[ "$kind" = address ] || [ "${2:-}" = pool ] || standard=(-Zbuild-std)
if [ ${#standard[@]} -gt 0 ] && [ ! -e "$source" ]; then
  rustup component add rust-src >&2 || { echo "SKIPPED: $kind: the source of the standard library can't be installed (rustup component add rust-src)"; exit; }
fi
export RUSTC_BOOTSTRAP=1 CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=$folder/sanitize-$kind
export CARGO_PROFILE_TEST_DEBUG=line-tables-only # lines in reports
export NUNATAK_TEST=emulated # without the largest networks: they execute the same code
flags="-Zsanitizer=$kind"
case "$kind" in
  address)
    flags+=" -Cunsafe-allow-abi-mismatch=sanitizer"
    # Kernels with the checks that the test profile leaves out.
    flags+=" -Coverflow-checks=on -Cdebug-assertions=on"
    export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
    ;;
  memory) flags+=" -Zsanitizer-memory-track-origins" ;;
  thread)
    [ ${#standard[@]} -gt 0 ] || flags+=" -Cunsafe-allow-abi-mismatch=sanitizer"
    export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp"
    ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
export RUSTFLAGS=$flags
if [ "${2:-}" = pool ]; then
  cargo test --locked -q -p nunatak-kernels --lib --test ops --target "$host" -- parallel linear maxpool
  exit
fi
# Nor those that train until they have learnt.
cargo test --locked -q --no-fail-fast "${standard[@]}" --target "$host" --lib --tests \
  -p nunatak-core -p nunatak-kernels -p nunatak-data -p nunatak-nn -p nunatak-tests -- \
  --skip a_network_learns_to_tell_images_apart --skip a_new_head_learns_on_frozen_features --skip every_loss_falls \
  --skip steps_have_the_recorded_bits
