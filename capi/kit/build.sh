#!/usr/bin/env bash
# Makes the kit: the C library for each processor as an archive, a Zephyr module, a component of ESP-IDF, and their checksums.
#   capi/kit/build.sh [--out FOLDER] [TARGET...]
# TARGET: m4f m7 m33 m55 riscv32imafc a64 x86-64 (default: all). FOLDER: target/kit.
#   CARGO       cargo with the targets (default: xcargo where it is, else cargo; tests/edge/setup.sh kit makes both)
# Two builds of a commit by one compiler have the same bytes. A line SKIPPED names what this machine can't build.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
out=$root/target/kit
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$(realpath -m "$2"); shift ;;
    *) targets+=("$1") ;;
  esac
  shift
done
[ ${#targets[@]} -gt 0 ] || targets=(m4f m7 m33 m55 riscv32imafc a64 x86-64)
CARGO=${CARGO:-$(command -v xcargo || echo cargo)}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
built=$($CARGO metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export LC_ALL=C CARGO_INCREMENTAL=0
home=${CARGO_HOME:-$HOME/.cargo}
# Where sources lie stands in the messages of panics: names that are the same everywhere instead.
remap="--remap-path-prefix=$root=/nunatak --remap-path-prefix=$home=/cargo"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# processor TARGET: sets triple, cpu (for rustc), tools (a prefix of binutils; empty for the machine's own), emulation (for Rust's linker)
processor() {
  emulation=
  case $1 in
    m4f) triple=thumbv7em-none-eabihf cpu=cortex-m4 tools=arm-none-eabi- ;;
    m7) triple=thumbv7em-none-eabihf cpu=cortex-m7 tools=arm-none-eabi- ;;
    m33) triple=thumbv8m.main-none-eabihf cpu=cortex-m33 tools=arm-none-eabi- ;;
    m55) triple=thumbv8m.main-none-eabihf cpu=cortex-m55 tools=arm-none-eabi- ;;
    riscv32imafc) triple=riscv32imafc-unknown-none-elf cpu=generic-rv32 tools=riscv64-unknown-elf- emulation=elf32lriscv ;;
    a64) triple=aarch64-unknown-none cpu=generic tools=aarch64-linux-gnu- ;;
    x86-64) triple= cpu= tools= ;;
    *) echo "build.sh: there is no target $1: m4f m7 m33 m55 riscv32imafc a64 x86-64" >&2; exit 2 ;;
  esac
}

# compiled TARGET: builds the library, and says where it lies. Boards have every operation, one algorithm, and no allocator.
compiled() {
  processor "$1"
  if [ -z "$triple" ]; then
    RUSTFLAGS="$remap" cargo build -q --release --locked -p nunatak-capi >&2
    echo "$built/release"
    return
  fi
  CARGO_TARGET_DIR=$built/kit-$1 CARGO_PROFILE_EMBEDDED_OPT_LEVEL=z RUSTFLAGS="-C target-cpu=$cpu --cfg sha2_backend_soft=\"compact\" $remap" \
    "$CARGO" rustc -q -p nunatak-capi --profile embedded --locked --no-default-features --features panic-handler,operations \
    --target "$triple" --crate-type staticlib >&2
  echo "$built/kit-$1/$triple/embedded"
}

# closed TARGET LIBRARY TO: the library with nunatak_* as its only names, so that it lives beside other Rust libraries. Sections stay
# apart: a linker drops what nobody calls.
closed() {
  processor "$1"
  local object=$work/$1.o names name wanted=() kept=()
  # Not nm: one that knows LLVM's bitcode reads that instead, which lies beside the code, and fails where it is a newer one's.
  names=$(readelf -sW "$2" | awk '$5 == "GLOBAL" && $7 != "UND" && $8 ~ /^nunatak_/ { print $8 }' | sort -u)
  [ -n "$names" ] || { echo "build.sh: $2 offers nothing that is called nunatak_*" >&2; exit 1; }
  for name in $names; do
    wanted+=(-u "$name")
    kept+=("--keep-global-symbol=$name")
  done
  # GNU ld before 2.41 does not know every relocation of RISC-V; Rust's own linker does.
  local linker=("${tools}ld")
  [ -z "$emulation" ] || linker=("$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld" -flavor gnu -m "$emulation")
  "${linker[@]}" -r --strip-debug "${wanted[@]}" "$2" -o "$object"
  "${tools}objcopy" --remove-section=.llvmbc --remove-section=.llvmcmd "${kept[@]}" "$object"
  rm -f "$3"
  "${tools}ar" rcD "$3" "$object"
}

# pack FOLDER: an archive with the same bytes wherever it is made
pack() {
  tar -C "$work" --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u+rw,go=rX -cf - "$1" |
    gzip -9n >"$out/$1.tar.gz"
  echo "$out/$1.tar.gz"
}

# common FOLDER: headers and licences
common() {
  mkdir -p "$1/include"
  cp capi/include/nunatak.h capi/include/nunatak.hpp "$1/include/"
  cp LICENSE-MIT LICENSE-APACHE "$1/"
}

made=()
for target in "${targets[@]}"; do
  processor "$target"
  if [ -n "$tools" ]; then
    for tool in ld objcopy ar; do
      command -v "$tools$tool" >/dev/null || { echo "SKIPPED $target: no $tools$tool (tests/edge/setup.sh kit)"; continue 2; }
    done
  fi
  place=$(compiled "$target") || { echo "build.sh: $target could not be built" >&2; exit 1; }
  folder=nunatak-$version-$target
  common "$work/$folder"
  mkdir -p "$work/$folder/lib" "$work/$folder/share/nunatak/cmake"
  closed "$target" "$place/libnunatak.a" "$work/$folder/lib/libnunatak.a"
  if [ -z "$triple" ]; then
    cp "$place/libnunatak.so" "$work/$folder/lib/libnunatak.so.$version"
    soname=$(readelf -d "$place/libnunatak.so" | sed -n 's/.*SONAME.*\[\(.*\)\].*/\1/p')
    ln -sf "libnunatak.so.$version" "$work/$folder/lib/$soname"
    ln -sf "$soname" "$work/$folder/lib/libnunatak.so"
  fi
  cp capi/kit/cmake/*.cmake "$work/$folder/share/nunatak/cmake/"
  pack "$folder"
  made+=("$target")
done

# module NAME TARGET...: what a build system of boards reads, with the libraries of these targets
module() {
  local name=$1 folder=nunatak-$version-$1 target
  shift
  for target in "$@"; do
    [ -d "$work/nunatak-$version-$target" ] || continue
    common "$work/$folder"
    mkdir -p "$work/$folder/lib/$target"
    cp "$work/nunatak-$version-$target/lib/libnunatak.a" "$work/$folder/lib/$target/"
  done
  [ -d "$work/$folder" ] || return 0
  case $name in
    zephyr) cp -r capi/kit/zephyr "$work/$folder/" ;;
    esp-idf)
      cp capi/kit/esp-idf/CMakeLists.txt "$work/$folder/"
      sed "s/@version@/$version/" capi/kit/esp-idf/idf_component.yml >"$work/$folder/idf_component.yml"
      ;;
  esac
  pack "$folder"
}
module zephyr m4f m7 m33 m55 riscv32imafc
module esp-idf riscv32imafc
[ ${#made[@]} -gt 0 ] || { echo "SKIPPED the kit: nothing could be built"; exit 0; }
(cd "$out" && sha256sum nunatak-"$version"-*.tar.gz >SHA256SUMS)
echo "$out/SHA256SUMS: ${made[*]}"
