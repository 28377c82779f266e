#!/usr/bin/env bash
# Runs every fuzz target for as long as one likes, and says what was executed.
#   fuzz/campaign.sh HOURS [TARGET...]     all targets, or these: HOURS in all (0.5 is half an hour)
#   FUZZ_RUNS=0                            so many new inputs for each target, after those that are kept: 0 tries these alone
#   FUZZ_JOBS=2                            so many processes at a time (default 1), of one target where no other is asked for
# What is found lies in fuzz/artifacts, inputs of new coverage in fuzz/corpus (begun with fuzz/corpora, which minimise.sh makes),
# what was printed in fuzz/logs. Ends with an error where a target failed.
set -euo pipefail
cd "$(dirname "$0")"
hours=${1:?"hours, and targets if not all: fuzz/campaign.sh 1 program"}
shift
asked=("$@") targets=("$@") jobs=${FUZZ_JOBS:-1}
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | grep -v '^nunatak-fuzz$')
folder=$(./build.sh "${asked[@]}")
each=$(((jobs + ${#targets[@]} - 1) / ${#targets[@]})) # processes of a target
seconds=$(awk "BEGIN { print int($hours * 3600 * $jobs / ($each * ${#targets[@]})) }")
mkdir -p logs
# What cargo-fuzz says to AddressSanitizer; a refused allocation is NULL, as in a program.
export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1:detect_odr_violation=0}

# fuzz TARGET NUMBER: one process; its exit code lies beside its log.
fuzz() {
  local target=$1 log=logs/$1.$2 seeds=() code=0
  mkdir -p "artifacts/$target"
  [ ! -d "seeds/$target" ] || seeds=("seeds/$target")
  case $target in
    image) seeds+=(../data/tests/golden) ;;
    pth) seeds+=(../tests/golden/checkpoint) ;;
  esac
  # Programs and sequences of calls are lists of changes: long from the start, and never longer than those that count.
  local options=(-max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="artifacts/$target/" -rss_limit_mb=4096 -timeout=60)
  [ -z "${FUZZ_RUNS:-}" ] || options+=(-runs="$FUZZ_RUNS")
  case $target in
    program | bundle) options+=(-len_control=0 -max_len=64) ;;
    capi) options+=(-len_control=0 -max_len=400) ;;
    weights) options+=(-max_len=600) ;;
    image) options+=(-max_len=20000) ;;
  esac
  "$folder/$target" "corpus/$target" "${seeds[@]}" "${options[@]}" >"$log" 2>&1 || code=$?
  echo "$code" >"$log.code"
}

for target in "${targets[@]}"; do
  # A first run begins with what earlier ones have found.
  if [ ! -d "corpus/$target" ]; then
    mkdir -p "corpus/$target"
    [ ! -e "corpora/$target.tar.gz" ] || tar -xzf "corpora/$target.tar.gz" -C "corpus/$target"
  fi
  for number in $(seq "$each"); do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    fuzz "$target" "$number" &
  done
done
wait

failed=0
for target in "${targets[@]}"; do
  inputs=0
  for number in $(seq "$each"); do
    log=logs/$target.$number
    [ "$(<"$log.code")" = 0 ] || { failed=1; echo "$target FAILED: fuzz/$log"; tail -n 30 "$log"; }
    inputs=$((inputs + $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") + 0))
    grep 'programs refused' "$log" | tail -n 1 || true
  done
  echo "$target: $inputs inputs in at most $seconds s, $(grep -oh 'cov: [0-9]*' "logs/$target".[0-9] | sort -t' ' -k2n | tail -n 1)"
done
exit $failed
