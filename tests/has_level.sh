#!/usr/bin/env bash
# Whether this machine has an instruction-set level: exit code 0 if so.
case "$1" in
  portable) exit 0 ;;
  avx2) grep -qw avx2 /proc/cpuinfo 2>/dev/null && grep -qw fma /proc/cpuinfo ;;
  avx512) grep -qw avx512f /proc/cpuinfo 2>/dev/null ;;
  neon) [ "$(uname -m)" = aarch64 ] ;;
  *) exit 1 ;;
esac
