#!/bin/sh
# What the hot kernels are made of: the instructions of one turn of their inner loop by kind, registers, the weights that
# issue alone would let them read, and the bytes that they keep under way, against bandwidth times latency. Needs no GPU:
# NVRTC and nvdisasm, from the toolkit or from Python's package nvidia-cuda-nvdisasm, which is installed to BUILD.
#   sh tests/cuda/sass.sh [ARCH ...]  a table for these, else sm_90a, 80, 89, 75, 100a and 120a, as
#                                     tests/bench/RESULTS.md has it
# From the environment: CC, BUILD (folder), PYTHON, NVDISASM (program).
# The inner loop is the backward branch around the most mma, of equals the fewest instructions; where there is no mma,
# around the most loads. What is predicated counts in full. Below sm_80 a copy is a load and a store: of rings and
# pages what is under way is at most what is said. Prints "skipped" where a tool is not here.
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C
archs=${*:-90a 80 89 75 100a 120a}
B=${BUILD:-build}/cuda/sass CC=${CC:-cc} PYTHON=${PYTHON:-python3}
mkdir -p "$B" || exit 1

dis=${NVDISASM:-$(command -v nvdisasm)}
if [ -z "$dis" ]; then
    dis=$B/tool/nvidia/cu13/bin/nvdisasm
    [ -f "$dis" ] || "$PYTHON" -m pip install --quiet --no-deps --disable-pip-version-check --retries 1 --timeout 20 \
        --target "$B/tool" nvidia-cuda-nvdisasm > "$B/pip.log" 2>&1
    chmod +x "$dis" 2> /dev/null || { echo "skipped: no nvdisasm: $(tail -n 1 "$B/pip.log")"; exit 0; }
fi
$CC -O1 -w -o "$B/compile" tests/cuda/compile.c -ldl || exit 1
"$B/compile" -v -a "$(echo $archs | tr ' ' ,)" -o "$B" linear wgmma wgmma_few linear8 dense experts attention > "$B/log" || { cat "$B/log"; exit 1; }
grep -q ' skipped$' "$B/log" && ! grep -q '0 skipped$' "$B/log" && { cat "$B/log"; exit 0; }

# NAME FAMILY ARCH THREADS BLOCKS: at most on an SM, whose registers, shared memory and threads may allow fewer; BYTES:
# weights (keys and values) of a turn of a warp, 0: of its mma, which take them as they are; FLIGHT: bytes under way of a
# block, from the rings of plan.h and the sources; SHARED: its bytes of shared memory; PRODUCER, of eight warps' turns, 1:
# one of the loop of others, which copies, is issued beside them
row() {
    "$dis" -c "$B/$2.sm_$3.cubin" > "$B/text" || return 1
    registers=$(awk -v k="$1" -v a="sm_$3" '$1 == k { r = $2 } $2 == a && $1 == f { print r; exit }' f="$2" "$B/log")
    awk -v kernel="$1" -v arch="$3" -v threads="$4" -v blocks="$5" -v bytes="$6" -v flight="$7" -v shared="$8" -v producer="${9:-0}" \
        -v registers="$registers" '
        /^\.text\./ { inside = $1 == ".text." kernel ":" }
        inside && /^\.L_x_[0-9]+:/ { label[substr($1, 1, length($1) - 1)] = n }
        inside && /^ *\/\*[0-9a-f]+\*\// {
            i = 2
            if ($i ~ /^@/) i++ # predicate
            op[n] = $i
            if ($i ~ /^BRA/ && match($0, /\.L_x_[0-9]+/)) target[n] = substr($0, RSTART, RLENGTH)
            n++
        }
        function count(from, to, what,   i, c) { for (i = from; i <= to; i++) c += !off[i] && op[i] ~ what; return c + 0 }
        END {
            best = -1
            for (i in target) {
                i += 0
                if (!(target[i] in label) || label[target[i]] > i) continue
                from = label[target[i]]
                mma = count(from, i, "^(HMMA|HGMMA)")
                work = mma ? 1000 * mma : count(from, i, "^(LDG|LDGSTS)")
                if (work > best || (work == best && i - from < last - first)) { best = work; first = from; last = i }
            }
            if (best <= 0) { print kernel ": no loop is found"; exit 1 }
            for (i in target) { # what copies: the shortest loop of its kind
                i += 0
                if (!producer || !(target[i] in label) || label[target[i]] > i) continue
                k = label[target[i]]
                if (!count(k, i, "^HGMMA") && count(k, i, "^UBLKCP") && count(k, i, "^LDGSTS") && (!copying || i - k + 1 < copying)) copying = i - k + 1
            }
            # jumped over: what only groups of 32 need, and such
            for (i = first; i <= last; i++)
                if (i in target && (to = label[target[i]]) > i + 1 && to <= last && !count(i + 1, to - 1, "^(HMMA|HGMMA|LDS.*128|LDSM|LDG|SYNCS|BAR)"))
                    for (k = i + 1; k < to; k++) off[k] = 1
            all = count(first, last, ".")
            ldg = count(first, last, "^LDG\\."); copy = count(first, last, "^(LDGSTS|UBLKCP)"); lds = count(first, last, "^LDS")
            bits = count(first, last, "^(LOP3|PRMT|SHF)"); half = count(first, last, "^(HFMA2|HADD2|HMUL2)")
            single = count(first, last, "^(FFMA|FMUL|FADD|FSETP|FMNMX|MUFU)"); mma = count(first, last, "^(HMMA|HGMMA)")
            sync = count(first, last, "^(BAR|SYNCS|LDGDEPBAR|DEPBAR|WARPSYNC|WARPGROUP|BRA|BSYNC|BSSY)")
            # SMs, GHz, TB/s; KB of shared memory and threads of an SM: H200, A100, 4090, T4, B200, 5090
            split("90a 132 1.755 4.3 228 2048,80 108 1.41 1.9 164 2048,89 128 2.52 0.95 100 1536," \
                  "75 40 1.59 0.32 64 1024,100a 148 1.85 8 228 2048,120a 170 2.41 1.79 100 1536", cards, ",")
            for (c in cards) {
                split(cards[c], v, " ")
                if (v[1] != arch) continue
                sms = v[2]; clock = v[3]; memory = v[4]
                while (blocks > 1 && (blocks * int((registers + 7) / 8) * 8 * threads > 65536 || blocks * threads > v[6] ||
                                      blocks * (shared + (arch != 75) * 1024) > v[5] * 1024)) blocks--
            }
            if (!bytes) bytes = mma * (arch == 75 ? 256 : 512)
            issue = bytes * 4 * sms * clock / (all + producer * copying / 8) / 1000
            printf("| %s | %s | %d | %d x %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %.1f | %.0f | %.0f |\n", kernel,
                   arch, registers, blocks, threads, all, ldg, copy, lds, bits, half, single, mma, sync,
                   all - ldg - copy - lds - bits - half - single - mma - sync, issue, blocks * flight / 1024,
                   memory * 650 * 1000 / sms / 1024)
        }' "$B/text"
}

