/* emulator.h - runs the CUDA text of tools/cuda on the processor, one block at a time, a fiber per thread

   The kernels are plain C++ apart from the primitives of prims.cuh, which have a second body. So the same text
   that NVRTC compiles is compiled by g++ or clang++ and its answers are compared with a scalar reference.

   How: fibers share an address space, so an operation of a warp (shuffle, mma) or of a warpgroup (wgmma) is a
   meeting: each thread posts a pointer to its operands and the LAST to arrive carries the operation out for
   all.

   What is made to hurt:
     - shared memory is filled with 0xCB or 0xFF (NaN) before every block: what was never written shows
     - asynchronous copies land either at the wait (late: a missing wait reads stale data) or at issue (early: a
       buffer refilled too early destroys what is still read); bulk copies likewise as late or early as possible
     - late wgmma reads its registers and its tile at the wait: operands changed too early, sums read too early
       show
     - six orders in which threads run, one of them drives a warp as far as it gets before the next, two starve
       the last or first warps; blocks run forwards, backwards and in strides
     - shared memory written by one thread and read or written by another with no barrier between (no __syncwarp
       within a warp) is a race, whatever the order of threads made of it; likewise a copy that nobody waited
       for. Not with mbarriers: a kernel that makes one is not checked for races
     - a launch that overlaps (driver.cpp: programmatic dependent launch) and, before pdl_wait, reads what a kernel
       ahead wrote that may not have ended, or writes anything
     - deadlock, exited threads at a barrier, two collectives met by one warp, misaligned or out-of-range shared
       memory, and (once a buffer is registered) global memory outside every buffer: launch() is false, error()
       says

   Not covered: bank conflicts, speed, weak memory order, proxy fences, exact rounding of tensor cores (sums
   here are fp32 in order of k), blocks that wait for each other (blocks run one after another). */
#ifndef AWQ_CUDA_EMULATOR_H
#define AWQ_CUDA_EMULATOR_H
#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>
#ifdef __F16C__
#include <immintrin.h>
#endif
#if !defined(__x86_64__) || defined(_WIN32)
#define AWQ_EMULATOR_UCONTEXT 1
#endif
#ifdef AWQ_EMULATOR_UCONTEXT
#include <ucontext.h>
#endif

#define AWQ_EMULATOR 1

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return uint4{a, b, c, d}; }
static inline uint2 make_uint2(unsigned a, unsigned b) { return uint2{a, b}; }
static inline float2 make_float2(float a, float b) { return float2{a, b}; }
static inline float4 make_float4(float a, float b, float c, float d) { return float4{a, b, c, d}; }

