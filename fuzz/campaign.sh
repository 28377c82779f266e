#!/usr/bin/env bash
# Runs every fuzz target for as long as one likes, and says what was executed.
#   fuzz/campaign.sh HOURS [TARGET...]     all targets, or these, one after the other: HOURS in all (0.5 is half an hour)
# Needs a nightly toolchain (rustup toolchain install nightly); cargo-fuzz is installed where it is missing. What is
# found lies in fuzz/artifacts, inputs of new coverage in fuzz/corpus. Ends with an error where a target failed.
set -euo pipefail
cd "$(dirname "$0")"
hours=${1:?"hours, and targets if not all: fuzz/campaign.sh 1 program"}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(pth safetensors native program capi)
cargo +nightly --version >/dev/null || { echo "no nightly toolchain: rustup toolchain install nightly"; exit 1; }
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
seconds=$(awk "BEGIN { print int($hours * 3600 / ${#targets[@]}) }")
failed=0
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target"
  seeds=()
  [ ! -d "seeds/$target" ] || seeds=("seeds/$target")
  # Programs and sequences of calls are lists of changes: long from the start, and never longer than those that count.
  size=()
  case $target in program) size=(-len_control=0 -max_len=64) ;; capi) size=(-len_control=0 -max_len=400) ;; esac
  log=$(mktemp)
  cargo +nightly fuzz run -O "$target" "corpus/$target" "${seeds[@]}" -- -max_total_time="$seconds" -print_final_stats=1 "${size[@]}" >"$log" 2>&1 ||
    { failed=1; echo "$target FAILED:"; tail -30 "$log"; }
  inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(grep -o 'cov: [0-9]*' "$log" | tail -1)
  echo "$target: ${inputs:-no} inputs in $seconds s, ${coverage:-no coverage}; $(grep 'programs refused' "$log" | tail -1)"
  rm "$log"
done
exit $failed
