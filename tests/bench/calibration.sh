#!/bin/sh
# What the choice of calibration text does: SmolLM2 at 4 bits, group 64, calibrated on 24 x 512 tokens of an encyclopedia,
# a novel or instructions, and judged on other text of each kind against FP16 (24 to 35 windows of 512). Prints the table.
#   AWQ_TEST_DATA=... AWQ_SMOLLM2=folder of tests/smollm2.sh tests/bench/calibration.sh    about 25 minutes on 2 cores
set -eu
cd "$(dirname "$0")/../.."
D=$AWQ_TEST_DATA/data
M=$AWQ_SMOLLM2
B=build/calibration
METHOD=${METHOD:-best}
mkdir -p "$B"
${CC:-cc} -O2 -o build/awq tools/awq.c -lm -lpthread -ldl
python3 - "$D/alpaca_seed_tasks.jsonl" "$B" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
for name, part in (("calib", rows[0::2]), ("eval", rows[1::2])):
    with open(f"{sys.argv[2]}/instructions.{name}.jsonl", "w") as f:
        for r in part:
            i = r["instances"][0]
            ask = r["instruction"] + ("\n" + i["input"] if i["input"] else "")
            f.write(json.dumps({"messages": [{"role": "user", "content": ask},
                                             {"role": "assistant", "content": i["output"]}]}) + "\n")
PY
ln -sf "$D/wikitext2_valid.txt" "$B/encyclopedia.calib.txt"
ln -sf "$D/wizard_of_oz.txt" "$B/novel.calib.txt"
head -c 70000 "$D/wikitext2_test.txt" > "$B/encyclopedia.eval.txt"
head -c 60000 "$D/sherlock.txt" > "$B/novel.eval.txt"
file() { ls "$B/$1.$2".*; }
kinds="encyclopedia novel instructions"
for k in $kinds; do
    rm -rf "$B/$METHOD-$k"
    build/awq quantize "$M" -o "$B/$METHOD-$k" --calib "$(file "$k" calib)" --samples 24 --seq-len 512 --group-size 64 \
        --method "$METHOD" -q
done
for e in $kinds; do
    build/awq eval "$M" --rtn 4 --group-size 64 --text "$(file "$e" eval)" --baseline "$M" -q --json > "$B/rtn-on-$e.json"
    for k in $kinds; do
        build/awq eval "$B/$METHOD-$k" --text "$(file "$e" eval)" --baseline "$M" -q --json > "$B/$METHOD-$k-on-$e.json"
    done
done
python3 - "$B" "$METHOD" $kinds <<'PY'
import json, statistics, sys
folder, method, kinds = sys.argv[1], sys.argv[2], sys.argv[3:]
def get(name, e): return json.load(open(f"{folder}/{name}-on-{e}.json"))
print(f"method {method}: KL to FP16 in nats +- standard error over windows (perplexity)")
print("| calibrated on | " + " | ".join(f"judged on: {e}" for e in kinds) + " |\n|---" * 1 + "|---" * len(kinds) + "|")
print("| FP16 | " + " | ".join(f"0 ({get('rtn', e)['baseline_ppl']:.3f})" for e in kinds) + " |")
for name, label in [("rtn", "nothing (RTN)")] + [(f"{method}-{k}", k) for k in kinds]:
    cells = []
    for e in kinds:
        r = get(name, e)
        w = r["window_kl"]
        cells.append(f"{r['kl_mean']:.4f} +- {statistics.stdev(w) / len(w) ** .5:.4f} ({r['ppl']:.3f})")
    print(f"| {label} | " + " | ".join(cells) + " |")
PY
