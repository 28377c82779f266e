#!/usr/bin/env bash
# cargo-c installs libraries, header, nunatak.pc and CMake's files into a folder; the tutorial is then built with nothing
# but what CMake finds, and what pkg-config says, against both libraries, and run.
# Takes from the environment: CARGO (cargo, with cargo-c), CC, PROFILE (default: release).
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${CARGO:=cargo}" "${CC:=cc}" "${PROFILE:=release}"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

$CARGO cinstall --manifest-path capi/Cargo.toml --profile "$PROFILE" --prefix="$place/usr" --libdir="$place/usr/lib"
for file in lib/libnunatak.a lib/libnunatak.so include/nunatak.h include/nunatak.hpp share/nunatak/nunatak.supp share/nunatak/cmake/nunatak-config.cmake \
  share/nunatak/cmake/nunatak-config-version.cmake lib/pkgconfig/nunatak.pc; do
  [ -s "$place/usr/$file" ] || { echo "cargo cinstall left no $file"; exit 1; }
done
cmp capi/include/nunatak.h "$place/usr/include/nunatak.h"
echo "cargo cinstall: libraries, headers, nunatak.pc, CMake's files"

capi/kit/desktop.sh "$place/usr/share/nunatak/cmake"

command -v pkg-config >/dev/null || { echo "SKIPPED: linking with what pkg-config says: not installed (apt-get install pkg-config)"; exit 0; }
export PKG_CONFIG_PATH=$place/usr/lib/pkgconfig
[ "$(pkg-config --modversion nunatak)" = "$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)" ] || { echo "nunatak.pc tells another version"; exit 1; }
# What stands there are flags, to be split at blanks.
# shellcheck disable=SC2046
$CC -O1 capi/examples/tutorial.c $(pkg-config --cflags --libs nunatak) -lm -o "$place/shared"
LD_LIBRARY_PATH=$place/usr/lib "$place/shared" >/dev/null
# shellcheck disable=SC2046
$CC -O1 capi/examples/tutorial.c $(pkg-config --cflags nunatak) "$place/usr/lib/libnunatak.a" $(pkg-config --static --libs-only-l nunatak | sed 's/-lnunatak//') -lm -o "$place/static"
"$place/static" | tail -1
echo "pkg-config: the tutorial, linked with both libraries"
