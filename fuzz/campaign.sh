#!/usr/bin/env bash
# Runs every fuzz target for as long as one likes, and says what was executed.
#   fuzz/campaign.sh HOURS [TARGET...]     all targets, or these, one after the other: HOURS in all (0.5 is half an hour)
#   FUZZ_JOBS=2                            so many processes of a target at a time (default 1)
# What is found lies in fuzz/artifacts, inputs of new coverage in fuzz/corpus, what was printed in fuzz/logs. Ends with an error
# where a target failed.
set -euo pipefail
cd "$(dirname "$0")"
hours=${1:?"hours, and targets if not all: fuzz/campaign.sh 1 program"}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | grep -v '^nunatak-fuzz$')
folder=$(./build.sh "${targets[@]}")
seconds=$(awk "BEGIN { print int($hours * 3600 / ${#targets[@]}) }")
mkdir -p logs
failed=0
# What cargo-fuzz says to AddressSanitizer; a refused allocation is NULL, as in a program.
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1:detect_odr_violation=0}
for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "artifacts/$target"
  seeds=()
  [ ! -d "seeds/$target" ] || seeds=("seeds/$target")
  [ "$target" != image ] || seeds+=(../data/tests/golden)
  # Programs and sequences of calls are lists of changes: long from the start, and never longer than those that count.
  options=(-max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="artifacts/$target/" -rss_limit_mb=4096 -timeout=60)
  case $target in
    program | bundle) options+=(-len_control=0 -max_len=64) ;;
    capi) options+=(-len_control=0 -max_len=400) ;;
    weights) options+=(-max_len=600) ;;
    image) options+=(-max_len=20000) ;;
  esac
  pids=()
  for job in $(seq "${FUZZ_JOBS:-1}"); do
    "$folder/$target" "corpus/$target" "${seeds[@]}" "${options[@]}" >"logs/$target.$job" 2>&1 &
    pids+=($!)
  done
  inputs=0
  for job in $(seq "${FUZZ_JOBS:-1}"); do
    log=logs/$target.$job
    wait "${pids[job - 1]}" || { failed=1; echo "$target FAILED: fuzz/$log"; tail -30 "$log"; }
    inputs=$((inputs + $(sed -n 's/^stat::number_of_executed_units: *//p' "$log" || true) + 0))
    grep 'programs refused' "$log" | tail -1 || true
  done
  echo "$target: $inputs inputs in $seconds s, $(grep -oh 'cov: [0-9]*' "logs/$target".* | sort -t' ' -k2n | tail -1)"
done
exit $failed
