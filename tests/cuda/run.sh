#!/bin/sh
# Tests of awq_cuda.h and its kernels; ./build.sh cuda runs it. The last line is the sum.
#   run.sh                   on a GPU, where one is, its kernels, models and quantizing, then times beside cuBLAS; kernels
#                            compiled by NVRTC for every card, by older ones for some, and run in the emulator against a
#                            reference, as C++ and as the PTX that NVRTC makes of them; numbers and prototypes against
#                            NVIDIA's headers, where they are; changes of kernels that the tests must notice; the host
#                            side on the emulated driver
#   run.sh --kernels         all but the host side, which ./build.sh test runs too, and of it models on older cards
#   run.sh --compile-only    only what NVRTC does: as much as a machine without a C++ compiler can
#   run.sh --emulator [ARCH] only builds the emulated driver, $BUILD/libcuda_emulator.so; with ARCH (750, 860)
#                            that of an older card, $BUILD/libcuda_emulator_ARCH.so
# From the environment: CC, CFLAGS, LDFLAGS, CXX, BUILD (folder), CUDA_PATH (toolkit, for its headers).
set -u
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C
B=${BUILD:-build} CC=${CC:-cc} CFLAGS=${CFLAGS--O2} LIBS=${LIBS:--lm -lpthread -ldl}
mkdir -p "$B/cuda" || exit 1

cxx=
for c in ${CXX:-c++ g++ clang++}; do
    [ -n "$cxx" ] || ! command -v "$c" > /dev/null 2>&1 || cxx=$c
done

f16c=$(grep -qs f16c /proc/cpuinfo && echo -mf16c) # faster

run() {
    echo "\$ $*"
    "$@"
}

# [ARCH]
emulator() {
    lib=$B/libcuda_emulator${1:+_$1}.so
    rm -f "$lib"
    if [ -z "$cxx" ]; then
        echo "skipped: the emulated CUDA driver; no C++ compiler is here"
        return
    fi
    run "$cxx" -std=c++17 -O2 $f16c -DAWQ_PTX ${1:+-DAWQ_ARCH=$1} -shared -fPIC -o "$lib" tests/cuda/driver.cpp
}

# PROGRAM: its last line counts
stage() {
    run "$@" 2>&1 | tee "$B/cuda/stage"
    if tail -n 1 "$B/cuda/stage" | grep -q '^[0-9]* passed, [0-9]* failed, [0-9]* skipped$'; then
        tail -n 1 "$B/cuda/stage"
    else
        echo "0 passed, 1 failed, 0 skipped" # it did not come to its last line
    fi >> "$B/cuda/sums"
}

# PROGRAM: its line of sums, behind which it may print times
on_gpu() {
    rm -f "$B/cuda/failed"
    { run "$@" 2>&1 || touch "$B/cuda/failed"; } | tee "$B/cuda/stage"
    if [ ! -f "$B/cuda/failed" ] && grep '^[0-9]* passed, 0 failed, [0-9]* skipped$' "$B/cuda/stage"; then :
    else echo "0 passed, 1 failed, 0 skipped"
    fi | tail -n 1 >> "$B/cuda/sums"
}

# ARCH TEST: once more, with the PTX that NVRTC makes of the kernels instead of their C++ (ptx.h)
interpreted() {
    ptx=$B/cuda/ptx_$1 name=${1%0}
    [ "$name" != 90 ] || name=90a
    if [ ! -d "$ptx" ]; then
        mkdir "$ptx"
        stage "$B/cuda/compile" -a $name -p "$ptx"
    fi
    if [ -n "$(ls "$ptx")" ]; then
        stage env AWQ_PTX="$ptx" "$B/cuda/${2}_$1"
    fi
}

case ${1:-} in
    --emulator) emulator ${2:-}; exit ;;
    --compile-only | --kernels | '') ;;
    *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2 ;;
esac

