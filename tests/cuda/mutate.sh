#!/bin/sh
# The tests of the kernels can fail: changes of the kernels' text, each of which they must notice.
#   sh tests/cuda/mutate.sh          a few, under a minute
#   sh tests/cuda/mutate.sh full     all of them, some five minutes
#   sh tests/cuda/mutate.sh WORD     those whose description contains it
# Each is applied to a copy, which is compiled anew; one that changes nothing or does not compile counts as failed. A
# mutant is noticed when its test fails, reports a deadlock or a stray address, or takes more than two minutes. Hand
# picked, so the share that is noticed says nothing about changes that nobody thought of.
cd "$(dirname "$0")/../.." || exit 1
CXX=${CXX:-g++}
flags="-O0 -std=c++17 -w $(grep -qs f16c /proc/cpuinfo && echo -mf16c)"
which=${1:-short}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

# DESCRIPTION FILE TEST SED [short]
mutant() {
    case $which in
        full) ;;
        short) [ "${5:-}" = short ] || return ;;
        *) case $1 in *"$which"*) ;; *) return ;; esac ;;
    esac
    case $2 in # whose test
        rows.cuh|block.cuh|sample.cuh) test=test_rows ;;
        attention.cuh|moe.cuh|quantize.cuh) test=test_${2%.cuh} ;;
        *) test=test_kernels ;;
    esac
    rm -rf "$tmp/t" && mkdir -p "$tmp/t/tools" "$tmp/t/tests"
    cp -r tools/cuda "$tmp/t/tools/" && cp -r tests/cuda "$tmp/t/tests/"
    sed -i "$4" "$tmp/t/tools/cuda/$2"
    if cmp -s "tools/cuda/$2" "$tmp/t/tools/cuda/$2"; then
        what="INVALID, changes nothing"
    elif ! $CXX $flags -o "$tmp/t/run" "$tmp/t/tests/cuda/$test.cpp" 2> "$tmp/t/errors"; then
        what="INVALID, does not compile: $(grep -m1 error "$tmp/t/errors")"
    elif STOP_AT_FAILURE=1 timeout 120 "$tmp/t/run" "$3" > "$tmp/t/out" 2>&1; then
        what=MISSED
    else
        passed=$((passed + 1))
        echo "noticed  $1"
        return
    fi
    failed=$((failed + 1))
    echo "FAILED   $1: $what"
}

# arithmetic of weights
mutant "zero points of outputs g and g + 8 swapped" common.cuh linear_shapes \
    's/make_uint2(__byte_perm(sz_g, 0, 0x3232), __byte_perm(sz_g8, 0, 0x3232) \* 16/make_uint2(__byte_perm(sz_g8, 0, 0x3232), __byte_perm(sz_g8, 0, 0x3232) * 16/' short
mutant "zero point of one half of a pair" common.cuh linear_shapes 's/__byte_perm(sz_g8, 0, 0x3232) \* 16/__byte_perm(sz_g8, 0, 0x3244) * 16/'
mutant "bf16: a nibble twice" common.cuh linear_shapes 's/lop3<0xEA>(q >> 12, low, base)/lop3<0xEA>(q >> 8, low, base)/'
mutant "8 bits, bf16: zero point of 7 bits" common.cuh linear8 's/sz_g8 >> 16 \& 255/sz_g8 >> 16 \& 127/'
mutant "8 bits, f16: bytes swapped" common.cuh linear8 's/__byte_perm(hi, exponent, 0x4342)/__byte_perm(hi, exponent, 0x4243)/'
mutant "one scale for both outputs" common.cuh linear_shapes 's/scale\[m\]\[j & 1\]/scale[m][0]/'
mutant "second group of a tile is the first" common.cuh linear_shapes 's/fine ? sz_half : 0/0/'
mutant "second half of a tile with the first group, gemv" common.cuh linear_shapes 's/scale_f32(s\[i\]\[half\].x)/scale_f32(s[i][0].x)/'
mutant "the group's sum is kept" common.cuh linear_shapes 's/ from = 0;/ ;/'
mutant "group of a tile" common.cuh linear_shapes 's/\* sz_factor >> 20/* sz_factor >> 21/'

# one to four rows
mutant "gemv waits for one tile less" common.cuh linear_modes 's/copy_wait<GEMV_DEPTH - 1>/copy_wait<GEMV_DEPTH>/' short
mutant "gemv: lanes do not wait for each other's copies" common.cuh "linear_modes" \
    '/copy_wait<GEMV_DEPTH - 1>/{n;s/__syncwarp();//}'
