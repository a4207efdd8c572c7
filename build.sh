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
#   ./build.sh cuda      awq_cuda.h and its kernels, on a GPU, where there is one, and on an emulator (tests/cuda/run.sh)
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

# $B/awq.o: the public functions of both headers, for those who would compile them again: two seconds instead of fifteen
object() {
    [ "$(cat "$B/awq.made" 2>/dev/null)" = "$CC $CFLAGS" ] && [ -z "$(find awq.h awq_cuda.h -newer "$B/awq.o" 2>&1)" ] && return
    rm -f "$B/awq.made"
    printf '#define AWQ%s_IMPLEMENTATION\n#include "%s/awq%s.h"\n' "" "$(pwd)" "" _CUDA "$(pwd)" _cuda > "$B/awq.c"
    run $CC $CFLAGS $WARN -c -o "$B/awq.o" "$B/awq.c" && echo "$CC $CFLAGS" > "$B/awq.made"
}

build() { # the command line and the first example as anyone compiles them
    compile tools/awq.c "$B/awq" $WARN && object || return 1
    mkdir -p "$B/examples"
    for f in examples/*.c; do
        linked="-DAWQ_LINKED $B/awq.o"
        case $f in */01*) linked= ;; esac
        compile "$f" "$B/examples/$(basename "$f" .c)" $WARN $linked || return 1
    done
    compile_commands
}

# PROGRAM: a fuzz target goes on from its corpus for its time
start() {
    name=${1##*/fuzz_}
    case $1 in
        */fuzz_*) run "$1" -max_total_time="${fuzz_seconds:-30}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix="$B/fuzz/" "$B/fuzz/$name" "tests/corpus/$name" ;;
        *) run "$1" ;;
    esac
}

# FILE PROGRAM [FLAGS]: fuzz targets are one program that goes by its name
program() {
    case $1 in
        */fuzz_*) ln -f "$B/fuzz/targets" "$2" ;;
        *) f=$1 to=$2 && shift 2 && compile "$f" "$to" $WARN "$@" ;;
    esac
}

# compiles and runs those of $tests that no other lane has taken; what each says is printed when it is done
lane() {
    for f in $tests; do
        program=$B/tests/$(basename "$f" .c)
        mkdir "$program.taken" 2>/dev/null || continue
        rm -f "$program"
        linked="-DAWQ_LINKED $B/awq.o"
        grep -q '^#define AWQ__' "$f" && linked=-DAWQ_STATIC # limits of its own: it compiles what it uses
        {
            if program "$f" "$program" $linked 2>&1; then
                start "$program" 2>&1
                echo "exit status $?"
            else
                echo "FAILED: $f does not compile"
            fi
        } > "$program.log"
        sed '/^exit status 0$/d' "$program.log"
    done
}

lanes() { # most tests keep one core busy: one for each
    mkdir -p "$B/tests"
    for f in $tests; do rm -rf "$B/tests/$(basename "$f" .c).taken"; done
    wait # for the emulated driver
    n=$(getconf _NPROCESSORS_ONLN 2>/dev/null) || n=1
    while [ "$n" -gt 1 ]; do
        lane &
        n=$((n - 1))
    done
    lane
    wait
}

tests() {
    passed=0 failed=0 skipped=0
    tests=${TESTS:-$(ls -S tests/test_*.c)} # the long ones first
    export AWQ_CUDA_EMULATOR="$B/libcuda_emulator.so"
    case $(echo $tests) in *test_cuda* | *test_command.c*) sh tests/cuda/run.sh --emulator & ;; esac
    object || return 1
    lanes
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
    for f in declarations implementation; do
        t0=$(date +%s)
        run $CC -O2 -c -o "$B/$f.o" "$B/$f.c" || bad=1
        echo "$f: $(($(date +%s) - t0)) s (whole seconds), object $(wc -c < "$B/$f.o" | tr -d ' ') bytes"
    done
    object && echo "both headers, $CFLAGS: object $(wc -c < "$B/awq.o" | tr -d ' ') bytes" || bad=1
    return $bad
}

bench() { # [--peers]: other engines beside it, from the folder CPU_PEERS
    if [ "${1:-}" = --peers ]; then run sh tests/bench/peers/run.sh; return; fi
    for f in tests/bench/*.c; do
        compile "$f" "$B/$(basename "$f" .c)" -Wno-unused-function && run "$B/$(basename "$f" .c)" || return 1
    done
}

fuzz() {
    command -v clang >/dev/null 2>&1 || { echo "build.sh: fuzz needs clang" >&2; return 1; }
    CC=clang CFLAGS="-g1 -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined"
    tests=${TESTS:-tests/fuzz_*.c} bad=0
    for f in $tests; do f=${f#*fuzz_} && mkdir -p "$B/fuzz/${f%.c}" "tests/corpus/${f%.c}"; done
    compile tests/test_corpus.c "$B/fuzz/targets" $WARN -DAWQ_STATIC -DFUZZ || return 1
    lanes
    for f in $tests; do
        tail -n 1 "$B/tests/$(basename "$f" .c).log" | grep -q '^exit status 0$' || { echo "FAILED: $f"; bad=1; }
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
            object && compile tools/awq.c "$B/awq_valgrind" $WARN -DAWQ_LINKED "$B/awq.o" && rm -rf "$B/valgrind" || return 1
            V="valgrind -q --error-exitcode=9 --leak-check=full $B/awq_valgrind"
            run $V quantize tools/demo/model -o "$B/valgrind" --method rtn --group-size 128 -q &&
                run $V run "$B/valgrind" -p "Bram is" -n 8 -q ;;
        *) echo "usage: ./build.sh sanitize thread|memory|valgrind" >&2; return 2 ;;
    esac
}

case ${1:-} in
    '') build ;;
    demo) object && compile tools/awq.c "$B/awq" $WARN -DAWQ_LINKED "$B/awq.o" && sh tools/demo/run.sh ;;
    check | fuzz) $1 ;;
    bench) bench "${2:-}" ;;
    test) tests ;;
    sanitize) sanitize "${2:-}" ;;
    matrix | cuda | peers | arm) run sh "tests/$1/run.sh" ${2:+"$2"} ${3:+"$3"} ;;
    clean) run rm -rf "$B" ;;
    *)
        sed -n '2,/^set/{/^#/p}' "$0" >&2
        exit 2 ;;
esac