namespace emu
{
// ---- how to run; set before launch()
static int schedule = 0;        // 0 .. 5, see run_block
static bool eager = false;      // when cp.async lands
static bool wrong = false;      // kernels store wrong numbers
static bool tracks = false;     // what kernels write is kept, for launches that overlap
static bool overlaps = false;   // this launch may begin before the kernels ahead have ended
static bool eager_bulk = false; // when bulk copies land and wgmma is carried out
static bool bulk = false;       // after launch(): it had such copies or operations
const int SCHEDULES = 6;

const size_t SHARED_MAX = 232448; // bytes a block of sm_90 may have
const size_t STACK = 128 << 10;   // of a fiber

// a wgmma that was issued; in LAZY mode carried out at the wait
struct Wgmma {
    float *d;
    const unsigned *a;
    uint64_t descriptor;
    int n;
    bool bf16, add, commit; // add: to d; commit: not an operation, the end of a group
};
struct Copy {
    void *to;
    const void *from; // NULL: zeros
    unsigned bytes;
};

struct Fiber {
    dim3 tid;
    int linear = 0;
    bool done = false;
    bool waited = false; // pdl_wait
    unsigned blocks_met = 0, warps_met = 0; // __syncthreads and __syncwarp passed
#ifdef AWQ_EMULATOR_UCONTEXT
    ucontext_t context;
#else
    void *sp = nullptr;
#endif
    char *stack = nullptr;
    std::deque<std::vector<Copy>> copies{1}; // cp.async groups, the last one open
    std::deque<Wgmma> wgmmas;
};

// where threads of a warp, a warpgroup, a barrier or the block meet
struct Meeting {
    void *operand[1024];
    int arrived = 0;
    unsigned long generation = 0;
    const void *kind = nullptr;
};

struct BulkCopy {
    Copy copy;
    unsigned barrier;
};

static std::vector<Fiber> fibers;
static Fiber *current;
static dim3 block_index, block_size, grid_size;
static Meeting warps[32], warpgroups[8], named[16], whole;
static std::vector<BulkCopy> bulk_copies;
static std::function<void()> body;
alignas(1024) static char shared[SHARED_MAX];
static size_t shared_size;     // bytes this launch asked for
static unsigned long progress; // meetings held, barriers flipped: no deadlock while it moves
static std::string fault_text;
static bool faulted;
// 64-byte lines of global memory: of kernels that may not have ended, and of this one
static std::unordered_set<uintptr_t> unfinished;
static std::vector<uintptr_t> written;
static std::map<uintptr_t, size_t> buffers; // of global memory; empty: not checked

static inline const char *error() { return fault_text.c_str(); }

// ---- fibers
#ifdef AWQ_EMULATOR_UCONTEXT
static ucontext_t scheduler;
static inline void yield() { swapcontext(&current->context, &scheduler); }
static inline void resume(Fiber &f)
{
    current = &f;
    swapcontext(&scheduler, &f.context);
}
static inline void fiber_main()
{
    body();
    current->done = true;
    yield();
    abort();
}
static inline void prepare(Fiber &f)
{
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, fiber_main, 0);
}
#else
// System V x86-64: save what a call must keep, swap stacks. swapcontext makes a system call for the signal
// mask.
extern "C" void awq_emulator_switch(void **save, void *to);
asm(".pushsection .text\n"
    ".hidden awq_emulator_switch\n"
    ".globl awq_emulator_switch\n"
    "awq_emulator_switch:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, (%rdi)\n  mov %rsi, %rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n  ret\n"
    ".popsection\n");
static void *scheduler_sp;
static inline void yield() { awq_emulator_switch(&current->sp, scheduler_sp); }
static inline void resume(Fiber &f)
{
    current = &f;
    awq_emulator_switch(&scheduler_sp, f.sp);
}
static void fiber_main()
{
    body();
    current->done = true;
    yield();
    abort();
}
static inline void prepare(Fiber &f)
{
    void **top = (void **)(f.stack + STACK);
    *--top = nullptr; // alignment: a function is entered with rsp % 16 == 8
    *--top = (void *)fiber_main;
    top -= 6;
    memset(top, 0, 6 * sizeof *top);
    f.sp = top;
}
#endif

// The launch fails; a fiber that calls this never runs again.
static inline void fault(const char *format, ...)
{
    char text[400], where[120];
    va_list args;
    if (faulted) return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(where, sizeof where, " (block %u,%u,%u thread %d)", block_index.x, block_index.y, block_index.z,
             current ? current->linear : -1);
    fault_text = std::string(text) + where;
    faulted = true;
}
static inline void stop_if_faulted()
{
    while (faulted) yield();
}

// ---- memory, checked
enum Access { NO_ACCESS, READ, WRITE, COPY }; // COPY: cp.async, a write under way until its thread waits

// the last write and read of each 4 bytes: by whom, and how many barriers the thread had passed
struct Trace {
    int thread = -1; // -1 nobody, -2 several of the warp
    int warp = -1;   // -2: of several warps
    unsigned blocks_met = 0, warps_met = 0;
};
static std::vector<Trace> writes, reads;
static bool race_checks;