mutant "gemv: x refilled while it is read" common.cuh linear_modes 's/__syncwarp(); \/\/ x of this tile has been read//'
mutant "gemv: sums over the ring" common.cuh linear_modes '/u32 sums = smem_address(smem) + 16;/{n;s/__syncthreads();//}'
mutant "gemv: sums read too early" common.cuh linear_modes '/sums_put<16>/{n;s/__syncthreads();//}'
mutant "gemv: rows of x swapped" common.cuh linear_shapes 's/(lane & 7) < rows ? lane & 7 : 0/(lane \& 7) < rows ? (lane \& 7) ^ 1 : 0/'

# some rows, many rows
mutant "mma waits for one step less" common.cuh linear_modes 's/copy_wait<STAGES - 2>/copy_wait<STAGES - 1>/' short
mutant "mma: no barrier in the loop" common.cuh linear_modes 's/__syncthreads(); \/\/ this stage is here for all.*//'
mutant "mma: stage refilled while it is read" common.cuh linear_modes \
    's/__syncthreads(); \/\/ this stage is here for all.*//; s/if (wk < left) {/__syncthreads(); &/'
mutant "mma: x fragment of the wrong half" common.cuh linear_shapes 's/lane >> 3 : lane >> 3 & 1/lane >> 3 : lane >> 4 \& 1/'
mutant "mma8: x of kk twice" common.cuh linear_shapes 's/b\[NT == 1 ? kk % 2 : n\]/b[NT == 1 ? 0 : n]/'
mutant "pairs of outputs stored wherever they begin" common.cuh linear_shapes 's/both && !((u64)y & 7)/both \&\& !(p.y_stride \& 1)/'
mutant "rows past the last one are read" common.cuh linear_shapes 's/min(row0 + i \/ 8 % S::ROWS, p.rows - 1)/row0 + i \/ 8 % S::ROWS/'
mutant "outputs past the last one are read" common.cuh linear_many_rows 's/min(w_block \* NB + b, blocks - 1)/w_block * NB + b/'
mutant "a group of warps is not added" common.cuh linear_shapes 's/k < PARTS; k++/k < (PARTS > 1 ? PARTS - 1 : 1); k++/'
mutant "sums of rows swapped" common.cuh linear_shapes 's/sts_f32(at, d\[0\]), sts_f32(at + (OUTS + 4) \* 4, d\[1\])/sts_f32(at, d[1]), sts_f32(at + (OUTS + 4) * 4, d[0])/'

# sums of blocks, results
mutant "the counter is left" common.cuh linear_modes 's/if (thread == 0) store_global(p.counters + tile, 0u);//' short
mutant "the last but one adds" common.cuh linear_modes 's/!= (u32)p.splits - 1) return/!= (u32)p.splits - 2) return/'
mutant "one block's sum is added for all" common.cuh linear_modes 's/(all + (size_t)s \* ROWS \* OUTS)/(all + (size_t)split * ROWS * OUTS)/'
mutant "tiles share a counter" common.cuh linear_modes 's/(w_block \* gridDim.x + x_block) \* WT + pass/x_block * WT + pass/'
mutant "an output too many" common.cuh linear_shapes 's/const int both = out + 1 < p.n;/const int both = out + 1 <= p.n;/'
mutant "bias of the output before" common.cuh linear_shapes 's/load_constant(p.bias + out + 1)/load_constant(p.bias + out)/'
mutant "y is overwritten, not added to" common.cuh linear_shapes 's/v.y += load_fresh((const float \*)y + 1)/v.y += 0/'
mutant "best: the last of equals" common.cuh linear_shapes 's/(0xffffffffu - (u32)out)/(u32)out/'
mutant "best: negative outputs" common.cuh linear_shapes 's/bits >> 31 ? 0xffffffffu : 0x80000000u/0x80000000u/'

# dense
mutant "dense: tile in the wrong order" common.cuh dense 's/x_chunk(0, chunk \/ 8, chunk % 8)/x_chunk(0, chunk \/ 8, chunk % 8 ^ 1)/'
mutant "dense: outputs past the last one are read" common.cuh dense 's/min(block \* 64 + chunk \/ 8, p.n - 1)/(block * 64 + chunk \/ 8)/'
mutant "dense: halves of x swapped" dense.cuh dense 's/b_hi\[2\] = {b\[i\].z, b\[i\].w}/b_hi[2] = {b[i].w, b[i].z}/'
mutant "dense: sums read too early" dense.cuh dense '/sums_put<16>/{n;s/__syncthreads();//}'

