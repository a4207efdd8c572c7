#!/bin/sh
# The main job on the model beside this file: quantize it, compare FP16, RTN and AWQ, guard both, ask a question. Exit 0: AWQ
# is better than RTN, the guard lets through one and not the other, and the answer is right. `./build.sh demo` runs it.
# From the environment: BUILD (folder with awq, default build).
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${BUILD:-build}

run() {
    echo "\$ $*"
    "$@"
}

into() { # FILE COMMAND
    file=$1
    shift
    echo "\$ $* > $file"
    "$@" > "$file"
}

number() { # KEY of the one-line JSON object in FILE
    sed -n 's/.*"'"$1"'": \([-+0-9.e]*\).*/\1/p' "$2"
}

M=tools/demo/model
T=tools/demo/heldout.txt
D=$B/demo
rm -rf "$D" && mkdir -p "$D" || exit 1
run "$B/awq" inspect $M -q || exit 1
for m in awq best; do
    few= # the search of awq runs each block at each of 20 ratios: fewer tokens
    [ $m = awq ] && few="--samples 32 --seq-len 256"
    run "$B/awq" quantize $M -o "$D/$m" --calib tools/demo/calib.txt --group-size 128 --method $m $few -q || exit 1
done
run "$B/awq" inspect "$D/best" -q || exit 1
into "$D/rtn.json" "$B/awq" eval $M --text $T --rtn 4 --group-size 128 --baseline $M -q --json || exit 1
for m in awq best; do
    into "$D/$m.json" "$B/awq" eval "$D/$m" --text $T --baseline $M -q --json || exit 1
done
echo
echo "4 bits, group 128, $(number tokens "$D/rtn.json") tokens of $T in windows of 512:"
printf '  %-22s %10s %10s %12s %8s\n' "" perplexity "KL, nats" "NLL - FP16" "+-"
printf '  %-22s %10.4f\n' FP16 "$(number baseline_ppl "$D/rtn.json")"
for m in rtn awq best; do
    what="AWQ (--method $m)"
    [ $m = rtn ] && what=RTN
    printf '  %-22s %10.4f %10.5f %+12.5f %8.5f\n' "$what" "$(number ppl "$D/$m.json")" \
        "$(number kl_mean "$D/$m.json")" "$(number nll_diff "$D/$m.json")" "$(number nll_diff_se "$D/$m.json")"
done
echo
verdict=0
for m in awq best; do
    awk -v m="$m" -v r="$(number nll_diff "$D/rtn.json")" -v a="$(number nll_diff "$D/$m.json")" \
        -v rs="$(number nll_diff_se "$D/rtn.json")" -v as="$(number nll_diff_se "$D/$m.json")" 'BEGIN {
        d = r - a; se = sqrt(rs * rs + as * as); better = d > 2 * se
        printf("--method %s is %s than RTN: NLL %.4f nats per token %s (%.0f standard errors)\n", m,
            better ? "BETTER" : "NOT BETTER", d < 0 ? -d : d, d < 0 ? "higher" : "lower", se > 0 ? d / se : 0)
        exit !better }' || verdict=1
done
echo
echo "awq guard: is it still the same model? (38 questions with paraphrases and passages, 4 stories, 2 in JSON, and the text above)"
for m in rtn best; do
    set -- "$D/best"
    [ $m = rtn ] && set -- $M --rtn 4 --group-size 128
    "$B/awq" guard $M "$@" --suite tools/demo/suite.jsonl --text $T --report "$D/guard_$m.html" -q > "$D/guard_$m.txt"
    case $? in 0 | 1 | 2) ;; *) exit 1 ;; esac
    printf '  %-22s %s, %s\n' "$m" "$(tail -n 1 "$D/guard_$m.txt")" "$D/guard_$m.html"
done
[ "$(tail -n 1 "$D/guard_best.txt")" = "verdict: pass" ] || verdict=1
[ "$(tail -n 1 "$D/guard_rtn.txt")" = "verdict: fail" ] || verdict=1
echo
question="What is Bram's trade?"
echo "\$ echo \"$question\" | $B/awq run $D/best --chat -n 40"
answer=$(echo "$question" | "$B/awq" run "$D/best" --chat -n 40) || exit 1
echo "$answer"
case $answer in *carpenter*) echo "(right)" ;; *) echo "(wrong: Bram is a carpenter)"; verdict=1 ;; esac
exit $verdict