: > "$B/cuda/sums"
rm -rf "$B"/cuda/ptx_*
rm -f "$B/cuda/gpu" "$B/cuda/compile" "$B"/cuda/*_[0-9]* "$B/cuda/abi" "$B"/cuda/cuda*
if [ "${1:-}" != --compile-only ]; then
    run $CC $CFLAGS -O2 -Wall -Wextra -Wno-unused-function -o "$B/cuda/gpu" tests/cuda/gpu.c ${LDFLAGS-} $LIBS
    on_gpu "$B/cuda/gpu"
    if command -v compute-sanitizer > /dev/null 2>&1 && "$B/cuda/gpu" nothing > /dev/null; then
        on_gpu compute-sanitizer --error-exitcode 9 "$B/cuda/gpu" test_models
    fi
fi
run $CC $CFLAGS -Wall -Wextra -o "$B/cuda/compile" tests/cuda/compile.c ${LDFLAGS-} $LIBS
stage "$B/cuda/compile"
stage sh tests/cuda/nvrtc.sh "$B/cuda/compile"
if [ "${1:-}" != --compile-only ]; then
    for arch in 750 860 900; do # 890 and 1200 get the text of 860, others that of 900 without wgmma
        if [ -z "$cxx" ]; then
            echo "skipped: kernels in the emulator; no C++ compiler is here"
            echo "0 passed, 0 failed, 1 skipped" >> "$B/cuda/sums"
            break
        fi
        for test in kernels rows attention moe quantize; do
            [ $arch != 860 ] || [ $test = kernels ] || continue # which alone has rings, of three stages there
            run "$cxx" -std=c++17 -O2 $f16c -DAWQ_ARCH=$arch -DAWQ_PTX -o "$B/cuda/${test}_$arch" tests/cuda/test_$test.cpp
            stage "$B/cuda/${test}_$arch"
            interpreted $arch $test
        done
    done
    [ -z "$cxx" ] || stage sh tests/cuda/mutate_ptx.sh "$B/cuda/compile" "$B/cuda"
    [ -z "$cxx" ] || CXX=$cxx stage sh tests/cuda/mutate.sh
    include=${CUDA_PATH:-/usr/local/cuda}/include
    if [ -n "$cxx" ] && [ -f "$include/cuda.h" ] && [ -f "$include/nvrtc.h" ]; then
        run "$cxx" -std=c++17 -w -I"$include" -o "$B/cuda/abi" tests/cuda/abi.cpp $LIBS
        stage "$B/cuda/abi"
    else
        echo "skipped: NVIDIA's headers are not in $include"
        echo "0 passed, 0 failed, 1 skipped" >> "$B/cuda/sums"
    fi
    emulator
    export AWQ_CUDA_EMULATOR="$B/libcuda_emulator.so"
    for test in cuda cuda_model cuda_load cuda_quantize; do
        case ${1:-}$test in --kernels*_[lq]*) continue ;; esac # cuda_load, cuda_quantize
        run $CC $CFLAGS -O1 -Wall -Wextra -Wno-unused-function -o "$B/cuda/$test" tests/test_$test.c ${LDFLAGS-} $LIBS
        [ -n "${1:-}" ] || stage "$B/cuda/$test"
    done
    for arch in 750 860; do # models with the text of kernels that older cards get
        emulator $arch
        for test in test_logits test_demo; do
            stage env AWQ_CUDA_EMULATOR="$B/libcuda_emulator_$arch.so" "$B/cuda/cuda_model" $test
        done
    done
    for test in "cuda test_selftest" "cuda_model test_logits"; do # with PTX
        [ ! -f "$B/cuda/ptx_900/rows_f16.ptx" ] || stage env AWQ_PTX="$B/cuda/ptx_900" "$B/cuda/"$test
    done
    [ -f "$B/libcuda_emulator.so" ] && on_gpu "$B/cuda/gpu" --try
fi
awk '{ p += $1; f += $3; s += $5 }
     END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 || p == 0 }' "$B/cuda/sums"
