#!/bin/sh
# Other engines read what this library wrote, and say the same: ./build.sh peers
#   AWQ_TEST_DATA  where the models, texts and the engines' scripts are (needed)
#   PEERS          folder of the engines' virtual environments, made where absent (default build/peers, 2 to 4 GB each)
#   ENGINES        default "gptqmodel vllm"
#   AWQ_SMOLLM2    folder made by tests/smollm2.sh, if it is to be among the models
# gptqmodel and vLLM turn a weight into (q - zero) * scale rounded to fp16, so their yardstick is the model dequantized
# to fp16 and run in fp32; ours is the one dequantized to fp32, which loses nothing.
set -u
cd "$(dirname "$0")/../.." || exit 1
HERE=$(pwd)
D=${AWQ_TEST_DATA:-}
[ -n "$D" ] || { echo "peers: AWQ_TEST_DATA names no folder" >&2; exit 1; }
E=$D/peers/engines
PEERS=${PEERS:-$HERE/build/peers}
OUT=$HERE/build/peers-out
AWQ=$HERE/build/awq
IDS="1 5 9 42 77 100"
export DTYPE=float32 LC_ALL=C
passed=0 failed=0
rm -rf "$OUT" && mkdir -p "$OUT" "$PEERS" || exit 1

${CC:-cc} -O2 -o "$AWQ" tools/awq.c -lm -lpthread || exit 1
for engine in gptqmodel ${ENGINES:-gptqmodel vllm}; do
    case $engine in gptqmodel) venv=gptq ;; *) venv=$engine ;; esac
    [ -x "$PEERS/venv-$venv/bin/python" ] && continue
    echo "making $PEERS/venv-$venv"
    STUB=1 bash "$E/setup_$engine.sh" "$PEERS" > "$OUT/setup_$engine.log" 2>&1 ||
        { tail -n 5 "$OUT/setup_$engine.log" >&2; echo "peers: no $engine" >&2; exit 1; }
done
GPTQ=$PEERS/venv-gptq/bin/python

step() { "$@" || { echo "FAILED $*"; failed=$((failed + 1)); return 1; }; }

# RESULT COMMAND...: OUT/RESULT.json, empty when the engine refuses
result() {
    to=$OUT/$1
    shift
    "$@" > "$to.json" 2> "$to.log" || : > "$to.json"
}

compare() {
    if "$GPTQ" tests/peers/compare.py "$1" "$2" "$OUT/$3.json" "$OUT/$4.json"; then passed=$((passed + 1))
    else failed=$((failed + 1)); fi
}

# NAME SOURCE CALIBRATION GROUP
model() {
    name=$1 source=$2
    result "$name-source" "$GPTQ" "$E/check_transformers.py" "$source" $IDS
    result "$name-source-awq.h" "$GPTQ" tests/peers/ours.py "$AWQ" "$source" $IDS
    compare equal 1e-4 "$name-source" "$name-source-awq.h"
    step "$AWQ" quantize "$source" -o "$OUT/$name" --calib "$3" --samples 32 --seq-len 256 --group-size "$4" -q > "$OUT/log" || return
    step "$AWQ" quantize "$source" -o "$OUT/$name-sym" --calib "$3" --samples 32 --seq-len 256 --group-size "$4" \
        --symmetric --layout compressed-tensors -q > "$OUT/log" || return
    step "$AWQ" convert "$OUT/$name" -o "$OUT/$name-ct" --layout compressed-tensors -q > "$OUT/log" || return
    for kind in "" -sym; do
        for type in fp16 fp32; do
            step "$AWQ" convert "$OUT/$name$kind" -o "$OUT/$name$kind-$type" --dequantize $type -q > "$OUT/log" || return
            result "$name$kind-$type" "$GPTQ" "$E/check_transformers.py" "$OUT/$name$kind-$type" $IDS
        done
        result "$name$kind-awq.h" "$GPTQ" tests/peers/ours.py "$AWQ" "$OUT/$name$kind" $IDS
        compare equal 1e-4 "$name$kind-fp32" "$name$kind-awq.h"
    done
    for engine in ${ENGINES:-gptqmodel vllm}; do
        case $engine in
            gptqmodel)
                result "$name-gptqmodel" "$GPTQ" "$E/check_transformers.py" "$OUT/$name" $IDS
                compare equal 1e-4 "$name-fp16" "$name-gptqmodel" ;;
            vllm) # runs in fp16, whose rounding the limit allows for
                if [ "$name" = stories ]; then
                    echo "skipped: stories in vLLM, whose CPU attention has no heads of 8"
                    continue
                fi
                for kind in "" -ct -sym; do
                    case $kind in -sym) reference=$name-sym-fp16 ;; *) reference=$name-fp16 ;; esac
                    result "$name$kind-vllm" env DTYPE=auto "$PEERS/venv-vllm/bin/python" "$E/check_vllm.py" \
                        "$OUT/$name$kind" $IDS
                    compare equal 0.02 "$reference" "$name$kind-vllm"
                done ;;
        esac
    done
}

# the checks above must notice a damaged file
mutated() { # NAME KIND...
    name=$1
    shift
    for kind in "$@"; do
        bad=$name-mutated-$(echo "$kind" | tr ':=' '--')
        step "$GPTQ" "$E/mutate.py" "$OUT/$name" "$OUT/$bad" "$kind" || continue
        result "$bad-gptqmodel" "$GPTQ" "$E/check_transformers.py" "$OUT/$bad" $IDS
        compare differ 1e-4 "$name-fp16" "$bad-gptqmodel"
        result "$bad-awq.h" "$GPTQ" tests/peers/ours.py "$AWQ" "$OUT/$bad" $IDS
        compare differ 1e-4 "$name-fp32" "$bad-awq.h"
    done
}

model stories "$D/golden/models/stories260K-gqa-hf" "$D/data/ts_train_split.txt" 32
mutated stories order zp1 set:group_size=64 set:bits=8
model demo tools/demo/model tools/demo/calib.txt 128
[ -z "${AWQ_SMOLLM2:-}" ] || model smollm2 "$AWQ_SMOLLM2" "$D/data/wikitext2_valid.txt" 64

if python3 tests/peers/schema.py; then passed=$((passed + 1)); else failed=$((failed + 1)); fi # one for all its schemas

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
