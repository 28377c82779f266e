#!/usr/bin/env bash
# Every check of the repository, for people and for CI.
#   tests/check.sh          all
#   tests/check.sh rest     all but `cargo test --workspace`
#   tests/check.sh quick    for the inner loop, a minute and a half where everything is built: format, lints, and the tests
#                           without the largest networks and convolutions, and the record of bits
#   EDGE_MINUTES=20         see tests/edge/run.sh
#   NUNATAK_MINUTES=60      the same, counted from the start of this script
#   NUNATAK_QUICK=1         leaves out what takes longest, emulated targets, and names it
# Steps select packages by --workspace where they can: what was built before has the same features then.
# What can't run on this machine is named as skipped, never silently passed.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
skipped=()
step() { printf '\n== %d min %02d s: %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }
skip() { printf '\n== SKIPPED: %s\n' "$*"; skipped+=("$*"); }

if [ "${1:-all}" = quick ]; then
  cargo fmt --all --check
  ! command -v python3 >/dev/null || python3 bench/peers/plot.py --check
  cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
  # What an emulator leaves out is what takes long here too.
  NUNATAK_TEST=emulated cargo test --locked --workspace --quiet -- --skip steps_have_the_recorded_bits
  printf '\nThe quick checks passed in %d min %02d s; tests/check.sh runs all.\n' $((SECONDS / 60)) $((SECONDS % 60))
  exit
fi

if [ "${1:-all}" != rest ]; then
  step "tests: cargo test --workspace"
  cargo test --locked --workspace
fi
command -v "${CXX:-c++}" >/dev/null || skip "C programs as C++17: no C++ compiler (apt-get install g++)"

step "C programs under valgrind"
if command -v valgrind >/dev/null; then
  cargo test --locked -q --workspace --test programs -- --ignored
else
  skip "C programs under valgrind: not installed (apt-get install valgrind)"
fi

step "format"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo fmt --manifest-path tests/loom/Cargo.toml --check

step "clippy, warnings denied"
cargo clippy --locked --workspace --all-targets -- -D warnings

step "clippy without std, without threads"
cargo clippy --locked -p nunatak-core -p nunatak-kernels -p nunatak-nn --no-default-features -- -D warnings

step "tables and pictures of the documents are those of the records"
if command -v python3 >/dev/null; then
  python3 bench/peers/plot.py --check
  target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
  [ -x "$target/debug/nunatak" ] || cargo test -q --workspace --no-run # the tests' program
  python3 bench/peers/memory.py --nunatak "$target/debug/nunatak" --check
else
  skip "tables and pictures: no python3"
fi

step "documentation, warnings denied"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

step "every level forced by the environment"
for level in portable avx2 avx512 neon; do
  if ./tests/has_level.sh "$level"; then
    NUNATAK_LEVEL=$level cargo test --locked -q --workspace --test tutorial
  else
    skip "level $level: this CPU has not got it"
  fi
done

step "the pool of threads under ThreadSanitizer"
if compgen -G "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/lib/librustc-*_rt.tsan.a" >/dev/null; then
  tests/sanitize.sh thread pool
else
  skip "threads under ThreadSanitizer: this toolchain has none for this machine"
fi

step "benches, in short: every case against the reference, then a moment of timing"
NUNATAK_BENCH=short cargo bench --locked -q --workspace --bench '*' --profile test >/dev/null

step "ONNX Runtime computes what is exported"
if python3 -c 'import numpy, onnx, onnxruntime' 2>/dev/null; then
  python3 tests/onnx/check.py --quick
else
  skip "ONNX Runtime: not installed (pip install numpy onnx onnxruntime)"
fi

step "cargo-c installs the C library, pkg-config links with it"
command -v pkg-config >/dev/null || skip "linking by pkg-config: not installed (apt-get install pkg-config)"
if cargo cinstall --version >/dev/null 2>&1; then
  # Built quickly; what is installed is the same.
  CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 PROFILE=dev capi/tests/install.sh
else
  skip "cargo cinstall: not installed (cargo install cargo-c)"
fi

step "exactly one binary"
binaries=$(cargo metadata --format-version 1 --no-deps | python3 -c "
import json, sys
print(sum('bin' in t['kind'] for p in json.load(sys.stdin)['packages'] for t in p['targets']))")
[ "$binaries" = 1 ] || { echo "$binaries binaries; cargo run would be ambiguous"; exit 1; }

step "crates.io and docs.rs: keys, licences, packages, semver"
package=$(mktemp)
tests/package.sh | tee "$package"
while read -r line; do skipped+=("${line#SKIPPED }"); done < <(grep '^SKIPPED' "$package")
rm "$package"

step "supply chain: lock files, licences, advisories, sources"
supply=$(mktemp)
tests/supply.sh | tee "$supply"
while read -r line; do skipped+=("${line#SKIPPED }"); done < <(grep '^SKIPPED' "$supply")
rm "$supply"
if [ -n "${NUNATAK_RELEASE:-}" ]; then
  step "a release, made twice"
  tests/release.sh
else
  skip "archives of a release, made twice and compared: NUNATAK_RELEASE is not set (tests/release.sh; two release builds)"
fi

step "faults of the system, in short"
faults=$(mktemp)
tests/faults.sh short | tee "$faults"
while read -r line; do skipped+=("${line#SKIPPED }"); done < <(grep '^SKIPPED' "$faults")
rm "$faults"

step "fuzz targets, with AddressSanitizer: what campaigns have found and kept"
if compgen -G "$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/lib/librustc-*_rt.asan.a" >/dev/null; then
  FUZZ_RUNS=0 FUZZ_JOBS=$(nproc) fuzz/campaign.sh 1
else
  skip "fuzz targets: this toolchain has no AddressSanitizer for this machine"
fi

step "the pool of threads in every order, under loom"
(cd tests/loom && cargo test --locked -q)

step "Miri: core, the pool of threads, and every operation on a few numbers"
if cargo +nightly miri --version >/dev/null 2>&1; then
  tests/miri.sh short
else
  skip "Miri: not installed (tests/miri.sh installs it)"
fi

step "the edge: builds without an operating system, the C library for boards, bare metal, ARM, wasm, older x86"
edge=$(mktemp)
[ -z "${NUNATAK_MINUTES:-}" ] || export EDGE_MINUTES=$((NUNATAK_MINUTES - SECONDS / 60))
if [ -n "${NUNATAK_QUICK:-}" ]; then
  echo "SKIPPED all targets: NUNATAK_QUICK is set; tests/edge/run.sh runs them" | tee "$edge"
else
  tests/edge/run.sh | tee "$edge"
fi
while read -r line; do skipped+=("edge: ${line#SKIPPED }"); done < <(grep '^SKIPPED' "$edge" | sort -u)
rm "$edge"

printf '\nAll checks passed in %d min %02d s' $((SECONDS / 60)) $((SECONDS % 60))
if [ ${#skipped[@]} -gt 0 ]; then printf '; skipped:\n'; printf '  %s\n' "${skipped[@]}"; else printf '.\n'; fi