static inline bool ordered(const Trace &before, int thread)
{
    if (before.thread == -1 || (before.thread >= 0 && before.thread == thread)) return true;
    if (current->blocks_met > before.blocks_met) return true;
    return before.warp == current->linear / 32 && current->warps_met > before.warps_met;
}
// thread -2: the warp, together
static inline void trace(unsigned address, unsigned bytes, Access access, int thread)
{
    for (unsigned i = address / 4; i < (address + bytes + 3) / 4 && race_checks; i++) {
        if (!ordered(writes[i], thread))
            fault("race: shared memory at %u was written by thread %d, no barrier since", i * 4,
                  writes[i].thread);
        if (access != READ && !ordered(reads[i], thread))
            fault("race: shared memory at %u was read by thread %d, no barrier since", i * 4, reads[i].thread);
        Trace t;
        t.thread = thread, t.warp = current->linear / 32;
        t.blocks_met = current->blocks_met, t.warps_met = current->warps_met;
        if (access == READ) {
            Trace &old = reads[i];
            if (!ordered(old, thread)) { // several readers: a write must come after all of them
                if (old.warp != t.warp) t.warp = -2;
                if (old.thread != t.thread) t.thread = -2;
            }
            old = t;
        } else {
            if (access == COPY) t.thread = -2, t.warp = -2, t.blocks_met = ~0u; // before no access
            writes[i] = t;
            reads[i] = Trace();
        }
    }
    stop_if_faulted();
}
// a copy has been waited for: a write of this thread, now
static inline void trace_landed(const void *to, unsigned bytes)
{
    unsigned address = (unsigned)((const char *)to - shared);
    for (unsigned i = address / 4; i < (address + bytes) / 4 && race_checks; i++) {
        writes[i].thread = current->linear, writes[i].warp = current->linear / 32;
        writes[i].blocks_met = current->blocks_met, writes[i].warps_met = current->warps_met;
    }
}
static inline void *shared_at(unsigned address, unsigned bytes, Access access = NO_ACCESS, int thread = -1)
{
    if (address % (bytes < 16 ? bytes : 16))
        fault("shared address %u is not aligned to %u bytes", address, bytes);
    else if ((size_t)address + bytes > shared_size)
        fault("shared memory: %u bytes at %u, the block has %zu", bytes, address, shared_size);
    stop_if_faulted();
    if (access) trace(address, bytes, access, thread == -1 ? current->linear : thread);
    return shared + address;
}
static inline void check_global(const void *p, size_t bytes, size_t align)
{
    uintptr_t a = (uintptr_t)p;
    if (align && a % align) fault("global address %p is not aligned to %zu bytes", p, align);
    else if (!buffers.empty()) {
        auto b = buffers.upper_bound(a);
        if (b == buffers.begin() || (--b, a + bytes > b->first + b->second))
            fault("global memory: %zu bytes at %p are outside every buffer", bytes, p);
    }
    if (overlaps && !current->waited)
        for (uintptr_t line = a / 64; line <= (a + bytes - 1) / 64; line++)
            if (unfinished.count(line)) fault("%p is read before pdl_wait, a kernel ahead may be writing it", p);
    stop_if_faulted();
}
static inline void check_store(const void *p, size_t bytes, size_t align)
{
    if (overlaps && !current->waited) fault("%p is written before pdl_wait", p);
    check_global(p, bytes, align);
    for (uintptr_t line = (uintptr_t)p / 64; tracks && line <= ((uintptr_t)p + bytes - 1) / 64; line++)
        if (written.empty() || written.back() != line) written.push_back(line);
}
static inline void add_buffer(const void *p, size_t bytes) { buffers[(uintptr_t)p] = bytes; }
static inline void remove_buffer(const void *p) { buffers.erase((uintptr_t)p); }