echo "| kernel | sm_ | registers | blocks on an SM x threads | instructions | loads to registers | cp.async, bulk | from shared memory \
| LOP3, PRMT, SHF | HFMA2 | FFMA | mma | waits, branches | others | issue allows, TB/s | KB under way on an SM | KB needed |"
echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
# NAME FAMILY ARCH THREADS BLOCKS BYTES STAGE: by mma.sync from a ring of stages
ring() {
    row "$1" "$2" "$3" "$4" "$5" "$6" $(((stages - 1) * $7)) $((stages * $7)) || bad=1
}

bad=0
for arch in $archs; do
    case $arch in 75) stages=2 ;; 89 | 120a) stages=3 ;; *) stages=4 ;; esac
    # 32 KB of weights a turn of the block, as many under way; x in a ring of 32 KB
    [ $arch = 75 ] || row awq_linear_gemv_bf16 linear_bf16 $arch 256 2 4096 32768 32768 || bad=1
    for kernel in awq_linear_gemv:linear awq_linear8_gemv:linear8 awq_experts4_gemv:experts; do
        row ${kernel%%:*}_f16 ${kernel#*:}_f16 $arch 256 2 4096 32768 32768 || bad=1
    done
    # a step: 4 tiles of k of 64 outputs, 8 KB for 16 warps; parameters and x are under way too
    for t in 8 16 32; do
        ring awq_linear_mma${t}_f16 linear_f16 $arch 512 $([ $t = 32 ] && echo 1 || echo 2) 512 $((4 * (2560 + t * 128)))
    done
    ring awq_experts4_mma16_f16 experts_f16 $arch 256 2 512 $((2 * (2560 + 16 * 128)))
    if [ $arch = 90a ]; then # 1 KB of a warp a turn: two blocks of a tile, or one of two
        for t in 8:10:2 16:9:2 32:14:1 64:11:1; do
            n=${t%%:*} r=${t#*:}
            r=$((${r%:*} * (10240 + n * 128)))
            row awq_linear_wgmma${n}_f16 wgmma_few_f16 $arch 320 ${t##*:} 1024 $r $((1024 + r)) 1 || bad=1
        done
        for t in 128:8 256:5; do
            r=$((${t#*:} * (5120 + ${t%:*} * 128)))
            row awq_linear_wgmma${t%:*}_f16 wgmma_f16 $arch 384 1 1024 $r $((1024 + r)) || bad=1
        done
    else
        ring awq_linear_mma64_f16 linear_f16 $arch 256 2 512 $((2 * (2560 + 64 * 128)))
        ring awq_linear_mma128_f16 linear_f16 $arch 256 1 512 $((2 * 2560 + 128 * 128))
    fi
    # 4 pieces of 16 outputs x 32 inputs of a warp under way, 1 KB each; some compilers make two turns one
    row awq_dense_gemv_f16 dense_f16 $arch 256 2 0 32768 10256 || bad=1
    ring awq_dense_mma16_f16 dense_f16 $arch 256 2 2048 $((2 * (8192 + 16 * 128)))
    ring awq_dense_mma128_f16 dense_f16 $arch 256 1 2048 $((2 * 8192 + 128 * 128))
    # a page of keys and values a warp's turn, the next one under way in its place; two pages of 8 warps, and two more
    row awq_attend_split_128 attention_128 $arch 128 2 16384 65536 65536 || bad=1
    row awq_attend_many_128 attention_128 $arch 256 1 4096 32768 65536 || bad=1
done
exit $bad
