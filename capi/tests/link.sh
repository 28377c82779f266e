#!/usr/bin/env bash
# The static library for a board without an operating system: builds it, links all of it without any
# other library but the compiler's own, and looks at what it asks for and what it holds.
#   CARGO  cargo with the target's core (default: cargo)      TARGET  default: thumbv7em-none-eabihf
#   CC     a C compiler for it (default: arm-none-eabi-gcc)   NM      default: arm-none-eabi-nm
set -euo pipefail
cd "$(dirname "$0")/../.."
TARGET=${TARGET:-thumbv7em-none-eabihf} CARGO=${CARGO:-cargo} CC=${CC:-arm-none-eabi-gcc} NM=${NM:-arm-none-eabi-nm}
CFLAGS=${CFLAGS:--mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-d16}
$CARGO rustc -q -p nunatak-capi --profile embedded --no-default-features --features panic-handler --target "$TARGET" --crate-type staticlib
folder=$($CARGO metadata --format-version 1 --no-deps | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
library=$folder/$TARGET/embedded/libnunatak.a
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What is asked for: everything linked together, so that what the library's own parts give each other is gone.
# shellcheck disable=SC2086
"$CC" $CFLAGS -nostdlib -r -Wl,-z,noexecstack,--whole-archive "$library" -Wl,--no-whole-archive -lgcc -o "$work/all.o"
undefined=$("$NM" -u "$work/all.o" | awk '{print $NF}' | sort -u)
other=$(printf '%s\n' $undefined | grep -vxE 'mem(cpy|move|set|cmp)|_GLOBAL_OFFSET_TABLE_|__aeabi_mem(cpy|move|set|clr)[48]?' || true)
echo "undefined in $library: ${undefined:-nothing}"
if [ -n "$other" ]; then echo "the library asks for what a board may not have: $other" >&2; exit 1; fi
allocator=$("$NM" "$work/all.o" | grep -E '__rust_alloc|__rg_alloc|\bmalloc\b|\bcalloc\b|\brealloc\b' || true)
if [ -n "$allocator" ]; then echo "the library pulls in an allocator: $allocator" >&2; exit 1; fi

# A program that calls every function of the header links with nothing else.
{
  echo '#include <nunatak.h>'
  echo 'void *memcpy(void *to, const void *from, size_t n) { char *t = to; const char *f = from; while (n--) *t++ = *f++; return to; }'
  echo 'void *memmove(void *to, const void *from, size_t n) { char *t = to; const char *f = from; if (t < f) while (n--) *t++ = *f++; else while (n--) t[n] = f[n]; return to; }'
  echo 'void *memset(void *to, int c, size_t n) { char *t = to; while (n--) *t++ = (char)c; return to; }'
  echo 'int memcmp(const void *a, const void *b, size_t n) { const unsigned char *x = a, *y = b; for (; n--; x++, y++) if (*x != *y) return *x - *y; return 0; }'
  echo 'int main(void);'
  echo 'const void *const all[] = {'
  grep -oE '^[a-z].* \*?nunatak_[a-z0-9_]+\(' capi/include/nunatak.h | grep -oE 'nunatak_[a-z0-9_]+\($' | sed 's/($/,/; s/^/(const void *)/'
  echo '};'
  echo 'const void *const volatile *volatile kept = all; int main(void) { return kept[0] == 0; }'
  echo 'void _start(void) { main(); for (;;) {} }'
} > "$work/all.c"
# shellcheck disable=SC2086
"$CC" $CFLAGS -std=c11 -Wall -Wextra -ffreestanding -fno-builtin -nostdlib -Os -I capi/include "$work/all.c" "$library" -lgcc -Wl,--gc-sections,-z,noexecstack -o "$work/all.elf"
panics=$("$NM" -C "$work/all.elf" | grep -cE 'core::panicking|core::(slice|str|option|result)::.*(fail|panic)' || true)
echo "every function of the header, linked: $("${CC%gcc}size" "$work/all.elf" | tail -1 | awk '{print $1 " bytes of code, " $2 " of data, " $3 " of zeros"}'); $panics ways to panic"
"$NM" -C --size-sort "$work/all.elf" | grep -E 'core::panicking|core::(slice|str|option|result)::.*(fail|panic)' | awk '{$1=""; $2=""; print "  " $0}' || true
