#!/bin/sh
# Other engines read what this library wrote, and it reads what others wrote: ./build.sh peers, or
#   sh tests/peers/run.sh [PART ...]
#     ours      layouts of two or three models in gptqmodel and vLLM, and damaged files, which must be noticed
#     layouts   what compressed-tensors and GPTQModel pack is what we pack, and the other way round, bit for bit
#     server    vLLM's OpenAI server answers from them, on one rank and on two
#     foreign   small checkpoints made by AutoAWQ, GPTQModel, llm-compressor and auto-round run here
#     families  every family: runs, quantizes, and which engines read the result
#     schemas   JSON schemas against jsonschema
#     gptq      GPTQModel's own GPTQ of SmolLM2, measured as ours is (half an hour; never part of "all")
#   AWQ_TEST_DATA  where the models, texts and the engines' scripts are (needed)
#   PEERS          folder of the engines' virtual environments, made where absent (default build/peers, 2 to
#                  4 GB each)
#   ENGINES        default "gptqmodel vllm"
#   MAKERS         default "autoawq gptqmodel llmcompressor autoround": whose checkpoints "foreign" makes
#   FAMILIES       default all: those that "families" tries
#   AWQ_SMOLLM2    folder made by tests/smollm2.sh, if it is to be among the models
# gptqmodel and vLLM turn a weight into (q - zero) * scale rounded to fp16, so their yardstick is the model
# dequantized to fp16 and run in fp32; ours is the one dequantized to fp32, which loses nothing.
set -u
cd "$(dirname "$0")/../.." || exit 1
HERE=$(pwd)
D=${AWQ_TEST_DATA:-}
[ -n "$D" ] || { echo "peers: AWQ_TEST_DATA names no folder" >&2; exit 1; }
E=$D/peers/engines
PEERS=${PEERS:-$HERE/build/peers}
OUT=${OUT:-$HERE/build/peers-out}
AWQ=$OUT/awq
IDS="1 5 9 42 77 100"
ENGINES=${ENGINES:-gptqmodel vllm}
RESULTS=$OUT/results
export DTYPE=float32 LC_ALL=C PYTHONDONTWRITEBYTECODE=1
mkdir -p "$OUT" "$PEERS" || exit 1
: > "$RESULTS"

${CC:-cc} -O2 -o "$AWQ" tools/awq.c -lm -lpthread -ldl || exit 1

# ENGINE: its python, in $python; the environment is made where it is absent
need() {
    case $1 in
        gptqmodel) venv=gptq ;;
        autoawq) venv=awq ;;
        llmcompressor | autoround) venv=llmc ;;
        *) venv=$1 ;;
    esac
    python=$PEERS/venv-$venv/bin/python
    [ -x "$python" ] && return
    setup=$1
    [ "$venv" = llmc ] && setup=llmcompressor
    echo "making $PEERS/venv-$venv"
    STUB=1 bash "$E/setup_$setup.sh" "$PEERS" > "$OUT/setup_$setup.log" 2>&1 ||
        { tail -n 5 "$OUT/setup_$setup.log" >&2; echo "peers: no $setup" >&2; exit 1; }
}
need gptqmodel
GPTQ=$python

# The checks print a line for each result, that begins with ok, FAILED or skipped; a check that does not come to
# its end is a failure too. COMMAND...
check() {
    "$@" > "$OUT/lines" 2> "$OUT/log" || { tail -n 3 "$OUT/log" >&2; echo "FAILED $*" >> "$OUT/lines"; }
    tee -a "$RESULTS" < "$OUT/lines"
}
step() { "$@" > "$OUT/log" || { echo "FAILED $*" | tee -a "$RESULTS"; return 1; }; }

# RESULT COMMAND...: OUT/RESULT.json, empty when the engine refuses
result() {
    to=$OUT/$1
    shift
    "$@" > "$to.json" 2> "$to.log" || : > "$to.json"
}

compare() { check "$GPTQ" tests/peers/compare.py "$1" "$2" "$OUT/$3.json" "$OUT/$4.json"; }

