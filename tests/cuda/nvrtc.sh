#!/bin/sh
# The kernels compiled by older NVRTCs than the one that is installed: the oldest that will do, the first that knows sm_90a
# and wgmma, and the last of CUDA 12, from their Python packages, for some processors each; and by nvcc, where it is.
# tests/cuda/run.sh runs it; the last line is the sum.
#   sh tests/cuda/nvrtc.sh PROGRAM     built from tests/cuda/compile.c
# From the environment: BUILD (folder; packages are kept in its cuda/nvrtc-VERSION), PYTHON.
cd "$(dirname "$0")/../.." || exit 1
B=${BUILD:-build} PYTHON=${PYTHON:-python3}
program=$1 passed=0 failed=0 skipped=0

for what in 11.7.99:75,86 12.1.105:75,90a 12.9.86:120a; do
    version=${what%%:*} folder=$B/cuda/nvrtc-${what%%:*} major=${what%%.*}
    lib=$folder/nvidia/cuda_nvrtc/lib/libnvrtc.so.$([ "$major" = 11 ] && echo 11.2 || echo "$major")
    if [ ! -f "$lib" ]; then
        rm -rf "$folder"
        echo "\$ $PYTHON -m pip install --target $folder nvidia-cuda-nvrtc-cu$major==$version"
        if ! "$PYTHON" -m pip install --quiet --no-deps --disable-pip-version-check --retries 1 --timeout 20 \
            --target "$folder" "nvidia-cuda-nvrtc-cu$major==$version" > "$B/cuda/nvrtc.log" 2>&1 || [ ! -f "$lib" ]; then
            echo "skipped: NVRTC $version: $(grep -v '^ *$' "$B/cuda/nvrtc.log" | tail -n 1)"
            rm -rf "$folder"
            skipped=$((skipped + 1))
            continue
        fi
    fi
    case $lib in /*) ;; *) lib=./$lib ;; esac
    echo "\$ AWQ_NVRTC=$lib $program -a ${what#*:}"
    AWQ_NVRTC=$lib "$program" -a "${what#*:}" > "$B/cuda/nvrtc.log"
    grep -v ' passed, ' "$B/cuda/nvrtc.log"
    set -- $(awk '$2 == "passed," { p = $1; f = $3 } /^NVRTC / { v = $2 } END { print p + 0, f + 0, v }' "$B/cuda/nvrtc.log")
    case $version in
        "${3:-none}".*) ;;
        *) echo "FAILED: NVRTC ${3:-none} was opened, not $version"; failed=$((failed + 1)) ;;
    esac
    [ "$(($1 + $2))" -gt 0 ] || { echo "FAILED: NVRTC $version: nothing was compiled"; failed=$((failed + 1)); }
    passed=$((passed + $1)) failed=$((failed + $2))
done

if command -v nvcc > /dev/null 2>&1; then
    for file in tools/cuda/*.cuh; do
        family=$(basename "$file" .cuh)
        case $family in prims | common | block | warpgroup) continue ;; esac
        (cd tools/cuda && cat prims.cuh common.cuh block.cuh warpgroup.cuh "$family.cuh") > "$B/cuda/nvcc.cu"
        if nvcc -ptx -arch=sm_90a -std=c++17 -Werror all-warnings -DAWQ_ATTEND=128 -o "$B/cuda/nvcc.ptx" "$B/cuda/nvcc.cu" \
            > "$B/cuda/nvcc.log" 2>&1; then passed=$((passed + 1))
        else echo "FAILED: nvcc, $family: $(grep -m 1 . "$B/cuda/nvcc.log")"; failed=$((failed + 1)); fi
    done
    echo "nvcc $(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p'): each family for sm_90a"
else
    echo "skipped: nvcc is not here"
    skipped=$((skipped + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
