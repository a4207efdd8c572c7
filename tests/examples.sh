#!/bin/sh
# Runs the examples that ./build.sh built, from the repository's root: sh tests/examples.sh [FOLDER=build/examples].
# Each must end as it should and say what its first comment promises; also that a model that is not there is named.
set -u
E=${1:-build/examples}
T=$E/tmp
bad=0 ran=0
rm -rf "$T"
mkdir -p "$T" || exit 1

try() { # STATUS TEXT PROGRAM [arguments]
    want=$1 text=$2 name=$3
    shift 2
    shift
    "$E/$name" "$@" > "$T/out" 2>&1
    got=$?
    ran=$((ran + 1))
    if [ "$got" -ne "$want" ] || ! grep -qF -e "$text" "$T/out"; then
        bad=$((bad + 1))
        echo "FAILED: $name $*: status $got, expected $want and \"$text\" in"
        sed 's/^/    /' "$T/out"
    else
        echo "ok      $name: $(tail -n 1 "$T/out" | cut -c 1-110)"
    fi
}

M=tools/demo/model
try 0 "He is the carpenter in Dunmarrow." 01_generate
try 0 "perplexity 2.3" 02_quantize $M tools/demo/calib.txt "$T/awq"
try 0 "same codes" 03_layouts
try 0 "guard: He is the carpenter in Dunmarrow." 04_game_loop
try 0 "loaded  12 tokens" 05_save_character $M "$T/character.awq"
try 0 '"giver":' 06_quest_giver
try 0 "20 years old" 07_cuda $M "Bram is" --cpu
try 0 "scaled and clipped" 09_quantize_layer
try 0 "He is the carpenter in Dunmarrow." 10_memory
try 0 "0 bytes left" 11_engine
try 0 "30 frames" 12_scene $M 30
try 2 "verdict: fail" 13_guard $M "" tools/demo/suite.jsonl tools/demo/heldout.txt "$T/report.html"
grep -q "</html>" "$T/report.html" || { echo "FAILED: 13_guard wrote no report"; bad=$((bad + 1)); }
for name in 01_generate 04_game_loop 05_save_character 06_quest_giver 10_memory 11_engine 12_scene; do
    try 1 config.json $name "$T/no model"
done
try 3 "no model" 13_guard "$T/no model"
rm -rf "$T"
echo "examples: $ran runs, $bad failed"
[ "$bad" -eq 0 ]