# NAME SOURCE CALIBRATION GROUP LIMIT: the last is for the rounding of fp16, which is larger where logits are
model() {
    name=$1 source=$2 limit=$5
    rm -rf "$OUT/$name" "$OUT/$name"-*
    result "$name-source" "$GPTQ" "$E/check_transformers.py" "$source" $IDS
    result "$name-source-awq.h" "$GPTQ" tests/peers/ours.py "$AWQ" "$source" $IDS
    compare equal 1e-4 "$name-source" "$name-source-awq.h"
    with="--samples 32 --seq-len 256 --group-size $4 -q"
    step "$AWQ" quantize "$source" -o "$OUT/$name" --calib "$3" $with || return
    step "$AWQ" quantize "$source" -o "$OUT/$name-sym" --calib "$3" $with --symmetric \
        --layout compressed-tensors || return
    step "$AWQ" convert "$OUT/$name" -o "$OUT/$name-ct" --layout compressed-tensors -q || return
    for kind in "" -sym; do
        for type in fp16 fp32; do
            step "$AWQ" convert "$OUT/$name$kind" -o "$OUT/$name$kind-$type" --dequantize $type -q || return
            result "$name$kind-$type" "$GPTQ" "$E/check_transformers.py" "$OUT/$name$kind-$type" $IDS
        done
        result "$name$kind-awq.h" "$GPTQ" tests/peers/ours.py "$AWQ" "$OUT/$name$kind" $IDS
        compare equal 1e-4 "$name$kind-fp32" "$name$kind-awq.h"
    done
    for engine in $ENGINES; do
        case $engine in
            gptqmodel)
                result "$name-gptqmodel" "$GPTQ" "$E/check_transformers.py" "$OUT/$name" $IDS
                compare equal 1e-4 "$name-fp16" "$name-gptqmodel" ;;
            vllm) # runs in fp16, whose rounding the limit allows for
                if [ "$name" = stories ]; then
                    echo "skipped stories in vLLM, whose CPU attention has no heads of 8" | tee -a "$RESULTS"
                    continue
                fi
                need vllm
                for kind in "" -ct -sym; do
                    case $kind in -sym) reference=$name-sym-fp16 ;; *) reference=$name-fp16 ;; esac
                    result "$name$kind-vllm" env DTYPE=auto "$python" "$E/check_vllm.py" "$OUT/$name$kind" $IDS
                    compare equal "$limit" "$reference" "$name$kind-vllm"
                done ;;
        esac
    done
}

# awq.h itself refuses a file, with these words: NAME WORDS
refused() {
    if "$AWQ" logits "$OUT/$1" --tokens 1,2 -o "$OUT/scratch.safetensors" -q 2> "$OUT/log"; then word=FAILED
    elif grep -q "$2" "$OUT/log"; then word="ok    "
    else word=FAILED; fi
    echo "$word $1-awq.h: $(cat "$OUT/log")" | tee -a "$RESULTS"
}

# the checks above must notice a damaged file: NAME KIND...
mutated() {
    name=$1
    shift
    for kind in "$@"; do
        bad=$name-mutated-$(echo "$kind" | tr ':=' '--')
        step "$GPTQ" "$E/mutate.py" "$OUT/$name" "$OUT/$bad" "$kind" || continue
        result "$bad-gptqmodel" "$GPTQ" "$E/check_transformers.py" "$OUT/$bad" $IDS
        compare differ 1e-4 "$name-fp16" "$bad-gptqmodel"
        case $kind in
            set:*) refused "$bad" "the quantization config says"; continue ;;
        esac
        result "$bad-awq.h" "$GPTQ" tests/peers/ours.py "$AWQ" "$OUT/$bad" $IDS
        compare differ 1e-4 "$name-fp32" "$bad-awq.h"
    done
}

part_ours() {
    model stories "$D/golden/models/stories260K-gqa-hf" "$D/data/ts_train_split.txt" 32 0.02
    mutated stories order zp1 set:group_size=64 set:bits=8
    model demo tools/demo/model tools/demo/calib.txt 128 0.02
    [ -z "${AWQ_SMOLLM2:-}" ] || model smollm2 "$AWQ_SMOLLM2" "$D/data/wikitext2_valid.txt" 64 0.05
}

