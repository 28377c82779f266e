#!/usr/bin/env bash
# Makes the archives of a release twice, from two clean copies of the last commit in folders of different names, and
# compares them: who builds the same commit with the same compiler has the same bytes.
#   tests/release.sh [FOLDER]    the archives and SHA256SUMS go there (default: target/release-archives)
#   NUNATAK_QUICK=1              not optimised, and one build's archives are not kept: proves the script, not the release
# One archive has the program, the other the C library: libnunatak.a and .so, headers, nunatak.pc. Both have the licences, what they
# were built with, and a bill of materials (CycloneDX) where cargo-cyclonedx is installed (tests/supply.sh installs it).
# Lines that begin with SKIPPED name what this machine can't do. Takes two release builds.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-target/release-archives}")
tools=${NUNATAK_TOOLS:-$PWD/target/tools}
PATH=$tools/bin:$PATH
for need in git tar gzip sha256sum; do
  command -v "$need" >/dev/null || { echo "SKIPPED releases: no $need"; exit 0; }
done
git rev-parse --verify -q HEAD >/dev/null || { echo "SKIPPED releases: no git repository, so there is no commit to build"; exit 0; }
[ -z "$(git status --porcelain --untracked-files=no)" ] || echo "note: what is not committed is not in the archives"

# All times in the archives are the commit's.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
unset RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_TARGET_DIR
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
host=$(rustc -vV | sed -n 's/^host: //p')
sysroot=$(rustc --print sysroot)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
if [ -n "${NUNATAK_QUICK:-}" ]; then
  export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
fi

# A copy of the commit in a folder, built there.
build() { # the copy's folder
  local source=$1 flags
  mkdir -p "$source"
  git archive HEAD | tar -x -C "$source"
  # Where sources lie stands in the messages of panics: names that are the same everywhere instead. Cargo's folder has another name
  # in each build.
  mkdir -p "$source.cargo"
  for part in registry git; do [ ! -e "$cargo_home/$part" ] || ln -sfn "$(realpath "$cargo_home/$part")" "$source.cargo/$part"; done
  for part in config config.toml; do [ ! -e "$cargo_home/$part" ] || cp "$cargo_home/$part" "$source.cargo/"; done
  flags="--remap-path-prefix=$source=/nunatak --remap-path-prefix=$source.cargo=/cargo --remap-path-prefix=$sysroot=/rust"
  flags+=" --remap-path-prefix=$(realpath "$cargo_home")=/cargo"
  (cd "$source" && CARGO_INCREMENTAL=0 CARGO_HOME=$source.cargo RUSTFLAGS=$flags \
    cargo build --release --locked --quiet -p nunatak-cli -p nunatak-capi)
}

# What an archive says of its making.
made() {
  echo "nunatak $version, commit $(git rev-parse HEAD)"
  rustc -vV
  cargo -V
  "${CC:-cc}" --version | head -1
}

