#!/bin/sh
# Builds and tests awq.h; everything goes to build/, every command is shown.
#   ./build.sh           build/awq, the examples, build/compile_commands.json
#   ./build.sh demo      quantize the small model of tools/demo, compare FP16, RTN and AWQ, guard, ask a question
#   ./build.sh test      compile and run tests/test_*.c; the last line is the sum
#   ./build.sh check     CONTENTS, Unicode tables, CUDA text, size of the headers, compile time
#   ./build.sh matrix    no warning by any compiler and language standard found, every AWQ_NO_* (tests/matrix/run.sh);
#                        --full: at each level of optimization; --cross: also for other processors and systems
#   ./build.sh bench     compile and run tests/bench/*.c; --peers: other engines beside (tests/bench/peers/setup.sh)
#   ./build.sh fuzz      every tests/fuzz_*.c for SECONDS=30 each, from tests/corpus on (clang)
#   ./build.sh sanitize  thread, memory or valgrind: the pool and sessions; parsers (clang); the command line
#   ./build.sh peers     other engines read what this library wrote (tests/peers/run.sh)
#   ./build.sh arm       tests of the kernels, cross-compiled and run as three Arm processors (tests/arm/run.sh)
#   ./build.sh cuda      awq_cuda.h and its kernels, on an emulator and, where there is one, a GPU; --compile-only: by NVRTC
#   ./build.sh clean
# From the environment: CC, CFLAGS, LDFLAGS; BUILD (folder, default build), TESTS (files; default all), SECONDS of fuzz,
# AWQ_TEST_DATA (large test data; without it the tests that need it are skipped), AWQ_SMOLLM2 (folder made by
# tests/smollm2.sh, likewise), UNICODE_DATA (folder with UnicodeData.txt).
set -u
fuzz_seconds=$(env | sed -n 's/^SECONDS=//p') # bash, as sh, counts in its own variable of that name
cd "$(dirname "$0")" || exit 1
export LC_ALL=C
B=${BUILD:-build}
CFLAGS=${CFLAGS--O2}
LDFLAGS=${LDFLAGS-} LIBS="-lm -lpthread -ldl"

if [ -z "${CC:-}" ]; then
    for CC in cc gcc clang ''; do
        [ -n "$CC" ] && command -v "$CC" >/dev/null 2>&1 && break
    done
    [ -n "$CC" ] || { echo "build.sh: no C compiler: neither cc, gcc nor clang is here; set CC" >&2; exit 1; }
fi
mkdir -p "$B" || exit 1
export CC CFLAGS LDFLAGS LIBS BUILD="$B" # of tests/*/run.sh

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

# SOURCE PROGRAM [flags]; CC, CFLAGS, LDFLAGS and LIBS may be several words
compile() {
    source=$1
    program=$2
    shift 2
    run $CC $CFLAGS "$@" -o "$program" "$source" $LDFLAGS $LIBS
}

# the sum over the "N passed, N failed, N skipped" lines of FILE, as three numbers; nothing if it has none
sums() {
    awk '$2 == "passed," && $4 == "failed," && $6 == "skipped" && NF == 6 { p += $1; f += $3; s += $5; n++ }
         END { if (n) print p, f, s }' "$1"
}

