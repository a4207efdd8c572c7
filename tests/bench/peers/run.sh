#!/bin/sh
# This library and other engines in turn, on this machine: sh tests/bench/peers/run.sh [layers] [models]
# Wants CPU_PEERS, the folder that setup.sh made. From the environment: THREADS ("1 2"), ROUNDS (3), SECONDS of a figure
# (1), OUT (build/bench-peers). The last part is a table of medians and ratios, as tests/bench/RESULTS.md has them.
set -eu
cd "$(dirname "$0")/../../.."
P=${CPU_PEERS:?the folder that tests/bench/peers/setup.sh made}
OUT=${OUT:-build/bench-peers}
B=${BUILD:-build}
mkdir -p "$OUT" "$B"
CC=${CC:-cc}
for f in layers model; do
    $CC -O2 -Wno-unused-function -o "$B/bench_$f" tests/bench/bench_$f.c -lm -lpthread
done
LLAMA=$(ls "$P"/llama_cpp_python-*/vendor/llama.cpp/build/bin/llama-bench 2>/dev/null | head -1)
parts=${*:-layers models}
round=1
while [ $round -le "${ROUNDS:-3}" ]; do
    for t in ${THREADS:-1 2}; do
        case $parts in *layers*)
            "$B/bench_layers" "$t" fast "${SECONDS_EACH:-1}" | tee -a "$OUT/layers.txt"
            for e in openvino onnxruntime ipex torch; do
                "$P/venv/bin/python" tests/bench/peers/layers.py $e "$t" "${SECONDS_EACH:-1}" 2>"$OUT/$e.err" |
                    tee -a "$OUT/layers.txt" || echo "$e: did not run: $(tail -n 1 "$OUT/$e.err")"
            done ;;
        esac
        case $parts in *models*)
            for m in tiny 3b; do
                case $m in tiny) ours=tinyllama ;; *) ours=llama3b ;; esac
                "$B/bench_model" $ours "$t" fast 8 | sed "s/^/$m t=$t: /" | tee -a "$OUT/models.txt"
                for q in q4_0 q4_1 q4_k_m; do
                    case $m-$q in 3b-q4_1 | 3b-q4_k_m) continue ;; esac
                    [ -f "$OUT/$m-$q.gguf" ] ||
                        "$P/venv/bin/python" tests/bench/peers/make_gguf.py $m $q "$OUT/$m-$q.gguf"
                    "$LLAMA" -m "$OUT/$m-$q.gguf" -p 512 -n 24 -t "$t" -r 3 -o csv 2>/dev/null |
                        "$P/venv/bin/python" -c "
import csv, sys
for r in csv.DictReader(sys.stdin):
    what = 'prompt of 512' if int(r['n_prompt']) else '1 token'
    print('%s t=%s: llama.cpp %s %s, %s: %.2f tokens/s' % ('$m', '$t', r['build_commit'], '$q', what, float(r['avg_ts'])))" |
                        tee -a "$OUT/models.txt"
                done
            done ;;
        esac
    done
    round=$((round + 1))
done
"$P/venv/bin/python" tests/bench/peers/summary.py "$OUT"