part_layouts() {
    ct=$PEERS/ct
    [ -d "$ct/compressed_tensors" ] ||
        step "$GPTQ" -m pip install -q --no-deps --target "$ct" compressed-tensors==0.20.0 loguru pydantic \
            pydantic-core annotated-types typing-inspection typing-extensions || return
    rm -rf "$OUT/layouts" && mkdir "$OUT/layouts"
    set --
    for kind in 4-asymmetric 4-symmetric 3-asymmetric 8-symmetric; do
        symmetric=
        [ "${kind#*-}" = asymmetric ] || symmetric=--symmetric
        step "$AWQ" quantize tools/demo/model -o "$OUT/layouts/$kind" --method rtn --bits "${kind%-*}" \
            --group-size 64 $symmetric --layout compressed-tensors -q || return
        set -- "$@" "$OUT/layouts/$kind"
    done
    check env PYTHONPATH="$ct" "$GPTQ" tests/peers/layouts.py "$AWQ" "$@"
}

# NAME SOURCE GROUP LIMIT RANKS...: two ranks need a whole number of heads and of groups on each
served() {
    name=served-$1 source=$2 group=$3 limit=$4
    shift 4
    need vllm
    rm -rf "$OUT/$name" "$OUT/$name-ct"
    step "$AWQ" quantize "$source" -o "$OUT/$name" --method rtn --group-size "$group" -q || return
    step "$AWQ" convert "$OUT/$name" -o "$OUT/$name-ct" --layout compressed-tensors -q || return
    for ranks in "$@"; do
        for kind in "" -ct; do
            check "$python" tests/peers/server.py "$AWQ" "$OUT/$name$kind" "$ranks" "$limit"
        done
    done
}

part_server() {
    served demo tools/demo/model 32 0.03 1 2
    [ -z "${AWQ_SMOLLM2:-}" ] || served smollm2 "$AWQ_SMOLLM2" 64 0.05 1
}

part_foreign() {
    rm -rf "$OUT/foreign" && mkdir -p "$OUT/foreign"
    for maker in ${MAKERS:-autoawq gptqmodel llmcompressor autoround}; do
        need "$maker"
        step "$python" "tests/peers/make_$maker.py" "$OUT/foreign" 2> "$OUT/make_$maker.log"
        grep '^not made' "$OUT/log" | sed 's/^/skipped /' | tee -a "$RESULTS"
    done
    check "$GPTQ" tests/peers/foreign.py "$AWQ" "$OUT/foreign"
}

part_families() {
    rm -rf "$OUT/families"
    set --
    for engine in $ENGINES; do
        need "$engine"
        [ "$engine" = gptqmodel ] && set -- "$@" "transformers=$python"
        set -- "$@" "$engine=$python"
    done
    check "$GPTQ" tests/peers/families.py "$AWQ" "$D/fixtures/models" "$OUT/families" "$@"
    mv "$OUT/families/families.json" "$OUT/families.json" && "$GPTQ" tests/peers/table.py "$OUT/families.json"
}

part_schemas() { # one result for all its schemas
    if python3 tests/peers/schema.py; then echo "ok schemas"; else echo "FAILED schemas"; fi | tee -a "$RESULTS"
}

part_gptq() {
    [ -n "${AWQ_SMOLLM2:-}" ] || { echo "skipped gptq, AWQ_SMOLLM2 is not set" | tee -a "$RESULTS"; return; }
    text=$D/golden/smollm2
    for sym in sym asym; do
        for order in plain order; do
            to=$OUT/gptq-$sym-$order
            step "$GPTQ" tests/peers/gptq_smollm2.py "$AWQ_SMOLLM2" "$text/calib.json" "$to" 64 $sym $order \
                2> "$to.log" || continue
            cat "$OUT/log"
            step "$AWQ" eval "$to" --text "$text/eval_ids.json" --baseline "$AWQ_SMOLLM2" --json -q || continue
            cat "$OUT/log"
            echo "ok gptq $sym $order" | tee -a "$RESULTS"
            rm -rf "$to"
        done
    done
}

[ $# -gt 0 ] || set -- ours layouts server foreign families schemas
for part in "$@"; do
    case $part in
        ours | layouts | server | foreign | families | schemas | gptq) "part_$part" ;;
        *) echo "peers: no part $part: ours, layouts, server, foreign, families, schemas or gptq" >&2; exit 1 ;;
    esac
done

count() { grep -c "^$1" "$RESULTS"; }
echo "$(count ok) passed, $(count FAILED) failed, $(count skipped) skipped"
[ "$(count FAILED)" -eq 0 ]