# wgmma
W=warpgroup.cuh
mutant "wgmma: wrong parity, full" $W wgmma 's/mbarrier_wait(full, phase)/mbarrier_wait(full, phase ^ 1)/'
mutant "wgmma: wrong parity, empty" $W wgmma 's/u32 phase = 1;/u32 phase = 0;/'
mutant "wgmma: bytes not announced" $W wgmma 's/blocks \* (2048 + 256 \* (1 + fine))/blocks * 2048/'
mutant "wgmma: x announced too early" $W wgmma 's/copy_wait<WG::LAG>/copy_wait<WG::LAG + 1>/'
mutant "wgmma: stages never freed" $W wgmma 's/if (lane == 0) mbarrier_arrive(empty)/if (lane == 99) mbarrier_arrive(empty)/'
mutant "wgmma: stages freed a tile too early" $W wgmma 's/empty = full + WG::STAGES \* 8;/empty = full + WG::STAGES * 8 + 8;/'
mutant "wgmma: weights changed while they are read" $W wgmma 's/wgmma_wait<1>/wgmma_wait<2>/' short
mutant "wgmma: one set of weights" $W wgmma 's/load_a(set ^ 1, stage, next)/load_a(set, stage, next)/'
mutant "wgmma: sums read too early" $W wgmma 's/if (!WG::EXACT) wgmma_wait<0>();//'
mutant "wgmma: sums of a block read too early" $W wgmma 's/^            wgmma_wait<0>();//' short
mutant "wgmma: sums of the block before are kept" $W wgmma 's/!WG::EXACT>(d, a\[set\]\[0\]/true>(d, a[set][0]/'
mutant "wgmma: scale of the other set" $W wgmma 's/fused(scale\[set\]/fused(scale[set ^ 1]/'
mutant "wgmma: sums over the other warpgroup's tiles" $W wgmma 's/named_barrier(1, 256);//'
mutant "wgmma: step along k" $W wgmma 's/tile + 2 \* kk/tile + kk/'
mutant "wgmma: last tiles not announced" $W wgmma 's/max(tiles - WG::LAG, 0)/max(tiles - WG::LAG + 1, 0)/'
mutant "wgmma: x of one warp, rows 4 to 7" $W wgmma 's/(j \* ROWS & 4) << 4/0/'
mutant "wgmma: weights of the first block" $W wgmma 's/(u32)(b \* p.k_tiles)/0 * (u32)(b * p.k_tiles)/'
mutant "wgmma: parameters of the first block" $W wgmma 's/stage + sz_at + m \* 256/stage + sz_at/'
mutant "wgmma: sums of the first block" $W wgmma 's/sums + m \* S::BYTES/sums/'
mutant "wgmma: swizzle" common.cuh wgmma 's/(chunk ^ (row & 7)) << 4/(chunk ^ (row \& 3)) << 4/'
mutant "wgmma: second group of a tile" $W wgmma 's/WG::OUTS \* 4, sz + p.n_pad/WG::OUTS * 4, sz/'

# repacking
mutant "repack: gptq zero points as they are" repack.cuh repack 's/(z + 1) & /z \& /' short
mutant "repack: order of gemm" repack.cuh repack 's/(out & 1) \* 4 + (out & 7) \/ 2/out \& 7/'
mutant "repack: order of the block" repack.cuh repack 's/8 \* later + next)/8 * next + later)/'
mutant "repack: groups of the file" repack.cuh repack 's/(int)blockIdx.y \* p.group \/ p.file_group/(int)blockIdx.y/'
mutant "repack: padding has a scale" repack.cuh repack 's/out < p.n && (int)blockIdx.y \* p.group < p.k/out < p.n/'
mutant "repack: what is there is lost" repack.cuh repack 's/p.skip \&\& blockIdx.y == 0/false/'
mutant "repack: rows of the file" repack.cuh repack 's/    out += p.first;//'
mutant "repack: native, half of a chunk" repack.cuh repack 's/p.bits == 4 ? p.chunk \/ 2 : p.chunk;/p.chunk;/'
mutant "repack: a code in two words" repack.cuh repack 's/shift + bits > 32/false/' short
mutant "repack: gemv_fast, its words" repack.cuh repack 's/(in \& 32) \/ 4/(in \& 32) \/ 8/'
mutant "repack: gemv_fast, a zero point of 0.7" repack.cuh repack 's/ == stored ? (u32)z : 16/ ? (u32)z : 16/'
mutant "repack: marlin, its scales" repack.cuh repack 's/(v \& 6) \* 4/(v \& 6) * 2/'
mutant "repack: sum without places" repack.cuh repack_sum 's/word ^ place \*/word ^ 0 \* place */'

