#!/bin/sh
# Builds of awq.h for hosts of many kinds. The last line is "N passed, N failed, N skipped"; what is missing is named.
#   run.sh            no warning by any compiler and standard found, one of each built and run; then each AWQ_NO_*, two
#                     copies in one program, C and C++ together, no driver: all must say the same
#   run.sh --full     every standard built and run at -O0, -O2 and -O3
#   run.sh --cross    these, and other processors and systems by zig (PYTHON -m ziglang), which is installed into build/ with
#                     wasmtime, run by qemu, wine and wasmtime where they are here. Minutes where zig's cache is cold.
#   run.sh --only T   of --cross only target T, such as s390x-linux-musl
# From the environment: CC, BUILD, PYTHON (default build/hosts/venv/bin/python); CROSS: with --only, a compiler in zig's
# place, such as "s390x-linux-gnu-gcc -static -fexcess-precision=fast" or x86_64-w64-mingw32-gcc.
set -u
cd "$(dirname "$0")/../.." || exit 1
B=${BUILD:-build}/hosts
mkdir -p "$B" || exit 1
CC=${CC:-cc} CXX=${CXX:-c++}
STRICT="-O0 -Wall -Wextra -Wpedantic -Wshadow -Werror"
passed=0 failed=0 skipped=0

good() { passed=$((passed + 1)); echo "ok       $1"; }
bad() { failed=$((failed + 1)); echo "FAILED   $1"; }
skip() { skipped=$((skipped + 1)); echo "skipped  $1"; }

# NAME EXPECTED COMMAND: its standard output must be the file EXPECTED
says() {
    name=$1 expected=$2
    shift 2
    if "$@" < /dev/null > "$B/out" 2> "$B/err" && tr -d '\r' < "$B/out" | cmp -s - "$expected"; then good "$name"
    else
        cat "$B/out" "$B/err"
        bad "$name"
    fi
}

# NAME COMMAND: it must succeed
builds() {
    name=$1
    shift
    if "$@" > "$B/err" 2>&1; then return 0; fi
    cat "$B/err"
    bad "$name does not compile"
    return 1
}

expect() { # the plain build says what every other one must say
    builds plain $CC -std=c99 $STRICT -o "$B/plain" tests/matrix/guest.c -lm -lpthread && "$B/plain" > "$B/expected" &&
        head -n 1 "$B/expected" > "$B/expected_layer" || exit 1
    cat "$B/expected"
}

# clang's every warning but these, which find nothing here: padding of structs, floats that become doubles, a, b as one
# statement, exact comparison of floats, enums as ints, casts of calls' results, unused functions that are used, enums not
# all named in a switch, sequentially consistent atomics, formats handed on, labels one after another, variables that only
# a status says are set
EVERYTHING="-Weverything -Wno-padded -Wno-double-promotion -Wno-comma -Wno-float-equal -Wno-sign-conversion
    -Wno-bad-function-cast -Wno-used-but-marked-unused -Wno-switch-enum -Wno-atomic-implicit-seq-cst
    -Wno-format-nonliteral -Wno-implicit-fallthrough -Wno-conditional-uninitialized"

compilers() { # [--full]
    printf '#define AWQ%s_IMPLEMENTATION\n#include "%s/awq%s.h"\n' "" "$(pwd)" "" _CUDA "$(pwd)" _cuda > "$B/matrix.c"
    printf '#define GUEST_LINKED\n#include "%s/tests/matrix/guest.c"\n' "$(pwd)" >> "$B/matrix.c"
    for compiler in gcc clang g++ clang++; do
        command -v $compiler >/dev/null 2>&1 || { skip "$compiler is not here"; continue; }
        case $compiler in
            *++) language=c++ standards="c++11 c++17 c++20" ;;
            *) language=c standards="c99 c11 c17" ;;
        esac
        case "${1:-} $compiler" in # the first standard is built, the others are only read
            --full*) levels="-O0 -O2 -O3" ;;
            *gcc | *clang++) levels=-O3 ;; # gcc at -O0 and -O2 is in every other test
            *g++) levels=-O2 ;;
            *) levels="-O0 -O2" ;;
        esac
        for std in $standards; do
            for o in $levels; do
                name="$compiler -std=$std $o" link="-o $B/matrix -x none -lm -lpthread -ldl"
                [ $o = -fsyntax-only ] && link=
                builds "$name" $compiler -std=$std $o -Wall -Wextra -Wpedantic -Wshadow -Werror -x $language "$B/matrix.c" $link ||
                    continue
                if [ -z "$link" ]; then good "$name"; else says "$name, run" "$B/expected" "$B/matrix"; fi
            done
            [ "${1:-}" = --full ] || levels=-fsyntax-only
        done
    done
    name="words that windows.h takes" # its macros and a type
    builds "$name" $CC -std=c99 -Dnear= -Dfar= -Dsmall=char -Dinterface=struct -include tests/matrix/words.h -Werror \
        -fsyntax-only tools/awq.c && good "$name"
    headers=/usr/share/mingw-w64/include
    for std in "c -std=c11" "c++ -std=c++14"; do
        name="clang as MSVC, $std"
        if [ -d $headers ] && command -v clang >/dev/null 2>&1; then
            builds "$name" clang --target=x86_64-pc-windows-msvc -march=sapphirerapids -fms-compatibility -isystem $headers \
                -D_UCRT -fsyntax-only -w -Werror=vla -Werror=gnu-statement-expression -Werror=zero-length-array -x $std \
                tests/matrix/msvc.c && good "$name"
        else skip "$name: no clang, or no headers of mingw-w64"; fi
    done
    name="clang -Weverything but a list"
    command -v clang >/dev/null 2>&1 || return
    builds "$name" clang -std=c99 $EVERYTHING -Werror -fsyntax-only "$B/matrix.c" && good "$name"
}

