#!/bin/sh
# The tests of the kernels, compiled for AArch64 and run by qemu as three processors: one with NEON alone, one with
# DotProd, one with I8MM too. The last line is the sum. Skipped where there is no cross compiler or no qemu; on Debian
# they are in gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user.
# From the environment: ARM_CC (may be several words), CFLAGS, BUILD.
set -u
cd "$(dirname "$0")/../.." || exit 1
ARM_CC=${ARM_CC:-aarch64-linux-gnu-gcc}
B=${BUILD:-build}/arm
for tool in "${ARM_CC%% *}" qemu-aarch64; do
    command -v "$tool" >/dev/null 2>&1 || { echo "skipped: $tool is not here"; exit 0; }
done
mkdir -p "$B" || exit 1
: > "$B/log"
missing=0
FLAGS="${CFLAGS--O2} -Wall -Wextra -Wno-unused-function -DTEST_STRIDE=3" # emulated: as slow as a sanitizer
printf '#define AWQ_IMPLEMENTATION\n#include "%s/awq.h"\n' "$(pwd)" > "$B/awq.c"
$ARM_CC $FLAGS -c -o "$B/awq.o" "$B/awq.c" || exit 1
for name in core tiles matmul factor model machines; do
    echo "\$ $ARM_CC -static -o $B/$name tests/test_$name.c"
    $ARM_CC $FLAGS -DAWQ_LINKED -static -o "$B/$name" "tests/test_$name.c" "$B/awq.o" -lm -lpthread || exit 1
    cpus="cortex-a53 neoverse-n1 max"
    [ $name = machines ] && cpus=max # it asks every kernel that is there
    for cpu in $cpus; do
        echo "\$ qemu-aarch64 -cpu $cpu $B/$name"
        AWQ_TEST_DATA='' qemu-aarch64 -cpu $cpu "$B/$name" > "$B/last" 2>&1
        cat "$B/last"
        tail -n 1 "$B/last" | grep ' passed, ' >> "$B/log" || missing=$((missing + 1)) # died before its last line
    done
done
awk -v missing=$missing '{ p += $1; f += $3; s += $5 }
    END { f += missing; printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 }' "$B/log"