# editors: an entry for each header, with its implementation switched on, and one for each program
compile_commands() {
    here=$(pwd)
    {
        echo "["
        comma=
        for f in awq*.h; do
            [ -f "$f" ] || continue
            name=$(basename "$f" .h | tr 'a-z' 'A-Z')
            printf '%s{"directory": "%s", "file": "%s", "command": "%s -std=c99 -xc -DAWQ_IMPLEMENTATION -D%s_IMPLEMENTATION -c %s"}' \
                "$comma" "$here" "$f" "$CC" "$name" "$f"
            comma=",
"
        done
        for f in tools/*.c examples/*.c tests/*.c tests/bench/*.c; do
            [ -f "$f" ] || continue
            printf ',\n{"directory": "%s", "file": "%s", "command": "%s -c %s"}' "$here" "$f" "$CC" "$f"
        done
        printf '\n]\n'
    } > "$B/compile_commands.json"
    echo "wrote $B/compile_commands.json"
}

WARN="-Wall -Wextra -Wno-unused-function"

build() {
    compile tools/awq.c "$B/awq" $WARN || return 1
    mkdir -p "$B/examples"
    for f in examples/*.c; do
        [ -f "$f" ] || continue
        compile "$f" "$B/examples/$(basename "$f" .c)" $WARN || return 1
    done
    compile_commands
}

number() { # KEY of the one-line JSON object in FILE
    sed -n 's/.*"'"$1"'": \([-+0-9.e]*\).*/\1/p' "$2"
}

demo() {
    M=tools/demo/model
    T=tools/demo/heldout.txt
    D=$B/demo
    compile tools/awq.c "$B/awq" $WARN || return 1
    rm -rf "$D" && mkdir -p "$D" || return 1
    run "$B/awq" inspect $M -q || return 1
    for m in awq best; do
        few= # the search of awq runs each block at each of 20 ratios: fewer tokens
        [ $m = awq ] && few="--samples 32 --seq-len 256"
        run "$B/awq" quantize $M -o "$D/$m" --calib tools/demo/calib.txt --group-size 128 --method $m $few -q || return 1
    done
    run "$B/awq" inspect "$D/best" -q || return 1
    into "$D/rtn.json" "$B/awq" eval $M --text $T --rtn 4 --group-size 128 --baseline $M -q --json || return 1
    for m in awq best; do
        into "$D/$m.json" "$B/awq" eval "$D/$m" --text $T --baseline $M -q --json || return 1
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
        case $? in 0 | 1 | 2) ;; *) return 1 ;; esac
        printf '  %-22s %s, %s\n' "$m" "$(tail -n 1 "$D/guard_$m.txt")" "$D/guard_$m.html"
    done
    [ "$(tail -n 1 "$D/guard_best.txt")" = "verdict: pass" ] || verdict=1
    [ "$(tail -n 1 "$D/guard_rtn.txt")" = "verdict: fail" ] || verdict=1
    echo
    question="What is Bram's trade?"
    echo "\$ echo \"$question\" | $B/awq run $D/best --chat -n 40"
    answer=$(echo "$question" | "$B/awq" run "$D/best" --chat -n 40) || return 1
    echo "$answer"
    case $answer in *carpenter*) echo "(right)" ;; *) echo "(wrong: Bram is a carpenter)"; verdict=1 ;; esac
    return $verdict
}

# PART PARTS: every PARTS-th test, what the compiler says to a file beside the program. Public functions come from
# awq.o: a test compiles in two seconds instead of fifteen so; by itself it compiles as any program does.
compile_tests() {
    i=0
    for f in $tests; do
        i=$((i + 1))
        [ $((i % $2)) -eq "$1" ] || continue
        program=$B/tests/$(basename "$f" .c)
        rm -f "$program"
        echo "compiling $f"
        linked="-DAWQ_LINKED $B/tests/awq.o"
        grep -q '^#define AWQ__' "$f" && linked=-DAWQ_STATIC # limits of its own: it compiles what it uses
        compile "$f" "$program" $WARN $linked > "$program.compiled" 2>&1
    done
}

# runs those tests that no other lane has taken, one after the other; what each says is printed when it is done
run_tests() {
    for f in $tests; do
        program=$B/tests/$(basename "$f" .c)
        mkdir "$program.taken" 2>/dev/null || continue
        {
            cat "$program.compiled"
            if [ -x "$program" ]; then
                run "$program" 2>&1
                echo "exit status $?"
            else
                echo "FAILED: $f does not compile"
            fi
        } > "$program.log"
        sed '/^exit status 0$/d' "$program.log"
    done
}

tests() {
    passed=0 failed=0 skipped=0
    tests=${TESTS:-tests/test_*.c}
    mkdir -p "$B/tests"
    export AWQ_CUDA_EMULATOR="$B/libcuda_emulator.so"
    case $(echo $tests) in *test_cuda* | *test_command.c*) sh tests/cuda/run.sh --emulator & ;; esac
    cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || cores=1
    printf '#define AWQ%s_IMPLEMENTATION\n#include "%s/awq%s.h"\n' "" "$(pwd)" "" _CUDA "$(pwd)" _cuda > "$B/tests/awq.c"
    run $CC $CFLAGS $WARN -c -o "$B/tests/awq.o" "$B/tests/awq.c" || return 1
    part=0
    while [ $part -lt "$cores" ]; do
        compile_tests $part "$cores" &
        part=$((part + 1))
    done
    wait
    for f in $tests; do rm -rf "$B/tests/$(basename "$f" .c).taken"; done
    run_tests & # two lanes: most tests keep one core busy
    run_tests
    wait
    for f in $tests; do
        name=$(basename "$f" .c)
        log=$B/tests/$name.log
        [ -x "$B/tests/$name" ] || { failed=$((failed + 1)); continue; }
        count=$(sums "$log")
        if [ -z "$count" ]; then # died before its last line
            echo "FAILED: $name did not finish"
            count="0 1 0"
        fi
        set -- $count
        passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
        # a sanitizer may speak up after the last line
        if [ "$2" -eq 0 ] && ! tail -n 1 "$log" | grep -q '^exit status 0$'; then
            echo "FAILED: $name passed its tests but ended badly"
            failed=$((failed + 1))
        fi
    done
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

