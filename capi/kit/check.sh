#!/usr/bin/env bash
# Looks at a kit that build.sh made: checksums, names, CMake for boards and desktops, Zephyr's and ESP-IDF's files.
#   capi/kit/check.sh [FOLDER]     default: target/kit
# What this machine can't check is named as SKIPPED. Zephyr and ESP-IDF themselves are not here: their files are run by CMake with
# stand-ins for their commands.
set -euo pipefail
cd "$(dirname "$0")/../.."
kit=$(realpath "${1:-target/kit}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check.sh: $*" >&2; exit 1; }

(cd "$kit" && sha256sum --quiet -c SHA256SUMS) || fail "a checksum"
for archive in "$kit"/nunatak-*.tar.gz; do tar -xzf "$archive" -C "$work"; done
command -v cmake >/dev/null || echo "SKIPPED CMake: not installed (apt-get install cmake)"

# names TOOLS FOLDER: what a library offers and asks for
names() {
  local tools=$1 library=$2/lib/libnunatak.a other
  command -v "${tools}nm" >/dev/null || { echo "SKIPPED the names in $library: no ${tools}nm"; return; }
  other=$("${tools}nm" -g --defined-only "$library" | awk 'NF == 3 && $3 !~ /^nunatak_/ { print $3 }')
  [ -z "$other" ] || fail "$library offers more than nunatak_*: $other"
  other=$("${tools}nm" -u "$library" | awk '{ print $NF }' | grep -v ':$' | grep -vxE 'mem(cpy|move|set|cmp)|__aeabi_mem(cpy|move|set|clr)[48]?|_GLOBAL_OFFSET_TABLE_' || true)
  [ -z "$other" ] || [ -n "${3:-}" ] || fail "$library asks for what a board may not have: $other"
}

# board TOOLS FLAGS FOLDER: a program that finds the library by CMake
board() {
  names "$1" "$3"
  command -v cmake >/dev/null && command -v "${1}gcc" >/dev/null || { echo "SKIPPED linking with $3"; return; }
  printf 'set(CMAKE_SYSTEM_NAME Generic)\nset(CMAKE_C_COMPILER %sgcc)\nset(CMAKE_C_FLAGS_INIT "%s -ffreestanding")\nset(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)\n' \
    "$1" "$2" >"$work/toolchain.cmake"
  cmake -S capi/kit/check -B "$work/b-$(basename "$3")" -DCMAKE_TOOLCHAIN_FILE="$work/toolchain.cmake" -Dnunatak_DIR="$3/share/nunatak/cmake" >"$work/log" &&
    cmake --build "$work/b-$(basename "$3")" >>"$work/log" || { cat "$work/log"; fail "CMake for $3"; }
  echo "$(basename "$3"): nunatak_* alone, found by CMake, $("${1}size" "$work/b-$(basename "$3")/board" 2>/dev/null | awk 'NR == 2 { print $1 }') bytes of code with every routine"
}

# desktop FOLDER: both libraries by CMake, and beside another library in Rust
desktop() {
  names "" "$1" std
  capi/kit/desktop.sh "$1/share/nunatak/cmake"
}

for folder in "$work"/nunatak-*; do
  case $folder in
    *-m4f) board arm-none-eabi- "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16" "$folder" ;;
    *-m7) board arm-none-eabi- "-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16" "$folder" ;;
    *-m33) board arm-none-eabi- "-mcpu=cortex-m33 -mthumb -mfloat-abi=hard -mfpu=fpv5-sp-d16" "$folder" ;;
    *-m55) board arm-none-eabi- "-mcpu=cortex-m55 -mthumb -mfloat-abi=hard" "$folder" ;;
    *-riscv32imafc) board riscv64-unknown-elf- "-march=rv32imafc -mabi=ilp32f" "$folder" ;;
    *-a64) names aarch64-linux-gnu- "$folder" ;;
    *-x86-64) desktop "$folder" ;;
  esac
done

command -v cmake >/dev/null || exit 0
if [ -d "$work"/nunatak-*-zephyr ]; then
  module=$(echo "$work"/nunatak-*-zephyr)
  for chip in M7:m7 M4:m4f M33:m33 M55:m55; do
    [ -d "$module/lib/${chip#*:}" ] || continue
    cat >"$work/zephyr.cmake" <<CMAKE
function(zephyr_include_directories folder)
  if(NOT EXISTS "\${folder}/nunatak.h")
    message(FATAL_ERROR "no header in \${folder}")
  endif()
endfunction()
function(zephyr_library_import name library)
  message("\${name} \${library}")
endfunction()
set(CONFIG_NUNATAK y)
set(CONFIG_ARM y)
set(CONFIG_FP_HARDABI y)
set(CONFIG_CPU_CORTEX_${chip%:*} y)
include("$module/zephyr/CMakeLists.txt")
CMAKE
    cmake -P "$work/zephyr.cmake" 2>&1 | grep -q "nunatak .*lib/${chip#*:}/libnunatak.a" || fail "Zephyr's CMakeLists.txt for Cortex-${chip%:*}"
  done
  echo "the Zephyr module picks the library of each processor (stand-ins for Zephyr's commands)"
fi
if [ -d "$work"/nunatak-*-esp-idf ]; then
  component=$(echo "$work"/nunatak-*-esp-idf)
  cat >"$work/idf.cmake" <<CMAKE
function(idf_component_register)
endfunction()
function(add_prebuilt_library name library)
  message("\${name} \${library}")
endfunction()
function(target_link_libraries)
endfunction()
set(COMPONENT_LIB component)
set(IDF_TARGET esp32p4)
include("$component/CMakeLists.txt")
CMAKE
  cmake -P "$work/idf.cmake" 2>&1 | grep -q 'nunatak_prebuilt .*lib/riscv32imafc/libnunatak.a' || fail "ESP-IDF's CMakeLists.txt"
  grep -q '^version: "[0-9]' "$component/idf_component.yml" || fail "idf_component.yml has no version"
  echo "the component of ESP-IDF names its library (stand-ins for ESP-IDF's commands)"
fi