# rows
mutant "norm: two sums in one place" rows.cuh norm 's/sums + 2 \* BLOCK_SUM/sums/' short
mutant "norm: what rounding takes, of another number" rows.cuh norm 's/v.y - a.y, v.z - b.x/v.y - a.x, v.z - b.x/'
mutant "norm: mean stays" rows.cuh norm 's/(v.y - m.x, m.y)/(v.y, m.y)/'
mutant "norm: residual scale of one in four" rows.cuh norm 's/exact_mul_add(o.z, p.residual_scale, v.z)/exact_mul_add(o.z, 1, v.z)/'
mutant "norm: padding is not written" rows.cuh norm 's/i < padded(n); i += step/i < n; i += step/'
mutant "norm: the last mark wins" rows.cuh norm 's/ \&\& !load_fresh(p.bad + row)//'
mutant "norm: one in four is not checked" rows.cuh norm_flags 's/!is_finite(v.x) ||//'
mutant "norm: row of the block, not of the list" rows.cuh norm 's/p.rows ? load_fresh(p.rows + blockIdx.x) : (int)blockIdx.x/(int)blockIdx.x/'
mutant "norm: f16 overflows" block.cuh norm_range 's/x > 65504.0f ? 65504.0f : //'
mutant "a sum leaves out a warp" block.cuh norm 's/lane < warps ? lds/lane < warps - 1 ? lds/'
mutant "exp without its last term" block.cuh exact_exp 's/p = exact_mul_add(p, r, 5.0000001201e-1f);//'
mutant "embed: 8 bits, outputs g and g + 8" rows.cuh embed 's/(r >> 3) \* 16/0/'
mutant "embed: 8 bits, next input" rows.cuh embed 's/(k \& 1) \* 8) \& 255/(k \& 1) * 16) \& 255/'
mutant "place: rope turns backwards" rows.cuh place 's/-__fmul_rn(y, sin_)/__fmul_rn(y, sin_)/'
mutant "place: rope of the other table" rows.cuh place 's/(size_t)row \* 2 + p.rope_table/(size_t)row * 2/'
mutant "place: rope from the first element on" rows.cuh place 's/head + (p.rope_first + /head + (/'
mutant "place: norm after rope before it" rows.cuh place 's/p.qk_norm == QK_HEAD)/p.qk_norm == QK_AFTER)/'
mutant "place: a head's norm begins before the head is there" rows.cuh place '/sts_f32x4(head + i \* 4, x);/{n;n;s/__syncwarp();//}' short
mutant "place: values not clipped" rows.cuh place 's/make_float4(clipped(x.x, p.clip), clipped(x.y, p.clip), clipped(x.z, p.clip),$/make_float4(x.x, clipped(x.y, p.clip), clipped(x.z, p.clip),/'
mutant "place: page of the next tokens" rows.cuh place 's/page_stride + pos \/ PAGE/page_stride + (pos + 1) \/ PAGE/'
mutant "place: a sequence that left" rows.cuh place 's/if (pos < 0) return;/if (pos < -9) return;/'
mutant "act: limit of up on one side" rows.cuh act 's/u < -p.limit ? -p.limit : u/u/'
mutant "act: rows beyond the slots" rows.cuh act 's/row >= load_fresh(p.count)/row > load_fresh(p.count)/'
mutant "logits: the highest of equals" rows.cuh logits 's/(u32)~index/(u32)index/; s/(int)~(u32)best/(int)(u32)best/' short
mutant "logits: -0 below 0" block.cuh logits 's/x + 0.0f/x/'
mutant "logits: counter is not reset" rows.cuh logits 's/store_global(p.counters + row, 0u)/(void)0/'
mutant "logits: the last block but one" rows.cuh logits 's/(u32)parts - 1/(u32)parts - 2/'

mutant "logits: NaN is the worst" rows.cuh logits 's/is_finite(v\[k\]) ? logit_key(v\[k\], i + k) : ~0ull/is_finite(v[k]) ? logit_key(v[k], i + k) : 0/'

