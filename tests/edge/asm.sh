#!/usr/bin/env bash
# What the compiler made of the innermost loops for AArch64: see asm.py. Optimised as by run.sh.
#   tests/edge/asm.sh [--list]       needs: tests/edge/setup.sh a64, and . $CROSS_HOME/env.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
program=$("${CROSS_CARGO:-xcargo}" test --release --target aarch64-unknown-linux-gnu -p nunatak-kernels --test conv2d --no-run --message-format=json |
  python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "conv2d": print(message["executable"])')
python3 tests/edge/asm.py "${OBJDUMP:-aarch64-linux-gnu-objdump}" "$program" "$@"
