#!/usr/bin/env bash
# Whether every crate could be published: its keys, its licences, its package, its documentation on docs.rs, its
# version's promise.
#   tests/package.sh
#   NUNATAK_QUICK=1     packages are made, but not compiled from what was packed
# Lines that begin with SKIPPED name what this machine can't check.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "keys and licences of the published crates, examples, what is compiled where nothing is named"
cargo metadata --format-version 1 --no-deps | python3 -c '
import filecmp, json, os, sys

metadata = json.load(sys.stdin)
root = metadata["workspace_root"]
faults = []
published = [p for p in metadata["packages"] if p["publish"] is None]
for package in published:
    name, folder = package["name"], os.path.dirname(package["manifest_path"])
    for key in ["description", "license", "repository", "homepage", "documentation", "readme", "rust_version"]:
        if not package[key]:
            faults.append(f"{name}: no {key}")
    for key in ["keywords", "categories"]:
        if not 1 <= len(package[key]) <= 5:
            faults.append(f"{name}: {len(package[key])} {key}; 1 to 5 are allowed")
    if package["documentation"] != f"https://docs.rs/{name}":
        faults.append(f"{name}: its documentation is not at docs.rs/{name}")
    if not (package["metadata"] or {}).get("docs", {}).get("rs", {}).get("all-features"):
        faults.append(f"{name}: [package.metadata.docs.rs] lacks all-features = true")
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"]:
        copy = os.path.join(folder, licence)
        if not (os.path.isfile(copy) and filecmp.cmp(copy, os.path.join(root, licence), shallow=False)):
            faults.append(f"{name}: {licence} is missing, or is not the one of the repository")
    for dependency in package["dependencies"]:
        if dependency.get("path") and dependency["req"] == "*":
            faults.append(f"{name}: {dependency['name']} has a path but no version")
examples = {p["name"] for p in metadata["packages"] if any("example" in t["kind"] for t in p["targets"])}
for name in ["nunatak-kernels", "nunatak-nn"]:
    if name not in examples:
        faults.append(f"{name}: no examples/")
default = set(metadata["workspace_default_members"])
for package in metadata["packages"]:
    if package["id"] in default and any("bench" in t["kind"] for t in package["targets"]):
        faults.append(f"{package['name']}: a default member has benches, so that `cargo build --all-targets` compiles them")
if default >= {p["id"] for p in metadata["packages"]}:
    faults.append("every member is a default member: `cargo build` compiles benches and tests")
print(f"{len(published)} published crates: " + ", ".join(sorted(p["name"] for p in published)))
for fault in faults:
    print(fault, file=sys.stderr)
sys.exit(bool(faults))'

echo "documentation with all features, as docs.rs builds it"
published=$(cargo metadata --format-version 1 --no-deps | python3 -c '
import json, sys
print(*(p["name"] for p in json.load(sys.stdin)["packages"] if p["publish"] is None))')
selected=()
for name in $published; do selected+=(-p "$name"); done
RUSTDOCFLAGS="-D warnings" cargo doc --locked "${selected[@]}" --all-features --no-deps --quiet

# What is being written is checked too.
cargo package --workspace --no-verify --quiet --allow-dirty
if [ -n "${NUNATAK_QUICK:-}" ]; then
  echo "SKIPPED compiling what was packed: NUNATAK_QUICK is set"
else
  echo "cargo package with verification: compiled from what was packed"
  # In a folder of its own: cargo takes what it once compiled of a package of this version for the same as what is packed now.
  verified=$(mktemp -d)
  trap 'rm -rf "$verified"' EXIT
  CARGO_TARGET_DIR=$verified CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo package "${selected[@]}" --quiet --allow-dirty
fi
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
for name in $published; do
  crates=("$target/package/$name"-[0-9]*.crate)
  packed=$(tar tzf "${crates[-1]}")
  for file in LICENSE-MIT LICENSE-APACHE README.md Cargo.toml; do
    grep -q "^[^/]*/$file\$" <<<"$packed" || { echo "$name: $file is not in the package"; exit 1; }
  done
done

if ! cargo semver-checks --version >/dev/null 2>&1; then
  echo "SKIPPED semver: not installed (cargo install cargo-semver-checks --locked)"
elif released=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null); then
  echo "semver against $released"
  cargo semver-checks --workspace --baseline-rev "$released"
else
  echo "SKIPPED semver: no release is tagged (v*) that could be compared with"
fi
