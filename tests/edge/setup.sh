#!/usr/bin/env bash
# What the runs at the edge need, in a folder of its own: targets, emulators, C cross compilers.
#   tests/edge/setup.sh [builds] [m7] [m55] [a64] [a64none] [wasm] [wasi] [c] [x86] [kit]     (default: all but kit)
# kit: what capi/kit/build.sh needs for the boards that no emulator runs here.
# Goes to $CROSS_HOME (default target/edge); can be called again at no cost. Then
#   . $CROSS_HOME/env.sh     runners for cargo, programs in the path, and `xcargo`: cargo with the targets
#
# Targets come from `rustup target add`. Where that can't be (no rustup, no network for it, or
# EDGE_COMPILER=distribution), Debian's rustc-web, which is 1.95 or newer, is unpacked beside everything
# else and `core` is built from its source. Emulators and C compilers are the distribution's packages,
# unpacked there too: nothing is installed system-wide, so no package of the machine's is replaced.
# Needs apt (with lists: `apt-get update`), a C compiler; node for wasm.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."
CROSS_HOME=${CROSS_HOME:-$PWD/target/edge}
mkdir -p "$CROSS_HOME"
CROSS_HOME=$(cd "$CROSS_HOME" && pwd)
R=$CROSS_HOME/root B=$CROSS_HOME/bin A=$CROSS_HOME/apt ST=$CROSS_HOME/stamps
HOST=x86_64-unknown-linux-gnu LIB=x86_64-linux-gnu
CORE=(thumbv7em-none-eabihf riscv32imac-unknown-none-elf aarch64-unknown-none wasm32-unknown-unknown)
mkdir -p "$R" "$B" "$ST" "$A"
say() { printf '[edge setup] %s\n' "$*" >&2; }
is_done() { [ -e "$ST/$1" ]; }
mark() { touch "$ST/$1"; }

# unpack FILE.deb...: into the prefix, without documentation
unpack() {
  local package
  for package in "$@"; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$R" --exclude='./usr/share/'{doc,man,info,locale}
  done
}

# add PACKAGE...: those packages, and what they depend on as far as the machine lacks it
add() {
  local wanted
  wanted=$(apt-get -s -o Debug::NoLocking=1 install --no-install-recommends "$@" 2>/dev/null | awk '/^Inst /{print $2}')
  rm -rf "$A/dl" && mkdir -p "$A/dl"
  # shellcheck disable=SC2046
  (cd "$A/dl" && apt-get -qq download $(printf '%s\n' "$@" $wanted | sort -u) 2>/dev/null) || {
    say "apt-get can't download $*: are its lists fresh (apt-get update)?"
    return 1
  }
  unpack "$A/dl"/*.deb
  rm -rf "$A/dl"
}

# wrap NAME...: a launcher for a program of the prefix, with the prefix's libraries
wrap() {
  local name
  for name in "$@"; do
    launcher "$name" "LD_LIBRARY_PATH=\"$R/usr/lib/$LIB:$R/lib/$LIB\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}\" exec \"$R/usr/bin/$name\" \"\$@\""
  done
}

# launcher NAME TEXT: an executable shell script
launcher() {
  printf '#!/bin/sh\n%s\n' "$2" >"$B/$1"
  chmod +x "$B/$1"
}

# Which compiler, for all targets alike and for good: rustup's, or the distribution's.
choose_compiler() {
  if is_done compiler; then return; fi
  if [ "${EDGE_COMPILER:-rustup}" = rustup ] && command -v rustup >/dev/null &&
    timeout 600 rustup target add "${CORE[@]}" wasm32-wasip1 aarch64-unknown-linux-gnu >&2; then
    echo rustup >"$ST/compiler"
    return
  fi
  say "not rustup's targets, but the distribution's compiler"
  distribution
  echo distribution >"$ST/compiler"
}
by_rustup() { [ "$(cat "$ST/compiler")" = rustup ]; }

distribution() {
  local std llvm package name sysroot
  std=$(apt-cache depends rustc-web | awk '/Depends: libstd-rust-web-dev/{print $2; exit}')
  llvm=$(apt-cache depends "$std" | awk '/Depends: libstd-rust-web-/{print $2; exit}')
  llvm="$llvm $(apt-cache depends "$llvm" | awk '/Depends: libllvm/{print $2; exit}')"
  rm -rf "$A/dl" && mkdir -p "$A/dl"
  # shellcheck disable=SC2086
  (cd "$A/dl" && apt-get -qq download rustc-web libstd-rust-web-dev rust-web-src $llvm 2>/dev/null)
  mkdir -p "$R/usr/lib/rustlib/src/rust"
  for package in "$A"/dl/*.deb; do
    case $package in
      *rust-web-src_*)
        dpkg-deb --fsys-tarfile "$package" |
          tar -x -C "$R/usr/lib/rustlib/src/rust" --strip-components=4 --wildcards './usr/src/rustc-*/library'
        ;;
      *) unpack "$package" ;;
    esac
  done
  rm -rf "$A/dl"
  mkdir -p "$R/usr/libexec"
  for name in rustc rustdoc; do
    mv -f "$R/usr/bin/$name" "$R/usr/libexec/$name.real"
    printf '#!/bin/sh\nLD_LIBRARY_PATH="%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "%s" "$@"\n' \
      "$R/usr/lib/$LIB" "$R/usr/libexec/$name.real" >"$R/usr/bin/$name"
    chmod +x "$R/usr/bin/$name"
  done
  # Cargo and the linker come from the toolchain that the machine has.
  sysroot=$(rustc --print sysroot)
  ln -sfn "$sysroot/bin/cargo" "$R/usr/bin/cargo"
  mkdir -p "$R/usr/lib/rustlib/$HOST/bin/gcc-ld"
  ln -sfn "$sysroot/lib/rustlib/$HOST/bin/rust-lld" "$R/usr/lib/rustlib/$HOST/bin/rust-lld"
  ln -sfn "$sysroot/lib/rustlib/$HOST/bin/gcc-ld/"* "$R/usr/lib/rustlib/$HOST/bin/gcc-ld/"
  "$R/usr/bin/rustc" -V >&2
  apt-cache policy rustc-web | awk '/Candidate:/{print $2}' >"$ST/version"
}