// ---- meetings
template <class Operation>
static inline void meet(Meeting &m, int id, int need, void *operand, Operation operation)
{
    static char kind; // one address per instantiation, that is per operation
    unsigned long generation = m.generation;
    if (m.arrived && m.kind != &kind) fault("threads meet in different collective operations");
    stop_if_faulted();
    m.kind = &kind;
    m.operand[id] = operand;
    if (++m.arrived >= need) {
        operation(m.operand);
        m.arrived = 0;
        m.generation++;
        progress++;
        stop_if_faulted();
    } else
        while (m.generation == generation) yield();
}
static inline int threads() { return (int)(block_size.x * block_size.y * block_size.z); }
template <class Operation> static inline void warp_meet(void *operand, Operation operation)
{
    int first = current->linear & ~31;
    meet(warps[first / 32], current->linear & 31, std::min(32, threads() - first), operand, operation);
}
template <class Operation> static inline void warpgroup_meet(void *operand, Operation operation)
{
    bulk = true;
    meet(warpgroups[current->linear / 128], current->linear & 127, 128, operand, operation);
}

// ---- numbers
static inline float f16_to_f32(uint16_t h)
{
#ifdef __F16C__
    return _cvtsh_ss(h);
#else
    uint32_t sign = (h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 1023, bits;
    float r;
    if (e == 31) bits = sign | 0x7f800000u | m << 13;
    else if (e) bits = sign | (e + 112) << 23 | m << 13;
    else {
        r = (float)m * 0x1p-24f;
        return sign ? -r : r;
    }
    memcpy(&r, &bits, 4);
    return r;
#endif
}
// to nearest even, from double: a fused multiply-add is rounded once
static inline uint16_t f64_to_f16(double d)
{
    uint16_t s = std::signbit(d) ? 0x8000 : 0;
    int e;
    double a = std::fabs(d), m;
    if (a != a) return s | 0x7e00;
    if (a >= 65520.0) return s | 0x7c00;
    if (a < 0x1p-14) return s | (uint16_t)std::nearbyint(a * 0x1p24);
    m = std::nearbyint(std::frexp(a, &e) * 2048.0);
    return s | (uint16_t)((e + 13) * 1024 + (int)m); // m in 1024 .. 2048 carries into the exponent
}
static inline uint16_t f32_to_f16(float f)
{
#ifdef __F16C__
    return (uint16_t)_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT);
#else
    return f64_to_f16(f);
#endif
}
static inline float bf16_to_f32(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float r;
    memcpy(&r, &bits, 4);
    return r;
}
static inline uint16_t f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (f != f) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
// exact products of two bf16 plus a bf16 fit a double; to odd first, so that the second rounding is harmless
static inline uint16_t f64_to_bf16(double d)
{
    float f = (float)d;
    uint32_t bits;
    if ((double)f != d && f == f) {
        memcpy(&bits, &f, 4);
        if (std::fabs((double)f) > std::fabs(d)) bits--;
        bits |= 1;
        memcpy(&f, &bits, 4);
    }
    return f32_to_bf16(f);
}

// ---- mbarriers: 8 bytes of shared memory
struct Barrier {
    uint16_t pending, count;
    int32_t bytes : 31; // expected and not here yet
    uint32_t phase : 1;
};
static inline void barrier_settle(Barrier *b)
{
    if (b->pending || b->bytes) return;
    b->phase ^= 1;
    b->pending = b->count;
    progress++;
}
static inline void carry_out(const Copy &c)
{
    if (c.from) memcpy(c.to, c.from, c.bytes);
    else memset(c.to, 0, c.bytes);
}
static inline void land(const BulkCopy &b)
{
    Barrier *m = (Barrier *)(shared + b.barrier);
    bulk = true;
    carry_out(b.copy);
    m->bytes -= (int)b.copy.bytes;
    barrier_settle(m);
}

// ---- kernels by name, as a driver launches them
struct Kernel {
    int max_threads;
    std::vector<size_t> sizes;         // bytes of the arguments
    std::function<void(void **)> call; // with pointers to the arguments
};
static inline std::map<std::string, Kernel> &kernels()
{
    static std::map<std::string, Kernel> all;
    return all;
}
template <class... A, size_t... I>
static inline void call_unpacked(void (*kernel)(A...), void **params, std::index_sequence<I...>)
{
    kernel(*(typename std::decay<A>::type *)params[I]...);
}
struct Register {
    template <class... A> Register(const char *name, int max_threads, void (*kernel)(A...))
    {
        kernels()[name] = Kernel{max_threads, {sizeof(typename std::decay<A>::type)...}, [kernel](void **params) {
                                     (void)params;
                                     call_unpacked(kernel, params, std::index_sequence_for<A...>());
                                 }};
    }
};

