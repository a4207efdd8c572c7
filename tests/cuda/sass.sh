#!/bin/sh
# What the hot kernels are made of: the instructions of one turn of their inner loop by kind, registers, the weights that
# issue alone would let them read, and the bytes that they keep under way, against bandwidth times latency. Needs no GPU:
# NVRTC and nvdisasm, from the toolkit or from Python's package nvidia-cuda-nvdisasm, which is installed to BUILD.
#   sh tests/cuda/sass.sh            a table for sm_90a, sm_80 and sm_89, as tests/bench/RESULTS.md has it
# From the environment: CC, BUILD (folder), PYTHON, NVDISASM (program).
# The inner loop is the backward branch around the most mma, of equals the fewest instructions; where there is no mma,
# around the most loads. What is predicated counts in full. Prints "skipped" where a tool is not here.
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C
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
"$B/compile" -v -a 90a,80,89 -o "$B" linear wgmma wgmma_few dense attention > "$B/log" || { cat "$B/log"; exit 1; }
grep -q ' skipped$' "$B/log" && ! grep -q '0 skipped$' "$B/log" && { cat "$B/log"; exit 0; }

# NAME FAMILY ARCH THREADS BLOCKS: on an SM; BYTES: weights (keys and values) of a turn of a warp; FLIGHT: bytes under way of
# a block, from the rings of plan.h and the sources; PRODUCER, of eight warps' turns, 1: one of the loop of others, which
# copies, is issued beside them
row() {
    "$dis" -c "$B/$2.sm_$3.cubin" > "$B/text" || return 1
    registers=$(awk -v k="$1" -v a="sm_$3" '$1 == k { r = $2 } $2 == a && $1 == f { print r; exit }' f="$2" "$B/log")
    awk -v kernel="$1" -v arch="$3" -v threads="$4" -v blocks="$5" -v bytes="$6" -v flight="$7" -v producer="${8:-0}" \
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
            split("90a 132 1.755 4.3,80 108 1.41 1.9,89 128 2.52 0.95", cards, ",")
            for (c in cards) { split(cards[c], v, " "); if (v[1] == arch) { sms = v[2]; clock = v[3]; memory = v[4] } }
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
bad=0
for arch in 90a 80 89; do
    s=$([ $arch = 89 ] && echo 2 || echo 3) # stages under way: STAGES - 1
    # 8 tiles of 512 bytes of weights a lane's turn, as many under way
    row awq_linear_gemv_f16 linear_f16 $arch 256 2 4096 $((8 * 8 * 512)) || bad=1
    # a step: 4 tiles of k of 64 outputs, 8 KB for 16 warps; parameters and x are under way too
    for t in 8 16 32; do
        row awq_linear_mma${t}_f16 linear_f16 $arch 512 $([ $t = 32 ] && echo 1 || echo 2) 512 $((s * 4 * (2560 + t * 128))) || bad=1
    done
    if [ $arch = 90a ]; then # 1 KB of a warp a turn: two blocks of a tile, or one of two
        for t in 8:10:2 16:9:2 32:14:1 64:11:1; do
            n=${t%%:*} stages=${t#*:}
            row awq_linear_wgmma${n}_f16 wgmma_few_f16 $arch 320 ${t##*:} 1024 $((${stages%:*} * (10240 + n * 128))) 1 || bad=1
        done
        row awq_linear_wgmma128_f16 wgmma_f16 $arch 384 1 1024 $((8 * (5120 + 128 * 128))) || bad=1
        row awq_linear_wgmma256_f16 wgmma_f16 $arch 384 1 1024 $((5 * (5120 + 256 * 128))) || bad=1
    else
        row awq_linear_mma64_f16 linear_f16 $arch 256 2 512 $((s * 2 * (2560 + 64 * 128))) || bad=1
        row awq_linear_mma128_f16 linear_f16 $arch 256 1 512 $((s * (2 * 2560 + 128 * 128))) || bad=1
    fi
    # 4 pieces of 16 outputs x 32 inputs a turn, 1 KB each
    row awq_dense_gemv_f16 dense_f16 $arch 256 2 4096 $((8 * 4 * 1024)) || bad=1
    # a page of keys and values a warp's turn, the next one under way
    row awq_attend_split_128 attention_128 $arch 128 2 16384 $((4 * 16384)) || bad=1
done
exit $bad