# The bill of materials of a package; its number and time are those of the commit.
bill() { # the copy's folder, the package's folder, where it goes
  cargo cyclonedx --version >/dev/null 2>&1 || return 0
  (cd "$1" && cargo cyclonedx --quiet --manifest-path "$2/Cargo.toml" --format json --spec-version 1.5 --target "$host" --override-filename bill)
  python3 - "$1" "$1/$2/bill.json" "$3" "$(git rev-parse HEAD)" <<'PYTHON'
import json, sys, uuid
source, path, to, commit = sys.argv[1:]
text = open(path).read().replace("file://" + source, "file:///nunatak").replace(source, "/nunatak")
bill = json.loads(text)
bill["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, f"https://github.com/nunatak-rs/nunatak/commit/{commit}/{to.split('/')[-2]}").urn
json.dump(bill, open(to, "w"), indent=1, sort_keys=True)
PYTHON
  rm "$1/$2/bill.json"
}

# A folder as an archive with the same bytes wherever it is made: sorted, of nobody, of the commit's time.
pack() { # the folder above, the folder, the archive
  tar -C "$1" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX -cf - "$2" |
    gzip -9n >"$3"
}

# The archives of a build.
archives() { # the copy's folder, where they go
  local source=$1 to=$2 program=nunatak-$version-$host library=libnunatak-$version-$host built=$1/target/release file
  mkdir -p "$to/$program" "$to/$library"/{lib/pkgconfig,include,share/nunatak}
  cp "$built/nunatak" "$to/$program/"
  cp "$source"/cli/README.md "$to/$program/"
  cp "$built"/libnunatak.a "$to/$library/lib/"
  # The shared library's own name has its version; the plain one is for the linker.
  local soname=libnunatak.so.${version%.*}
  [ "${version%%.*}" = 0 ] || soname=libnunatak.so.${version%%.*}
  cp "$built"/libnunatak.so "$to/$library/lib/libnunatak.so.$version"
  ln -s "libnunatak.so.$version" "$to/$library/lib/$soname"
  ln -s "$soname" "$to/$library/lib/libnunatak.so"
  cp "$source"/capi/include/nunatak.h "$source"/capi/include/nunatak.hpp "$to/$library/include/"
  cp "$source"/capi/valgrind/nunatak.supp "$to/$library/share/nunatak/"
  cp "$source"/capi/README.md "$to/$library/"
  # Wherever the archive is unpacked.
  cat >"$to/$library/lib/pkgconfig/nunatak.pc" <<PC
prefix=\${pcfiledir}/../..
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: nunatak
Description: Trains and fine-tunes ResNets on CPUs
Version: $version
Libs: -L\${libdir} -lnunatak
Libs.private: -lpthread -ldl -lm
Cflags: -I\${includedir}
PC
  bill "$source" cli "$to/$program/bill.cdx.json"
  bill "$source" capi "$to/$library/bill.cdx.json"
  for file in "$program" "$library"; do
    cp "$source"/LICENSE-MIT "$source"/LICENSE-APACHE "$to/$file/"
    made >"$to/$file/BUILD.txt"
    pack "$to" "$file" "$to/$file.tar.gz"
  done
}

# What is unpacked elsewhere works: the program says its version, and a C program links as nunatak.pc says.
try_out() { # folder with archives
  local there=$place/unpacked
  mkdir "$there"
  for file in "$1"/*.tar.gz; do tar -xzf "$file" -C "$there"; done
  [ "$("$there/nunatak-$version-$host/nunatak" --version)" = "nunatak $version" ] || { echo "the program tells another version"; exit 1; }
  if command -v pkg-config >/dev/null && command -v "${CC:-cc}" >/dev/null; then
    export PKG_CONFIG_PATH=$there/libnunatak-$version-$host/lib/pkgconfig
    # What stands there are flags, to be split at blanks.
    # shellcheck disable=SC2046
    "${CC:-cc}" -O1 capi/examples/tutorial.c $(pkg-config --cflags --libs nunatak) -lm -o "$there/shared"
    LD_LIBRARY_PATH=$there/libnunatak-$version-$host/lib "$there/shared" >/dev/null
    # shellcheck disable=SC2046
    "${CC:-cc}" -O1 capi/examples/tutorial.c $(pkg-config --cflags nunatak) "$there/libnunatak-$version-$host/lib/libnunatak.a" \
      $(pkg-config --static --libs-only-l nunatak | sed 's/-lnunatak//') -o "$there/static"
    "$there/static" >/dev/null
    echo "unpacked elsewhere: the program runs, the C tutorial links with both libraries and runs"
  else
    echo "SKIPPED linking with the unpacked library: no pkg-config or C compiler"
  fi
}

cargo cyclonedx --version >/dev/null 2>&1 || echo "SKIPPED the bills of materials: cargo-cyclonedx is not installed (NUNATAK_INSTALL=1 tests/supply.sh)"
for copy in "$place/one" "$place/another/folder of/a longer name"; do
  copy=${copy// /-}
  began=$SECONDS
  build "$copy"
  echo "built in $((SECONDS - began)) s"
done
archives "$place/one" "$place/archives-1"
archives "$place/another/folder-of/a-longer-name" "$place/archives-2"
differing=0
(cd "$place/archives-1" && sha256sum ./*.tar.gz) >"$place/sums"
(cd "$place/archives-2" && sha256sum --quiet -c "$place/sums") || differing=1
if [ $differing = 1 ]; then
  echo "the two builds differ:"
  diff -rq "$place/archives-1" "$place/archives-2" || true
  exit 1
fi
! grep -rlaF -e "$place" -e "$cargo_home" -e "$sysroot" "$place/archives-1"/*/ || { echo "these files name folders of this machine"; exit 1; }
try_out "$place/archives-1"
sed 's/\.\///' "$place/sums"
if [ -z "${NUNATAK_QUICK:-}" ]; then
  mkdir -p "$out"
  cp "$place"/archives-1/*.tar.gz "$out/"
  sed 's/\.\///' "$place/sums" >"$out/SHA256SUMS"
  echo "both builds are the same, to the byte; they are in $out"
else
  echo "both quick builds are the same, to the byte"
fi