// ---- launch
static inline void run_once(Fiber &f, int *left)
{
    if (f.done || faulted) return;
    resume(f);
    if (f.done) {
        (*left)--;
        progress++;
    }
}
static inline void run_block()
{
    int n = threads(), left = n;
    for (unsigned round = 0; left && !faulted; round++) {
        unsigned long before = progress;
        if (schedule == 3)
            for (int w = 0; w < n; w += 32) { // one warp as far as it gets
                unsigned long p;
                do {
                    p = progress;
                    for (int i = w; i < std::min(n, w + 32); i++) run_once(fibers[i], &left);
                } while (p != progress && !faulted);
            }
        else if (schedule >= 4) // the first warp that gets anywhere, counted from one end: the others starve
            for (int w = 0; w < n && progress == before && !faulted; w += 32)
                for (int i = w; i < std::min(n, w + 32); i++)
                    run_once(fibers[schedule == 4 ? i : n - 1 - i], &left);
        else
            for (int i = 0; i < n; i++) {
                int stride = n % 97 ? 97 : 101;
                run_once(fibers[schedule == 1   ? n - 1 - i
                                : schedule == 2 ? (int)(((long)i * stride + 13 * round) % n)
                                                : i],
                         &left);
            }
        if (progress == before && left && !faulted) {
            if (!bulk_copies.empty()) { // as late as possible: nobody can go on without one
                land(bulk_copies.front());
                bulk_copies.erase(bulk_copies.begin());
                progress++;
            } else fault("deadlock: %d threads wait", left);
        }
    }
    if (!faulted && !bulk_copies.empty()) fault("the block ended with bulk copies under way");
}
static inline bool launch(dim3 grid, dim3 block, size_t shared_bytes, std::function<void()> call)
{
    static std::vector<char *> &stacks = *new std::vector<char *>; // for leak checkers: not destroyed at exit
    size_t blocks = (size_t)grid.x * grid.y * grid.z, stride = 97;
    int n = (int)(block.x * block.y * block.z);
    faulted = false;
    fault_text.clear();
    bulk = false;
    current = nullptr;
    grid_size = grid;
    block_size = block;
    block_index = dim3(0, 0, 0);
    shared_size = shared_bytes;
    body = call;
    if (!overlaps) unfinished.clear();
    if (!blocks || n < 1 || n > 1024) fault("a launch of %zu blocks of %d threads", blocks, n);
    else if (n % 32) fault("a block of %d threads: not whole warps", n);
    else if (grid.y > 65535 || grid.z > 65535) fault("grid (%u,%u,%u) is too large", grid.x, grid.y, grid.z);
    else if (shared_bytes > SHARED_MAX) fault("%zu bytes of shared memory", shared_bytes);
    while (blocks && blocks % stride == 0) stride += 2;
    while ((int)stacks.size() < n) stacks.push_back((char *)aligned_alloc(64, STACK));
    for (size_t i = 0; i < blocks && !faulted; i++) {
        size_t b = schedule == 1 ? blocks - 1 - i : schedule == 2 ? (i * stride + 5) % blocks : i;
        block_index =
            dim3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y));
        memset(shared, eager ? 0xFF : 0xCB, shared_bytes); // NaN, or a number
        for (auto *m : {warps, warpgroups, named})
            for (int k = 0; k < (m == warps ? 32 : m == warpgroups ? 8 : 16); k++)
                m[k].arrived = 0, m[k].generation++;
        whole.arrived = 0;
        race_checks = true;
        writes.assign(shared_bytes / 4 + 1, Trace());
        reads.assign(shared_bytes / 4 + 1, Trace());
        bulk_copies.clear();
        fibers.clear();
        fibers.resize(n);
        for (int k = 0; k < n; k++) {
            Fiber &f = fibers[k];
            f.linear = k;
            f.tid = dim3(k % block.x, k / block.x % block.y, k / (block.x * block.y));
            f.stack = stacks[k];
            prepare(f);
        }
        run_block();
    }
    current = nullptr;
    unfinished.insert(written.begin(), written.end());
    written.clear();
    return !faulted;
}
} // namespace emu
#ifdef AWQ_PTX
#include "ptx.h" // the PTX of a kernel instead of its C++, where the environment has AWQ_PTX
#endif
namespace emu
{
static inline bool launch_by_name(const char *name, dim3 grid, dim3 block, size_t shared_bytes, void **params)
{
    auto k = kernels().find(name);
    int n = (int)(block.x * block.y * block.z);
    if (k == kernels().end()) {
        fault_text = std::string("no kernel ") + name;
        return false;
    }
    if (n > k->second.max_threads) {
        fault_text = std::string(name) + ": more threads than its launch bounds";
        return false;
    }
#ifdef AWQ_PTX
    bool ours = false;
    faulted = false;
    bool ok = getenv("AWQ_PTX") && ptx::launch(name, grid, block, shared_bytes, params, k->second.sizes, &ours);
    if (ours) return ok;
#endif
    return launch(grid, block, shared_bytes, [&] { k->second.call(params); });
}
} // namespace emu

