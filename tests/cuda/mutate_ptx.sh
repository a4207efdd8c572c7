#!/bin/sh
# What only the PTX of prims.cuh can have wrong, and the tests must notice when they run on it (ptx.h).
#   sh tests/cuda/mutate_ptx.sh COMPILE FOLDER         COMPILE: compile.c, built; FOLDER has kernels_900, rows_900,
#                                                      attention_900 and kernels_750, built with -DAWQ_PTX
#   sh tests/cuda/mutate_ptx.sh COMPILE FOLDER WORD    those whose description contains it
# Each change is applied to a copy of tools/cuda, of which PTX is made; the C++ bodies stay, so the tests without PTX
# know nothing of it. One that changes nothing, or whose PTX is not made, counts as failed.
cd "$(dirname "$0")/../.." || exit 1
compile=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tests=$(cd "$2" && pwd) || exit 1
which=${3:-}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0
mkdir "$tmp/ptx"
"$compile" -a 90a -p "$tmp/ptx" sample > /dev/null
if [ ! -f "$tmp/ptx/sample.ptx" ]; then
    echo "skipped: no PTX without NVRTC"
    echo "0 passed, 0 failed, 1 skipped"
    exit
fi

# DESCRIPTION FAMILY TEST CASES SED [ARCH]
mutant() {
    arch=${6:-90a}
    case $1 in *"$which"*) ;; *) return ;; esac
    rm -rf "$tmp/t" && mkdir -p "$tmp/t/tools" "$tmp/t/ptx"
    cp -r tools/cuda "$tmp/t/tools/"
    sed -i "$5" "$tmp/t/tools/cuda/prims.cuh"
    if cmp -s tools/cuda/prims.cuh "$tmp/t/tools/cuda/prims.cuh"; then
        what="INVALID, changes nothing"
    elif ! (cd "$tmp/t" && "$compile" -a "$arch" -p ptx "$2" > errors); then
        what="INVALID, no PTX: $(grep -m1 error "$tmp/t/errors")"
    elif STOP_AT_FAILURE=1 AWQ_PTX="$tmp/t/ptx" timeout 120 "$tests/$3_${arch%a}0" "$4" > "$tmp/t/out" 2>&1; then
        what=MISSED
    else
        passed=$((passed + 1))
        echo "noticed  $1"
        return
    fi
    failed=$((failed + 1))
    echo "FAILED   $1: $what"
}

# arithmetic
mutant "lop3: operands" linear kernels linear_shapes 's/"lop3.b32 %0, %1, %2, %3, %4/"lop3.b32 %0, %1, %3, %2, %4/'
mutant "lop3: table" linear kernels linear_shapes 's/"n"(TABLE)/"n"(TABLE ^ 0x40)/'
mutant "sub.f16x2: order" linear kernels linear_shapes 's/sub.rn.f16x2 %0, %1, %2/sub.rn.f16x2 %0, %2, %1/'
mutant "fma.f16x2: order" linear kernels linear_shapes 's/fma.rn.f16x2 %0, %1, %2, %3/fma.rn.f16x2 %0, %1, %3, %2/'
mutant "fma.bf16x2: order" linear kernels linear_shapes 's/fma.rn.bf16x2 %0, %1, %2, %3/fma.rn.bf16x2 %0, %1, %3, %2/'
mutant "f16x2 to f32: halves swapped" linear kernels linear_shapes 's/mov.b32 {lo, hi}, %2/mov.b32 {hi, lo}, %2/'
mutant "f32 to f16x2: halves swapped" linear kernels linear_shapes '/cvt.rn.f16x2.f32/s/"f"(hi), "f"(lo)/"f"(lo), "f"(hi)/'
mutant "f32 to f16x2 of sm_75: halves swapped" linear kernels linear_shapes 's/mov.b32 %0, {l, h}/mov.b32 %0, {h, l}/' 75