mutant "top: the best one again" sample.cuh top 's/v < limit/v <= limit/' short
mutant "top: one maximum over the last" sample.cuh top 's/memory + (i \& 1) \* 256/memory/'
mutant "top: the last block but one" sample.cuh top 's/(u32)parts - 1/(u32)parts - 2/'
mutant "top: Inf is not reported" sample.cuh top 's/if (!is_finite(load_fresh(x + i))) bad = 1;//'

# attention
mutant "attention: one key more in the window" attention.cuh window 's/behind >= window/behind > window/' short
mutant "attention: the next key is seen" attention.cuh prefill 's/behind < 0 ||/behind < -1 ||/'
mutant "attention: whole pages are not masked" attention.cuh window 's/ || a >= window || b >= window//'
mutant "attention: values behind the last token" attention.cuh decode 's/if (j >= tokens) sts128(at, make_uint4(0, 0, 0, 0));//; s/return j < tokens \&\&/return/'
mutant "attention: keys beyond k_dim" attention.cuh decode 's/c < K \* 4; c += threads/c < 0; c += threads/'
mutant "attention: sums keep their scale" attention.cuh decode 's/w.o\[n\]\[2 \* r + 1\] \*= keep;/w.o[n][2 * r + 1] *= 1;/'
mutant "attention: weights keep their scale" attention.cuh decode 's/fused(w.sum\[r\], keep, sum)/w.sum[r] + sum/'
mutant "attention: order of keys" attention.cuh decode 's/((chunk ^ (row >> 1)) << 4)/((chunk ^ (row >> 2)) << 4)/'
mutant "attention: order of values" attention.cuh decode 's/((2 \* n + chunk) ^ row)/((2 * n + chunk) ^ (row \& 3))/'
mutant "attention: queries in shared memory" attention.cuh decode 's/((lane >> 4) ^ (lane & 7)) << 4/(lane >> 4) << 4/'
mutant "attention: cap" attention.cuh decode 's/cap - 2 \* cap/cap - cap/'
mutant "attention: sink in the wrong base" attention.cuh decode 's/load_constant(p.sink + head) \* LOG2_E/load_constant(p.sink + head)/'
mutant "attention: sink of the other head" attention.cuh decode 's/total_weight(p, sum, m, q.head)/total_weight(p, sum, m, 0)/'
mutant "attention: layer" attention.cuh decode 's/s.at = p.cache_at + /s.at = /'
mutant "split: keys are not waited for" attention.cuh decode '/here = load_fresh(s.page + next);/{n;s/copy_wait<1>/copy_wait<2>/}' short
mutant "split: keys refilled while they are read" attention.cuh modes 's/__syncwarp(); \/\/ keys have been read//'
mutant "split: values refilled while they are read" attention.cuh modes '/page_values(w, values, x);/{n;s/__syncwarp();//}'
mutant "split: values are not waited for" attention.cuh modes '/soften<4>/{n;s/copy_wait<1>();//}'
mutant "split: parts read too early" attention.cuh decode '/keys + (S::SUM + g + 8/{n;n;n;s/__syncthreads();//}'
mutant "split: counter is not reset" attention.cuh decode 's/store_global(p.counters + block, 0u)/(void)0/'
mutant "split: the last block but one" attention.cuh decode 's/(u32)splits - 1/(u32)splits - 2/'
mutant "split: cut where the window begins" attention.cuh same_bits 's/split0 = page0 \/ p.split_pages/split0 = 0 * page0/'
mutant "split: pages by turns from the first one" attention.cuh same_bits 's/begin + (warp - begin % warps + warps) % warps/begin + warp/' short
mutant "many: one barrier a step less" attention.cuh modes '/copy_wait<0>();/{n;s/__syncthreads();//}'
mutant "many: copies are not waited for" attention.cuh modes 's/copy_wait<0>();/copy_wait<1>();/'
mutant "many: the next step into this one's buffers" attention.cuh prefill 's/u32 pages = all + (step & 1)/u32 pages = all + ((step + 1) \& 1)/'
mutant "many: the diagonal's step is left out" attention.cuh prefill 's/key > to ||/key + STEP > to ||/'
mutant "many: a step of the window is left out" attention.cuh prefill 's/key + STEP <= from/key <= from/'

