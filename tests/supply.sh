#!/usr/bin/env bash
# Where the dependencies come from, what licence they have, what is known against them: for every lock file. Seconds,
# where cargo-deny is installed.
#   tests/supply.sh
#   NUNATAK_INSTALL=1        installs cargo-deny and cargo-cyclonedx first; some minutes
#   NUNATAK_TOOLS=DIR        where they are, or go (default: target/tools), if not in the path
#   NUNATAK_ADVISORIES=DIR   a clone of RustSec's advisory-db; without it, it is fetched
# Lines that begin with SKIPPED name what this machine can't check.
set -euo pipefail
cd "$(dirname "$0")/.."
DENY=0.20.2 CYCLONEDX=0.5.9
tools=${NUNATAK_TOOLS:-$PWD/target/tools}
PATH=$tools/bin:$PATH
if [ -n "${NUNATAK_INSTALL:-}" ]; then
  cargo install --quiet --locked --root "$tools" "cargo-deny@$DENY" "cargo-cyclonedx@$CYCLONEDX"
fi

# What is shipped or run by tests; and the frameworks that are measured beside us, which are neither, and many.
own=(Cargo.toml fuzz/Cargo.toml tests/bare_metal/Cargo.toml tests/loom/Cargo.toml)
foreign=(bench/peers/rust/Cargo.toml)
# Nothing is resolved anew when something is built.
for manifest in "${own[@]}"; do
  cargo metadata --locked --format-version 1 --manifest-path "$manifest" >/dev/null ||
    { echo "the lock file beside $manifest is not that of its crates: cargo metadata --manifest-path $manifest"; exit 1; }
done
echo "${#own[@]} lock files are complete"

if ! cargo deny --version >/dev/null 2>&1; then
  echo "SKIPPED cargo deny: licences, advisories, bans, sources: not installed (NUNATAK_INSTALL=1 tests/supply.sh)"
  exit
fi
advisories=advisories
if [ -n "${NUNATAK_ADVISORIES:-}" ]; then
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$(realpath "$NUNATAK_ADVISORIES").insteadOf"
  export GIT_CONFIG_VALUE_0=https://github.com/RustSec/advisory-db
fi
if ! said=$(GIT_TERMINAL_PROMPT=0 cargo deny fetch db 2>&1); then
  echo "SKIPPED advisories: RustSec's database can't be fetched ($(tail -1 <<<"$said")); NUNATAK_ADVISORIES=DIR names a clone"
  advisories=
fi
# The lists are for all workspaces: each has some of what they name.
deny() { # manifest, checks...
  local manifest=$1
  shift
  echo "$manifest: $*"
  cargo deny --config deny.toml --manifest-path "$manifest" --locked check -A unmatched-skip --hide-inclusion-graph "$@"
}
for manifest in "${own[@]}"; do
  # shellcheck disable=SC2086
  deny "$manifest" licenses bans sources $advisories
done
for manifest in "${foreign[@]}"; do
  # shellcheck disable=SC2086
  deny "$manifest" sources $advisories
done