# tensor cores
mutant "mma: registers of a" linear kernels linear_shapes '/m16n8k16.row.col.f32.f16/s/{%4, %5, %6, %7}/{%4, %6, %5, %7}/'
mutant "mma: registers of b" linear kernels linear_shapes '/m16n8k16.row.col.f32.f16/s/{%8, %9}/{%9, %8}/'
mutant "mma of bf16 with halves" linear kernels linear_shapes 's/f32.bf16.bf16.f32/f32.f16.f16.f32/'
mutant "mma of sm_75: first inputs twice" linear kernels linear_shapes 's/"r"(a\[2\]), "r"(a\[3\]), "r"(b\[1\])/"r"(a[2]), "r"(a[3]), "r"(b[0])/' 75
mutant "ldmatrix: registers" linear kernels linear_shapes '/x4.shared/s/{%0, %1, %2, %3}/{%0, %2, %1, %3}/'
mutant "ldmatrix: not transposed" attention attention decode 's/x4.trans.shared/x4.shared/'
mutant "wgmma: registers of a" wgmma_few kernels "shapes, wgmma" 's/{%" #a0 ", %" #a1 ",/{%" #a1 ", %" #a0 ",/'
mutant "wgmma: adds where it begins" wgmma_few kernels "shapes, wgmma" 's/"n"((int)ADD)/"n"(1)/'
mutant "wgmma: words of the descriptor" wgmma_few kernels "shapes, wgmma" 's/{%" #t ", %" #high "}/{%" #high ", %" #t "}/'
mutant "wgmma: 512 bytes from 8 rows to the next" wgmma_few kernels "shapes, wgmma" 's/"n"((int)WGMMA_TILE_HIGH)/"n"((int)WGMMA_TILE_HIGH - 32)/'
mutant "wgmma: swizzle of 64 bytes" wgmma_few kernels "shapes, wgmma" 's/"n"((int)WGMMA_TILE_HIGH)/"n"((int)(64 | 1u << 31))/'
mutant "wgmma: waits for one group less" wgmma kernels "shapes, wgmma" 's/wgmma.wait_group.sync.aligned %0;" ::"n"(N)/wgmma.wait_group.sync.aligned %0;" ::"n"(N + 1)/'
mutant "wgmma: no fence" wgmma_few kernels "shapes, wgmma" 's/asm volatile("wgmma.fence.sync.aligned;" ::: "memory");//'
mutant "wgmma: no fence after st and cp.async" wgmma_few kernels "shapes, wgmma" 's/asm volatile("fence.proxy.async.shared::cta;" ::: "memory");//'

# copies and barriers
mutant "cp.async: waits for one group less" linear kernels linear_modes 's/cp.async.wait_group %0;" ::"n"(N)/cp.async.wait_group %0;" ::"n"(N + 1)/'
mutant "cp.async: no groups" linear kernels linear_modes 's/asm volatile("cp.async.commit_group;" ::: "memory");//'
mutant "st.shared: words swapped" rows rows norm 's/st.shared.v4.u32 \[%0\], {%1, %2, %3, %4}/st.shared.v4.u32 [%0], {%1, %3, %2, %4}/'
mutant "mbarrier: goes on before its phase is over" wgmma_few kernels "shapes, wgmma" 's/@!done bra again/@done bra again/'
mutant "mbarrier: parity" wgmma_few kernels "shapes, wgmma" 's/"r"(parity)/"r"(parity ^ 1)/'
mutant "mbarrier: no bytes announced" wgmma_few kernels "shapes, wgmma" 's/arrive.expect_tx.shared::cta.b64 _, \[%0\], %1/arrive.shared::cta.b64 _, [%0]/'
mutant "mbarrier: one arrival too many is counted on" wgmma_few kernels "shapes, wgmma" '/mbarrier.init.shared/s/"r"(count)/"r"(count + 1)/'
mutant "mbarrier: copies may not see its init" wgmma_few kernels "shapes, wgmma" 's/asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");//'
mutant "bulk copy: bytes and barrier swapped" wgmma_few kernels "shapes, wgmma" 's/"r"(bytes), "r"(barrier), "l"(policy)/"r"(barrier), "r"(bytes), "l"(policy)/'
mutant "bulk copy: of no lane" wgmma_few kernels "shapes, wgmma" 's/selp.u32 %0, 1, 0, p/selp.u32 %0, 0, 1, p/'
mutant "bar.sync: operands swapped" wgmma_few kernels "shapes, wgmma" 's/bar.sync %0, %1/bar.sync %1, %0/'
mutant "bar.sync: none" wgmma kernels "modes, wgmma" 's/asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");//'
mutant "kernels before are not waited for" linear kernels linear_shapes 's/asm volatile("griddepcontrol.wait;" ::: "memory");//'

# global memory
mutant "ld.global: words swapped" rows rows norm 's/ld.global.v4.u32 {%0, %1, %2, %3}/ld.global.v4.u32 {%0, %2, %1, %3}/;s/ld.global.v4.f32 {%0, %1, %2, %3}/ld.global.v4.f32 {%1, %0, %2, %3}/'
mutant "atomic_count: by two" linear kernels linear_modes 's/atom.acq_rel.gpu.global.add.u32 %0, \[%1\], 1/atom.acq_rel.gpu.global.add.u32 %0, [%1], 2/'
mutant "atomic_max64: adds" linear kernels linear_shapes 's/red.relaxed.gpu.global.max.u64/red.relaxed.gpu.global.add.u64/'

echo "$passed passed, $failed failed, 0 skipped"
[ $failed = 0 ]