variants() {
    G=tests/matrix/guest.c
    for v in "-DAWQ_NO_SIMD" "-DAWQ_NO_THREADS" "-DAWQ_NO_STDIO" "-DAWQ_STATIC" \
        "-DAWQ_NO_SIMD -DAWQ_NO_THREADS -DAWQ_NO_STDIO -DAWQ_STATIC"; do
        threads=-lpthread
        case $v in *NO_THREADS*) threads= ;; esac
        builds "$v" $CC -std=c99 $STRICT $v -o "$B/v" $G -lm $threads && says "$v" "$B/expected" "$B/v"
    done
    for v in "-DAWQ_NO_MODEL" "-DAWQ_NO_MODEL -DAWQ_NO_SIMD -DAWQ_NO_THREADS -DAWQ_NO_STDIO"; do
        builds "$v" $CC -std=c99 $STRICT $v -o "$B/v" $G -lm -lpthread && says "$v" "$B/expected_layer" "$B/v"
    done
    cat "$B/expected" "$B/expected" > "$B/twice"
    printf 'int one(int, char **), two(int, char **);\nint main(int n, char **v) { return one(n, v) || two(n, v); }\n' > "$B/two.c"
    name="two copies in one program"
    builds "$name" $CC $STRICT -DAWQ_STATIC -DGUEST=one -c -o "$B/one.o" $G &&
        builds "$name" $CC $STRICT -DAWQ_STATIC -DGUEST=two -DAWQ_NO_SIMD -c -o "$B/two.o" $G &&
        builds "$name" $CC -o "$B/v" "$B/two.c" "$B/one.o" "$B/two.o" -lm -lpthread && says "$name" "$B/twice" "$B/v"
    printf '#define AWQ%s_IMPLEMENTATION\n#include "%s/awq%s.h"\n' "" "$(pwd)" "" _CUDA "$(pwd)" _cuda > "$B/both.c"
    if command -v $CXX >/dev/null 2>&1; then
        name="C++ calls C"
        builds "$name" $CC $STRICT -c -o "$B/both.o" "$B/both.c" &&
            builds "$name" $CXX -x c++ -std=c++11 $STRICT -DGUEST_LINKED -include awq_cuda.h -c -o "$B/g.o" $G &&
            builds "$name" $CXX -o "$B/v" "$B/g.o" "$B/both.o" -lm -lpthread -ldl && says "$name" "$B/expected" "$B/v"
        name="C calls C++"
        builds "$name" $CXX -x c++ -std=c++11 $STRICT -c -o "$B/both.o" "$B/both.c" &&
            builds "$name" $CC -std=c99 $STRICT -DGUEST_LINKED -include awq_cuda.h -c -o "$B/g.o" $G &&
            builds "$name" $CXX -o "$B/v" "$B/g.o" "$B/both.o" -lm -lpthread -ldl && says "$name" "$B/expected" "$B/v"
    else skip "C++: no $CXX"; fi
    name="long, odd and too long paths"
    echo "$name" > "$B/paths"
    builds "$name" $CC -std=c99 $STRICT -Wno-unused-function -o "$B/v" tests/matrix/paths.c -lm -lpthread && says "$name" "$B/paths" "$B/v"
    name="awq_cuda.h without a driver"
    echo "no device is said so" > "$B/no_driver"
    if ls /dev/nvidia* >/dev/null 2>&1; then skip "$name: there is a device"
    else
        builds "$name" $CC -std=c99 $STRICT -o "$B/v" tests/matrix/no_driver.c -lm -lpthread -ldl &&
            says "$name" "$B/no_driver" "$B/v"
    fi
}

compiler() { # for $target
    if [ -n "${CROSS:-}" ]; then $CROSS "$@"; else "$PYTHON" -m ziglang cc -target "$target" "$@"; fi
}

# TARGET RUNNER TESTS: tests/test_*.c on a processor that differs in more than its instructions
foreign() {
    target=$1 runner=$2
    shift 2
    command -v "$runner" >/dev/null 2>&1 || { skip "$target, tests: there is no $runner"; return; }
    for t in "$@"; do
        name="$target, test_$t"
        builds "$name" compiler -O1 -Wall -Wextra -Wno-unused-function \
            -o "$B/$target-test" "tests/test_$t.c" -lm || continue
        if AWQ_TEST_DATA='' "$runner" "$B/$target-test" < /dev/null > "$B/out" 2>&1; then good "$name: $(tail -n 1 "$B/out")"
        else
            cat "$B/out"
            bad "$name"
        fi
    done
}