check() {
    bad=0
    run sh tools/check_contents.sh || bad=1
    U=${UNICODE_DATA:-}
    if [ -n "$U" ] && [ -f "$U/UnicodeData.txt" ]; then
        compile tools/unicode.c "$B/unicode" &&
            run "$B/unicode" --check awq.h "$U/UnicodeData.txt" "$U/CompositionExclusions.txt" || bad=1
    else
        echo "skipped: the Unicode tables; UNICODE_DATA names no folder with UnicodeData.txt"
    fi
    compile tools/embed_cuda.c "$B/embed_cuda" $WARN && run "$B/embed_cuda" --check awq_cuda.h tools/cuda/plan.h tools/cuda/steps.h tools/cuda/*.cuh || bad=1
    for f in awq*.h; do # ASCII, at most 112 columns
        awk -v f="$f" '{ bytes += length($0) + 1 } length($0) > 112 { long++ } /[^\001-\176]/ { odd++ }
            END { printf "%s: %d lines, %.0f KB, %d lines over 112 columns, %d not ASCII\n", f, NR, bytes / 1e3, long, odd
                  exit odd + long > 0 }' "$f" || bad=1
    done
    printf '#include "%s/awq_cuda.h"\nint main(void) { return 0; }\n' "$(pwd)" > "$B/declarations.c"
    printf '#define AWQ_IMPLEMENTATION\n#include "%s/awq.h"\n' "$(pwd)" > "$B/implementation.c"
    { cat "$B/implementation.c"; printf '#define AWQ_CUDA_IMPLEMENTATION\n#include "%s/awq_cuda.h"\n' "$(pwd)"; } > "$B/both.c"
    for f in declarations implementation both; do
        t0=$(date +%s)
        run $CC -O2 -c -o "$B/$f.o" "$B/$f.c" || bad=1
        echo "$f: $(($(date +%s) - t0)) s (whole seconds), object $(wc -c < "$B/$f.o" | tr -d ' ') bytes"
    done
    return $bad
}

# clang's every warning but these, which find nothing here: padding of structs, floats that become doubles, a, b as one
# statement, exact comparison of floats, enums as ints, casts of calls' results, unused functions that are used, enums not
# all named in a switch, sequentially consistent atomics, formats handed on, labels one after another, variables that only
# a status says are set
EVERYTHING="-Weverything -Wno-padded -Wno-double-promotion -Wno-comma -Wno-float-equal -Wno-sign-conversion
    -Wno-bad-function-cast -Wno-used-but-marked-unused -Wno-switch-enum -Wno-atomic-implicit-seq-cst
    -Wno-format-nonliteral -Wno-implicit-fallthrough -Wno-conditional-uninitialized"

matrix() { # [--full]: every level of optimization of every standard is built; [--cross]: also for other machines
    passed=0 failed=0
    printf '#define AWQ%s_IMPLEMENTATION\n#include "%s/awq%s.h"\n' "" "$(pwd)" "" _CUDA "$(pwd)" _cuda > "$B/matrix.c"
    printf 'int main(void) { return awq_version()[0] == 0; }\n' >> "$B/matrix.c"
    for compiler in gcc clang g++ clang++; do
        command -v $compiler >/dev/null 2>&1 || { echo "skipped: $compiler is not here"; continue; }
        case $compiler in
            *++) language=c++ standards="c++11 c++17 c++20" ;;
            *) language=c standards="c99 c11 c17" ;;
        esac
        levels="-O0 -O2 -O3" # the first standard is built at each, the others are only read
        for std in $standards; do
            for o in $levels; do
                if run $compiler -x $language -std=$std $o -Wall -Wextra -Wpedantic -Wshadow -Werror -o "$B/matrix" \
                    "$B/matrix.c" $LIBS && { [ $o = -fsyntax-only ] || "$B/matrix"; }; then passed=$((passed + 1))
                else failed=$((failed + 1)); fi
            done
            [ "${1:-}" = --full ] || levels=-fsyntax-only
        done
    done
    if command -v clang >/dev/null 2>&1; then
        if run clang -std=c99 $EVERYTHING -Werror -fsyntax-only "$B/matrix.c"; then passed=$((passed + 1))
        else failed=$((failed + 1)); fi
    fi
    echo "matrix: $passed of $((passed + failed)) compile without a warning"
    run sh tests/matrix/run.sh variants || failed=$((failed + 1))
    if [ "${1:-}" = --cross ]; then run sh tests/matrix/run.sh cross --install || failed=$((failed + 1)); fi
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

bench() { # [--peers]: other engines beside it, from the folder CPU_PEERS
    if [ "${1:-}" = --peers ]; then run sh tests/bench/peers/run.sh; return; fi
    for f in tests/bench/*.c; do
        compile "$f" "$B/$(basename "$f" .c)" -Wno-unused-function && run "$B/$(basename "$f" .c)" || return 1
    done
}

fuzz() {
    command -v clang >/dev/null 2>&1 || { echo "build.sh: fuzz needs clang" >&2; return 1; }
    CC=clang CFLAGS="-g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined"
    bad=0
    for f in ${TESTS:-tests/fuzz_*.c}; do
        name=$(basename "$f" .c)
        mkdir -p "$B/fuzz/$name" "tests/corpus/${name#fuzz_}"
        compile "$f" "$B/$name" -Wno-unused-function &&
            run "$B/$name" -max_total_time="${fuzz_seconds:-30}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
                -artifact_prefix="$B/fuzz/" "$B/fuzz/$name" "tests/corpus/${name#fuzz_}" || bad=1
    done
    return $bad
}

sanitize() { # thread | memory | valgrind
    case ${1:-} in
        thread)
            CFLAGS="-g1 -O1 -fsanitize=thread"
            TESTS=${TESTS:-"tests/test_core.c tests/test_session.c"}
            export AWQ_SOAK_SECONDS="${AWQ_SOAK_SECONDS:-3}"
            tests ;;
        memory) # only C, and nothing of SIMD, which the sanitizer does not follow; nor does it know glibc's new fstat
            echo "fun:awq__os_*" > "$B/msan.txt"
            CC=clang CFLAGS="-g1 -O0 -fsanitize=memory -fno-sanitize-recover=memory -fsanitize-ignorelist=$B/msan.txt -DAWQ_NO_SIMD"
            TESTS=${TESTS:-"tests/test_json.c tests/test_tensors.c tests/test_grammar.c tests/test_template.c tests/test_layouts.c"}
            tests ;;
        valgrind)
            command -v valgrind >/dev/null 2>&1 || { echo "build.sh: valgrind is not here" >&2; return 1; }
            compile tools/awq.c "$B/awq_valgrind" -g1 $WARN && rm -rf "$B/valgrind" || return 1
            V="valgrind -q --error-exitcode=9 --leak-check=full $B/awq_valgrind"
            run $V quantize tools/demo/model -o "$B/valgrind" --method rtn --group-size 128 -q &&
                run $V run "$B/valgrind" -p "Bram is" -n 8 -q ;;
        *) echo "usage: ./build.sh sanitize thread|memory|valgrind" >&2; return 2 ;;
    esac
}

case ${1:-} in
    '') build ;;
    demo | check | fuzz) $1 ;;
    matrix) matrix "${2:-}" ;;
    bench) bench "${2:-}" ;;
    test) tests ;;
    sanitize) sanitize "${2:-}" ;;
    cuda) run sh tests/cuda/run.sh ${2:+"$2"} ;;
    peers | arm)
        if [ -f tests/$1/run.sh ]; then run sh tests/$1/run.sh; else echo "skipped: no tests/$1/run.sh"; fi ;;
    clean) run rm -rf "$B" ;;
    *)
        sed -n '2,/^set/{/^#/p}' "$0" >&2
        exit 2 ;;
esac
