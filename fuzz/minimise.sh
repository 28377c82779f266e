#!/usr/bin/env bash
# Makes the corpora that are kept (fuzz/corpora) of what campaigns have found (fuzz/corpus): for every target the smallest
# inputs that reach what all of them reach together, and none that is long.
#   fuzz/minimise.sh [TARGET...]      all, or these
set -euo pipefail
cd "$(dirname "$0")"
targets=("$@")
folder=$(./build.sh "${targets[@]}")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | grep -v '^nunatak-fuzz$')
mkdir -p corpora
export ASAN_OPTIONS=allocator_may_return_null=1:detect_odr_violation=0
for target in "${targets[@]}"; do
  from=() most=600
  for place in "corpus/$target" "seeds/$target"; do [ ! -d "$place" ] || from+=("$place"); done
  [ ${#from[@]} -gt 0 ] || continue
  case $target in image) most=3000 ;; esac
  chosen=$(mktemp -d)
  "$folder/$target" -merge=1 -max_len=$most -rss_limit_mb=4096 "$chosen" "${from[@]}" >/dev/null 2>&1
  # The same bytes for the same inputs.
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$chosen" -cf - . | gzip -9n >"corpora/$target.tar.gz"
  echo "$target: $(find "$chosen" -type f | wc -l) inputs, $(stat -c %s "corpora/$target.tar.gz") bytes"
  rm -r "$chosen"
done