// ---- what the compiler of CUDA declares by itself
#define __device__
#define __forceinline__ inline
#define threadIdx (emu::current->tid)
#define blockIdx (emu::block_index)
#define blockDim (emu::block_size)
#define gridDim (emu::grid_size)
static inline void __syncthreads()
{
    emu::meet(emu::whole, emu::current->linear, emu::threads(), nullptr, [](void **) {});
    emu::current->blocks_met++;
}
static inline void __syncwarp()
{
    emu::warp_meet(nullptr, [](void **) {});
    emu::current->warps_met++;
}
namespace emu
{
// lane i gets the value of lane source(i, m)
template <class T, class Source> static inline T shuffle(T v, int m, Source source)
{
    struct Operand {
        T v;
        int m;
        T result;
    } o = {v, m, v};
    static Source from = source;
    warp_meet(&o, [](void **p) {
        for (int i = 0; i < 32; i++) {
            Operand *x = (Operand *)p[i];
            x->result = ((Operand *)p[from(i, x->m)])->v;
        }
    });
    return o.result;
}
} // namespace emu
template <class T> static inline T __shfl_xor_sync(unsigned, T v, int m)
{
    return emu::shuffle(v, m, [](int i, int k) { return i ^ k; });
}
template <class T> static inline T __shfl_sync(unsigned, T v, int m)
{
    return emu::shuffle(v, m, [](int, int k) { return k & 31; });
}
template <class T> static inline T __shfl_down_sync(unsigned, T v, int m)
{
    return emu::shuffle(v, m, [](int i, int k) { return i + k < 32 ? i + k : i; });
}
template <class T> static inline T __shfl_up_sync(unsigned, T v, int m)
{
    return emu::shuffle(v, m, [](int i, int k) { return i >= k ? i - k : i; });
}
static inline unsigned __ballot_sync(unsigned, int v)
{
    struct Operand {
        int v;
        unsigned result;
    } o = {v, 0};
    emu::warp_meet(&o, [](void **p) {
        unsigned bits = 0;
        for (int i = 0; i < 32; i++) bits |= (unsigned)(((Operand *)p[i])->v != 0) << i;
        for (int i = 0; i < 32; i++) ((Operand *)p[i])->result = bits;
    });
    return o.result;
}
static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
// one rounding each, never made part of an fma
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    uint64_t bytes = a | (uint64_t)b << 32;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) r |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return r;
}
static inline int __popc(unsigned u) { return __builtin_popcount(u); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
#ifndef AWQ_EMULATOR_NO_MINMAX
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
#endif
#endif