# experts
mutant "route: the highest of equals" moe.cuh route 's/v == best && i < at/v == best \&\& i > at/' short
mutant "route: sum not in order" moe.cuh route 's/for (int i = 0; i < n; i++) sum = __fadd_rn(sum, lds_f32(x + i \* 4));/for (int i = n - 1; i >= 0; i--) sum = __fadd_rn(sum, lds_f32(x + i * 4));/'
mutant "route: groups by their best expert" moe.cuh route 's/p.score == SCORE_SIGMOID ? __fadd_rn(first, second) : first/first/'
mutant "route: an expert twice" moe.cuh route 's/sts_f32(choice + e \* 4, MINUS_INFINITY);//'
mutant "route: bias weighs" moe.cuh route 's/lds_f32(score + e \* 4)/lds_f32(choice + e * 4)/'
mutant "route: a choice before the last one is struck out" moe.cuh route '/sts_f32(choice + e \* 4, MINUS_INFINITY);/{n;n;s/__syncwarp();//}'
mutant "route: weights not scaled" moe.cuh route 's/, p.routed_scale));/, 1));/'
mutant "slots: a pick counts itself" moe.cuh slots 's/(1u << lane) - 1/(2u << lane) - 1/' short
mutant "slots: those that left are counted" moe.cuh slots 's/pick\[k\] >= 0 && pick\[k\] < e/pick[k] < e/'
mutant "slots: row of a slot" moe.cuh slots 's/i \/ p.top/i/'
mutant "gather: slots beyond the last one" moe.cuh combine 's/if (s >= load_fresh(p.count)) return;//'
mutant "combine: rows that left" moe.cuh combine 's/if (s < 0) continue;//'
mutant "combine: the shared expert is not gated" moe.cuh combine 's/if (p.shared_gate)/if (0)/'

mutant "experts: tiles of those before" common.cuh experts 's/before += __shfl_sync(~0u, to, 31);//' short
mutant "experts: the next one's weights" common.cuh experts 's/__ffs((int)beyond) - 1/__ffs((int)beyond) \& 31/'
mutant "experts: rows of x begin with the first slot" common.cuh experts 's/l.x += (size_t)row \* l.x_stride;//'
mutant "experts: tiles beyond the last one" common.cuh experts 's/before + to > tile/before + to >= tile/'
# quantizing
mutant "split: the rest is not rounded's" quantize.cuh split 's/f32_to_bf16x2(a - f.x, b - f.y)/f32_to_bf16x2(a - f.x, b - f.x)/'
mutant "split: weights of other rows" quantize.cuh split 's/load_fresh(p.weight + row + r)/load_fresh(p.weight + r)/'
mutant "split: read before all has come" quantize.cuh split '/sts_f32(tile/{n;n;s/__syncthreads();//}' short
mutant "candidate: half away from zero" quantize.cuh candidate 's/__fadd_rn(__fadd_rn(x, m), -m)/floorf(x + 0.5f)/' short
mutant "candidate: range includes zero" quantize.cuh candidate 's/float mn = 3e38f, mx = -3e38f;/float mn = 0, mx = 0;/'
mutant "candidate: zero is not clamped" quantize.cuh candidate 's/s.zero = z < 0 ? 0 : z > s.top ? s.top : z + 0.0f/s.zero = z/'
mutant "candidate: one rounding less" quantize.cuh candidate 's/v = __fmul_rn(v, load_fresh(scales + i))/v = (float)((double)v * load_fresh(scales + i) * 1.0000001)/'
mutant "clips: the last candidate is read" quantize.cuh clips 's/__syncwarp(); \/\/ the last.*//'
mutant "clips: not all are written" quantize.cuh clips '/sts_f32(d + i/{n;n;s/__syncwarp();//}' short
mutant "clips: the last of equals" quantize.cuh clips 's/if (err < best) best/if (err >= best) best/'
mutant "gated: up is not clamped below" quantize.cuh gated 's/u < -p.limit ? -p.limit : u/u/'
mutant "turn: rope of the other table" quantize.cuh turn 's/blockIdx.x \* 2 + p.rope_table/blockIdx.x * 2/'
mutant "turn: heads as pairs" quantize.cuh turn 's/(p.rope_pairs ? 4 : half \* 4)/half * 4/'
mutant "sequence: the next key is seen" quantize.cuh sequence 's/behind >= 0 \&\&/behind >= -1 \&\&/' short
mutant "sequence: one key more in the window" quantize.cuh sequence 's/behind < p.window/behind <= p.window/'
mutant "sequence: a tile of the window is left out" quantize.cuh sequence 's/(first - p.window + 1)/(first - p.window + 33)/'
mutant "sequence: tiles overwritten while they are read" quantize.cuh sequence 's/__syncthreads(); \/\/ the last tile.*//' short
mutant "sequence: sums keep their scale" quantize.cuh sequence 's/fused(sum\[j\], keep, s\[j\])/sum[j] + s[j]/'

echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