# library "CRATES" TARGET...: builds them from source where the compiler is the distribution's
library() {
  if by_rustup; then return; fi
  local crates=$1 todo=() target work=$CROSS_HOME/library
  shift
  for target in "$@"; do is_done "std-$target" || todo+=("$target"); done
  if [ ${#todo[@]} = 0 ]; then return; fi
  say "building $crates for ${todo[*]}"
  rm -rf "$work" && mkdir -p "$work/src"
  echo '#![no_std]' >"$work/src/lib.rs"
  printf '[package]\nname="empty"\nversion="0.0.0"\nedition="2024"\n[workspace]\n' >"$work/Cargo.toml"
  (
    cd "$work"
    unset CARGO_BUILD_TARGET RUSTC RUSTC_WRAPPER
    # Without bitcode in the library a program can't be optimised as a whole.
    PATH="$R/usr/bin:$PATH" RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Cembed-bitcode=yes" CARGO_TARGET_DIR="$work/target" \
      "$R/usr/bin/cargo" build -q -Zbuild-std="$crates" --release "${todo[@]/#/--target=}"
  )
  for target in "${todo[@]}"; do
    rm -rf "$R/usr/lib/rustlib/$target" && mkdir -p "$R/usr/lib/rustlib/$target/lib"
    cp "$work/target/$target/release/deps/"lib*.rlib "$R/usr/lib/rustlib/$target/lib/"
    rm -f "$R/usr/lib/rustlib/$target/lib/"libempty-*
    mark "std-$target"
  done
  rm -rf "$work"
}

setup_builds() { library core,alloc,compiler_builtins "${CORE[@]}"; }

setup_m7() {
  setup_builds
  is_done qemu-system || { say "qemu-system-arm" && add qemu-system-arm && mark qemu-system; }
  wrap qemu-system-arm qemu-system-aarch64
  launcher qemu-cortex-m "# cargo runner: qemu-cortex-m ELF; QEMU_MACHINE=mps2-an386 (M4F) | mps2-an500 (M7) | mps3-an547 (M55)
elf=\$1; shift
exec timeout \"\${QEMU_TIMEOUT:-300}\" \"$B/qemu-system-arm\" -M \"\${QEMU_MACHINE:-mps2-an500}\" -nographic -monitor none -serial none \${QEMU_EXTRA:-} -semihosting-config enable=on,target=native -kernel \"\$elf\""
}

setup_a64none() { setup_m7; }

qemu_user() {
  is_done qemu-user || { say "qemu-user" && add qemu-user && mark qemu-user; }
}

setup_a64() {
  qemu_user
  if ! by_rustup && ! is_done a64-std; then
    say "the standard library for aarch64-unknown-linux-gnu"
    # The lists of another architecture, kept apart from the machine's.
    local options=(-oDir::State::Lists="$A/lists" -oDir::Cache="$A/cache" -oAPT::Architectures::=amd64 -oAPT::Architectures::=arm64
      -oAcquire::Languages=none -oAcquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false)
    rm -rf "$A/dl" && mkdir -p "$A/lists/partial" "$A/cache/archives/partial" "$A/dl"
    apt-get -qq "${options[@]}" update >&2 2>/dev/null || true
    # It must be of the compiler's own version; if that is no longer offered, start with an empty $CROSS_HOME.
    (cd "$A/dl" && apt-get -qq "${options[@]}" download "libstd-rust-web-dev:arm64=$(cat "$ST/version")" 2>/dev/null)
    unpack "$A"/dl/*.deb
    rm -rf "$A/dl" "$A/lists" "$A/cache"
    mark a64-std
  fi
  if ! is_done a64-gcc; then
    say "gcc for aarch64"
    local gcc
    gcc=$(apt-cache depends gcc-aarch64-linux-gnu | sed -n 's/.*Depends: gcc-\([0-9]*\)-aarch64.*/\1/p' | head -1)
    add gcc-aarch64-linux-gnu "gcc-$gcc-aarch64-linux-gnu" "cpp-$gcc-aarch64-linux-gnu" binutils-aarch64-linux-gnu \
      "libgcc-$gcc-dev-arm64-cross" libgcc-s1-arm64-cross libc6-arm64-cross libc6-dev-arm64-cross linux-libc-dev-arm64-cross
    # Some of its libraries are linker scripts with absolute paths.
    grep -lI GROUP "$R"/usr/aarch64-linux-gnu/lib/*.so 2>/dev/null | xargs -r sed -i 's#/usr/aarch64-linux-gnu/lib/##g'
    mark a64-gcc
  fi
  wrap aarch64-linux-gnu-gcc aarch64-linux-gnu-ar aarch64-linux-gnu-objdump
  launcher qemu-a64 "# cargo runner: A64_CPU=cortex-a53 | cortex-a72 | cortex-a76 | max
LD_LIBRARY_PATH=\"$R/usr/lib/$LIB\" exec \"$R/usr/bin/qemu-aarch64\" -U LD_LIBRARY_PATH -L \"$R/usr/aarch64-linux-gnu\" -cpu \"\${A64_CPU:-max}\" \"\$@\""
}

setup_x86() {
  qemu_user
  launcher qemu-x86 "# cargo runner: X86_CPU=qemu64 (SSE2) | Nehalem (SSE4.2) | SandyBridge (AVX) | Haswell (AVX2, FMA) | max
LD_LIBRARY_PATH=\"$R/usr/lib/$LIB\" exec \"$R/usr/bin/qemu-x86_64\" -U LD_LIBRARY_PATH -cpu \"\${X86_CPU:-qemu64}\" \"\$@\""
}

setup_wasm() {
  setup_builds
  is_done wabt || { say "wabt" && add wabt && mark wabt; }
  wrap wasm-objdump
}

setup_wasi() {
  local own=$R/usr/lib/rustlib/wasm32-wasip1/lib/self-contained
  if ! by_rustup; then
    library std,panic_abort,test wasm32-wasip1
    if ! is_done wasi-libc; then
      say "wasi-libc"
      add wasi-libc
      mkdir -p "$own"
      cp "$R"/usr/lib/wasm32-wasi/{crt1-command.o,crt1-reactor.o,libc.a} "$own/"
      # That of Debian 12 lacks what the standard library asks for and never calls: ENOTSUP.
      printf '#![no_std]\n#[unsafe(no_mangle)] pub extern "C" fn pthread_join(_: usize, _: *mut *mut u8) -> i32 { 58 }\n#[unsafe(no_mangle)] pub extern "C" fn pthread_detach(_: usize) -> i32 { 58 }\n' >"$A/stubs.rs"
      "$R/usr/bin/rustc" --edition 2024 --target wasm32-wasip1 --crate-type lib --crate-name stubs --emit obj -Cpanic=abort -Copt-level=s -o "$own/stubs.o" "$A/stubs.rs"
      mark wasi-libc
    fi
  fi
  cat >"$B/node-wasi.mjs" <<'W'
import { WASI } from 'node:wasi';
import { readFile } from 'node:fs/promises';
const [wasm, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', args: [wasm, ...args], env: process.env, preopens: { '.': process.cwd() }, returnOnExit: true });
const instance = await WebAssembly.instantiate(await WebAssembly.compile(await readFile(wasm)), wasi.getImportObject());
try { process.exit(wasi.start(instance)); } catch (e) { console.error(e.stack); process.exit(134); }
W
  # Single-threaded: with V8's compiler beside it node 20 dies of a signal after the tests have passed, four times in ten.
  launcher node-wasi "exec node --single-threaded --no-warnings \"$B/node-wasi.mjs\" \"\$@\""
}

setup_c() {
  is_done arm-gcc || { say "gcc for Cortex-M" && add gcc-arm-none-eabi binutils-arm-none-eabi && mark arm-gcc; }
  wrap arm-none-eabi-gcc arm-none-eabi-size arm-none-eabi-nm arm-none-eabi-objdump arm-none-eabi-objcopy arm-none-eabi-ld arm-none-eabi-ar
}

# also TARGET...: beside those that everything is built for
also() {
  if by_rustup; then rustup target add "$@" >&2; fi
  library core,alloc,compiler_builtins "$@"
}

setup_m55() {
  setup_m7
  also thumbv8m.main-none-eabihf
}

setup_kit() {
  setup_builds
  setup_c
  also thumbv8m.main-none-eabihf riscv32imafc-unknown-none-elf
  is_done riscv-gcc || { say "gcc for RISC-V" && add gcc-riscv64-unknown-elf binutils-riscv64-unknown-elf && mark riscv-gcc; }
  wrap riscv64-unknown-elf-gcc riscv64-unknown-elf-size riscv64-unknown-elf-nm riscv64-unknown-elf-objcopy riscv64-unknown-elf-ld riscv64-unknown-elf-ar
  is_done a64-binutils || { say "binutils for AArch64" && add binutils-aarch64-linux-gnu && mark a64-binutils; }
  wrap aarch64-linux-gnu-nm aarch64-linux-gnu-objcopy aarch64-linux-gnu-ld aarch64-linux-gnu-ar
}

[ $# -gt 0 ] || set -- builds m7 m55 a64 a64none wasm wasi c x86
choose_compiler
failed=()
for part in "$@"; do
  began=$SECONDS
  # In a shell of its own (not in a condition, where -e does nothing), so that one part that can't be had
  # does not hide the others.
  set +e
  (set -e; "setup_$part")
  code=$?
  set -e
  if [ $code = 0 ]; then say "$part ready ($((SECONDS - began)) s)"; else failed+=("$part"); fi
done

{
  echo "# Source this: the targets' programs in the path, runners for cargo, and xcargo."
  echo "export CROSS_HOME=\"$CROSS_HOME\""
  echo "export PATH=\"$B:\$PATH\""
  echo "export CARGO_TARGET_THUMBV7EM_NONE_EABIHF_RUNNER=\"$B/qemu-cortex-m\""
  echo "export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=\"$B/qemu-a64\""
  echo "export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=\"$B/aarch64-linux-gnu-gcc\""
  echo "export CARGO_TARGET_WASM32_WASIP1_RUNNER=\"$B/node-wasi\""
  echo "export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS=\"-Ctarget-feature=+simd128\""
  if ! by_rustup; then
    echo "export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=\"-Ctarget-feature=+simd128 -Clink-arg=$R/usr/lib/rustlib/wasm32-wasip1/lib/self-contained/stubs.o\""
    launcher xcargo "PATH=\"$R/usr/bin:\$PATH\" exec \"$R/usr/bin/cargo\" \"\$@\""
  else
    echo "export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS=\"-Ctarget-feature=+simd128\""
    launcher xcargo 'exec cargo "$@"'
  fi
} >"$CROSS_HOME/env.sh"
if [ ${#failed[@]} -gt 0 ]; then
  say "not there: ${failed[*]}"
  exit 1
fi
say "done: . $CROSS_HOME/env.sh, then xcargo build --target ..."
