#!/usr/bin/env bash
# Miri, an interpreter that finds undefined behaviour, on core's tests, on those of the pool of threads and its parts of slices, and
# on kernels and executor: every operation, every algorithm of a convolution and every order of updates on a few numbers (the
# programs that the fuzzer begins with, planned before), one number at a time and with the portable level's vectors.
#   tests/miri.sh          all: an hour on two cores
#   tests/miri.sh short    core's memory, and one of sixteen programs, at one level: five minutes, most of them to build
# Needs a nightly toolchain; its component miri is installed where it is missing and can be had.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo +nightly miri --version >/dev/null 2>&1 &&
  ! rustup component add --toolchain nightly miri rust-src >/dev/null 2>&1; then
  echo "SKIPPED Miri: no nightly toolchain with it (rustup toolchain install nightly --component miri,rust-src)"
  exit
fi
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
cores=$(nproc)
export RUST_BACKTRACE=0
programs=$target/programs-for-miri parts=$cores levels=(scalar portable)
[ "${1:-}" != short ] || { parts=$((16 * cores)) levels=(scalar); }
# Planned by the tests as they are built for everything else.
NUNATAK_PROGRAMS=$programs cargo test --locked -q --workspace --test tiny -- --ignored programs_are_written

# Files and the clock can be asked for. In a step arithmetic wraps as in a release build.
export MIRIFLAGS="-Zmiri-disable-isolation" CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false
miri() { cargo +nightly miri test --locked -q "$@"; }
# The others of core's have no unsafe code, and loop over thousands of numbers.
core=()
[ "${1:-}" != short ] || core=(arena:: list:: tensor::)
miri -p nunatak-core --lib -- ${core[@]+"${core[@]}"}
# The small tests: the others loop over thousands of sizes.
pool=(every_part_is_visited_once chunks_whose_ends parts_of_two_slices tiles_cover ranges_of_parts the_last_parts
  scratch_that_two_threads overlapping_rows)
# With several orders in which threads take turns.
[ "${1:-}" = short ] || MIRIFLAGS+=" -Zmiri-many-seeds=0..4"
miri -p nunatak-kernels --lib -- "${pool[@]/#/parallel::tests::}"

MIRIFLAGS=${MIRIFLAGS%% -Zmiri-many*}
tiny=(-p nunatak-tests --features nunatak-kernels/scalar --test tiny)
# Miri's programs see the variables of their build before those of their run: what follows is not set here.
miri "${tiny[@]}" --no-run
failed=0
for level in "${levels[@]}"; do
  running=()
  for part in $(seq 0 $((cores - 1))); do
    NUNATAK_PROGRAMS=$programs NUNATAK_PARTS=$parts NUNATAK_LEVEL=$level NUNATAK_PART=$part \
      miri "${tiny[@]}" -- --ignored --nocapture written_programs >"$target/miri-$level-$part.log" 2>&1 &
    running+=($!)
  done
  for part in "${!running[@]}"; do
    wait "${running[$part]}" || { failed=1; tail -n 40 "$target/miri-$level-$part.log"; }
    sed -n "s/programs executed/programs executed at the level $level/p" "$target/miri-$level-$part.log"
  done
done
exit $failed