# The command line on Windows: arguments with spaces and letters of several scripts, the same files as here
windows_cli() {
    cli="$1, command line" folder="$B/a b ä 漢字"
    command -v wine >/dev/null 2>&1 || { skip "$cli: there is no wine"; return; }
    rm -rf "$folder" "$B/here"
    mkdir -p "$folder" && cp -r tools/demo/model "$folder/модель"
    builds "$cli" compiler -O1 -Wall -Wextra -o "$B/awq.exe" tools/awq.c &&
        builds "$cli, here" $CC -O1 -o "$B/awq_here" tools/awq.c -lm -lpthread -ldl || return
    "$B/awq_here" quantize tools/demo/model -o "$B/here" --method rtn --group-size 128 -q &&
        "$B/awq_here" run "$B/here" -p "Bram is" -n 12 --deterministic -q > "$B/text" || { bad "$cli: here"; return; }
    says "$cli: inspect" "$B/family" sh -c 'wine "$0" inspect "$1" | head -n 1' "$B/awq.exe" "$folder/модель"
    wine "$B/awq.exe" quantize "$folder/модель" -o "$folder/вывод" --method rtn --group-size 128 -q < /dev/null > "$B/err" 2>&1 ||
        cat "$B/err"
    if cmp "$B/here/model.safetensors" "$folder/вывод/model.safetensors"; then good "$cli: quantize"
    else bad "$cli: quantize"; fi
    says "$cli: run" "$B/text" wine "$B/awq.exe" run "$folder/вывод" -p "Bram is" -n 12 --deterministic -q
}

cross() {
    echo "family       llama" > "$B/family"
    PYTHON=${PYTHON:-$B/venv/bin/python}
    if [ -z "${CROSS:-}" ] && [ ! -x "$PYTHON" ]; then
        python3 -m venv "$B/venv" && "$B/venv/bin/pip" install -q ziglang==0.17.1 wasmtime==50.0.1 || { skip "every target: zig cannot be installed"; return; }
    fi
    [ -n "${CROSS:-}" ] || "$PYTHON" -m ziglang version >/dev/null 2>&1 || { skip "every target: no zig at $PYTHON -m ziglang"; return; }
    export ZIG_GLOBAL_CACHE_DIR="${ZIG_GLOBAL_CACHE_DIR:-$B/zig}" WINEDEBUG=-all LC_ALL=C.UTF-8 # wine reads names in it
    # target, what runs it, flags; -: nothing here does, it is only compiled
    while read -r target runner flags; do
        [ -z "${ONLY:-}" ] || [ "$target" = "$ONLY" ] || continue
        name="$target${flags:+ $flags}"
        program=$B/$target
        expected=$B/expected
        case $flags in *NO_MODEL*) expected=$B/expected_layer ;; esac
        case $target in *windows*) program=$program.exe ;; *wasm*) program=$program.wasm ;; esac
        builds "$name" compiler -std=c99 -O1 -Wall -Wextra -Werror $flags \
            -o "$program" tests/matrix/guest.c -lm || continue
        case $runner in
            -) good "$name (compiled)" ;;
            wasmtime) says "$name, run by wasmtime" "$expected" "$PYTHON" tests/matrix/wasm.py "$program" ;;
            *) if command -v "$runner" >/dev/null 2>&1; then says "$name, run by $runner" "$expected" "$runner" "$program"
               else skip "$name: compiled, but there is no $runner"; fi ;;
        esac
        case $target in x86_64-windows*)
            builds "$target, no driver" compiler -O1 -o "$program" tests/matrix/no_driver.c || continue
            echo "no device is said so" > "$B/no_driver"
            command -v wine >/dev/null 2>&1 && says "$target, awq_cuda.h without a driver" "$B/no_driver" wine "$program"
            echo "long, odd and too long paths" > "$B/paths"
            builds "$target, paths" compiler -O1 -o "$program" tests/matrix/paths.c || continue
            command -v wine >/dev/null 2>&1 && says "$target, long, odd and too long paths" "$B/paths" wine "$program"
            windows_cli "$target" ;;
        # big-endian. qemu 7.2 multiplies two floats to a double wrongly (MDEBR: 3.5 * 2 gives 256), which clang makes use
        # of from -O1 on and gcc does not: the last two by gcc alone
        s390x*) foreign "$target" "$runner" core json tensors layouts quantize checkpoint convert model factor ${CROSS:+load machines} ;;
        esac
    done <<TARGETS
x86_64-windows-gnu wine
aarch64-windows-gnu -
x86_64-macos -
aarch64-macos -
aarch64-linux-musl qemu-aarch64
arm-linux-musleabihf qemu-arm
riscv64-linux-musl qemu-riscv64
s390x-linux-musl qemu-s390x
wasm32-wasi wasmtime
TARGETS
}

case ${1:-} in
    '' | --full) expect && compilers "${1:-}"; variants ;;
    --cross) expect && compilers; variants && cross ;;
    --only) ONLY=${2:?} && expect && cross ;;
    *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 2 ;;
esac
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
