/* ptx.h - runs the PTX that NVRTC makes of tools/cuda, for the tests of the kernels

   emulator.h compiles the kernels' text as C++, where each primitive of prims.cuh has a body of its own. So it
   says nothing about the other bodies, which are PTX: order of operands, tables, layouts of fragments and
   descriptors, what the compiler may move. Here is the other half: with AWQ_PTX defined when a test is
   compiled, and in the environment the name of a folder of *.ptx (compile.c -p), emu::launch_by_name parses the
   kernel and interprets it on the same memory, with the same grid and parameters. run.sh does so, mutate_ptx.sh
   shows that it notices.

   Meanings are those of NVIDIA's manual "Parallel Thread Execution ISA", not those of emulator.h: a second
   opinion is worth something only when it is not the first one again. What is not in the tables below is
   refused.

   How: a warp holds 32 values of each register and executes an instruction for all lanes that are at it. Lanes
   that part are groups with a pc each; the group at the lowest pc goes first, and groups that meet are one
   again. Whatever must be met by several lanes (.sync) waits for them. Constants and %tid are registers too.

   What is made to hurt, in the modes of emulator.h:
     - registers are filled with NaN, shared memory with NaN or a number; it begins at 1024, as on sm_90, not
       at 0
     - warps run in six orders; elect.sync takes the first lane or the last one; mbarrier.try_wait answers
       false once before it waits
     - cp.async lands at its thread's wait, bulk copies when no warp can go on, wgmma at its wait; or all of
       them at once (emu::eager, emu::eager_bulk)
     - a register of a wgmma that was not waited for is touched; one changed since the last wgmma.fence is
       given to a wgmma; warps of a warpgroup issue different ones
     - shared memory written by one warp, or by a copy, and touched by another with neither bar.sync nor an
       mbarrier to order them, whatever the order of warps made of it; with mbarriers too, where emulator.h
       does not look
     - what st or cp.async wrote is read by wgmma with no fence.proxy.async of the writer in between
     - a bulk copy at an mbarrier with no fence.mbarrier_init since its init, stores to an mbarrier
     - global memory before griddepcontrol.wait, but for ld.global.nc and what is copied; of these, and of
       ld.global.nc at any time, what a kernel ahead wrote that may not have ended
     - deadlock, part of a warp at an .aligned instruction, misaligned addresses or such outside memory

   Not covered: races within a warp and other weak memory order, bank conflicts, speed, registers of setmaxnreg,
   rounding of tensor cores (sums here are in double, rounded once) and of approximate functions, and everything
   ptxas does after. */
#ifndef AWQ_CUDA_PTX_H
#define AWQ_CUDA_PTX_H
#include <climits>
#include <dirent.h>
#include <memory>

namespace ptx
{
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

const u32 ALL = ~0u;
const u32 SHARED_BASE = 1024;
// generic addresses: global memory is at its own
const u64 SHARED_WINDOW = 1ull << 60, LOCAL_WINDOW = 2ull << 60;
const u64 POLICY = 0x12f0000000000000;  // what createpolicy gives
const u64 GARBAGE = 0xffe1dead7fe1dead; // NaN as f64 and f32
const u32 CANONICAL_NAN = 0x7fffffff;
static u64 buffer_low = 1, buffer_high; // of global memory, that of the last access

struct Fault {
    std::string text;
};
static std::string format(const char *f, ...)
{
    char text[600];
    va_list args;
    va_start(args, f);
    vsnprintf(text, sizeof text, f, args);
    va_end(args);
    return text;
}

// ---- numbers
template <class To, class From> static inline To bits_as(From f)
{
    To t;
    static_assert(sizeof t == sizeof f, "as many bits");
    memcpy(&t, &f, sizeof t);
    return t;
}
// what a register holds, as a type, and back
template <class T> struct Value {
    static T of(u64 r) { return (T)r; }
    static u64 bits(T v) { return (u64)(typename std::make_unsigned<T>::type)v; }
};
template <> struct Value<bool> {
    static bool of(u64 r) { return r & 1; }
    static u64 bits(bool v) { return v; }
};
template <> struct Value<float> {
    static float of(u64 r) { return bits_as<float>((u32)r); }
    static u64 bits(float v) { return v == v ? bits_as<u32>(v) : CANONICAL_NAN; }
};
template <> struct Value<double> {
    static double of(u64 r) { return bits_as<double>(r); }
    static u64 bits(double v) { return bits_as<u64>(v); }
};

static inline float f16_value(u32 h)
{
    static const std::vector<float> &table = *new std::vector<float>([] {
        std::vector<float> t(65536);
        for (int i = 0; i < 65536; i++) {
            int e = i >> 10 & 31, m = i & 1023;
            double a = e == 31 ? (m ? NAN : INFINITY) : e ? std::ldexp(1024 + m, e - 25) : std::ldexp(m, -24);
            t[i] = (float)(i >> 15 ? -a : a);
        }
        return t;
    }());
    return table[h & 0xffff];
}
static inline float bf16_value(u32 h) { return bits_as<float>(h << 16); }
static inline float half_value(bool bf16, u32 h) { return bf16 ? bf16_value(h) : f16_value(h); }

// To the nearest number with FRACTION bits and exponents from LOWEST on, ties to even: f16 is <10, -14,
// 0x7c00>, bf16 <7, -126, 0x7f80>. A double in the normal range is cut by adding just under half a unit to its
// bits.
template <int FRACTION, int LOWEST, int INF> static inline u16 narrow(double v)
{
    const u64 u = bits_as<u64>(v), magnitude = u & ~(1ull << 63);
    const u16 sign = u >> 63 ? 0x8000 : 0;
    const int shift = 52 - FRACTION;
    if (v != v) return 0x7fff;
    if (std::fabs(v) < std::ldexp(1.0, LOWEST))
        return sign | (u16)std::nearbyint(std::fabs(v) * std::ldexp(1.0, FRACTION - LOWEST));
    u64 r = (magnitude + ((1ull << (shift - 1)) - 1) + (magnitude >> shift & 1)) >> shift;
    r -= (u64)(1022 + LOWEST) << FRACTION;
    return sign | (u16)std::min<u64>(r, INF);
}
static inline u16 to_f16(double v) { return narrow<10, -14, 0x7c00>(v); }
static inline u16 to_bf16(double v) { return narrow<7, -126, 0x7f80>(v); }
// a + b, and the last bit set when it is not exact: rounding that to less bits is rounding the exact sum
static inline double add_odd(double a, double b)
{
    const double s = a + b, x = s - a, error = (a - (s - x)) + (b - x);
    if (!(std::fabs(s) <= 1e300) || error == 0) return s;
    u64 u = bits_as<u64>(s);
    if (!(u & 1)) u += (error > 0) == (s > 0) ? 1 : -1;
    return bits_as<double>(u);
}
static inline float flushed(float f) { return std::fabs(f) < 0x1p-126f ? std::copysign(0.0f, f) : f; }
static inline float larger(float a, float b)
{
    if (a != a) return b;
    if (b != b) return a;
    return a == b ? std::signbit(a) ? b : a : a > b ? a : b;
}
static inline float smaller(float a, float b) { return -larger(-a, -b); }
static inline s32 truncated(float f)
{
    return f != f ? 0 : f >= 0x1p31f ? INT32_MAX : f < -0x1p31f ? INT32_MIN : (s32)f;
}
static inline u32 truncated_unsigned(float f) { return !(f > 0) ? 0 : f >= 0x1p32f ? UINT32_MAX : (u32)f; }

// ---- an instruction
struct Warp;
enum Kind : u8 {
    PLAIN,
    BRANCH,
    EXIT,
    BARRIER,  // bar.sync
    MEMBERS,  // .sync with a mask of lanes
    WHOLE,    // .sync.aligned: all lanes of the warp
    TRY_WAIT, // of an mbarrier
};
enum Space : u8 { GENERIC, GLOBAL, SHARED, LOCAL, PARAM };
struct Address {
    int slot = 0;
    s64 offset = 0;
};
struct Ins {
    void (*run)(Warp &, const Ins &, u32 lanes) = nullptr;
    Kind kind = PLAIN;
    Space space = GENERIC;
    bool negated = false; // the guard
    bool constant = false, bf16 = false, sign = false, wgmma = false, mov = false;
    int guard = -1;           // slot of the predicate
    int written = 1;          // of the operands, the first ones
    int bytes = 0, count = 0; // of a memory access: of an element, elements; mma: k; wgmma: n
    int mask = -1;            // which operand is the mask of lanes
    int target = -1;          // pc of a branch
    int line = 0;
    std::vector<int> o;      // slots of operands, vectors laid flat; at least 4
    std::vector<Address> at; // operands in brackets
    std::string text;
};
struct Parameter {
    std::string name;
    size_t at, size;
};
struct Kernel {
    std::string name;
    std::vector<Ins> code;
    std::vector<std::pair<int, u64>> constants; // slot, value
    std::vector<std::pair<int, std::string>> specials;
    std::vector<Parameter> parameters;
    int slots = 1; // 0 is the constant 0
    size_t parameter_bytes = 0, local_bytes = 0;
    int max_threads = 1024;
    bool wgmma = false, waits = false; // griddepcontrol.wait, from sm_90 on
};

// ---- a block under way What is ordered before what. An agent is a warp, or an mbarrier for the bulk copies
// that it counts. A warp's time goes on with each bar.sync and arrival; here is, for each agent, up to which
// of its times something is ordered after it.
typedef std::vector<u32> Seen;
const size_t MOST_AGENTS = 64;
static inline void join(Seen &a, const Seen &b)
{
    for (size_t k = 0; k < a.size(); k++) a[k] = std::max(a[k], b[k]);
}
struct Barrier { // mbarrier
    u32 count, pending;
    s64 bytes; // tx-count
    u32 phase; // those that are over
    bool fenced;
    size_t agent;
    Seen arrived, over;
};
struct Bulk {
    u32 to, bytes, barrier;
    u64 from;
};
struct Named {                  // bar.sync
    int arrived = 0, count = 0; // threads; 0: all of the block
    bool all = false;
    Seen seen = Seen(MOST_AGENTS);
};
struct Block {
    const Kernel *kernel;
    dim3 index, size, grid;
    std::vector<u8> shared, parameters;
    std::vector<u8> unfenced; // of 16 bytes each: written by st or cp.async, no fence.proxy.async since
    std::map<u32, Barrier> barriers;
    u32 barrier_low = ALL, barrier_high = 0;
    std::deque<Bulk> bulk;
    Named named[16];
    std::vector<std::unique_ptr<Warp>> warps;
    // of each 4 bytes of shared memory: who wrote last, when, and when each warp has read since
    std::vector<u8> writer;
    std::vector<u32> write_time, read_time;

    void settle(Barrier &b)
    {
        if (b.pending || b.bytes) return;
        b.phase++;
        b.pending = b.count;
        b.arrived[b.agent] = b.phase; // its copies have landed
        b.over = b.arrived;
    }
    void land(const Bulk &b)
    {
        Barrier &m = barriers.at(b.barrier);
        memcpy(&shared[b.to - SHARED_BASE], (const void *)b.from, b.bytes);
        m.bytes -= b.bytes;
        settle(m);
    }
    void settle_named();
};

struct Group { // lanes at the same pc
    int pc;
    u32 lanes;
    bool stuck;
    int named; // at this bar.sync, or -1
};
struct Copy { // cp.async
    int lane;
    u32 group, to, bytes;
    u64 from;
    bool landed;
};
struct Issued { // wgmma, or the end of a group
    const Ins *ins;
    u64 tile;
    bool add;
};
struct Warp {
    Block &block;
    const Kernel &kernel;
    int index;
    std::vector<u64> registers;
    std::vector<Group> groups;
    u32 live = ALL, waited = 0; // griddepcontrol.wait
    bool told = false;          // that an mbarrier's phase is not over
    std::vector<u8> local;
    std::vector<Copy> copies;
    u32 copy_group[32] = {};
    std::vector<std::pair<u32, int>> unfenced; // 16 bytes of shared memory and the lane that wrote them
    std::deque<Issued> issued;
    std::vector<std::pair<int, u64>> wgmmas; // all of them: line, tile
    std::vector<u8> busy;                    // by slot: of a wgmma that has not been waited for
    std::vector<u64> changed;                // by slot: the time of the last change
    u64 time = 0, fenced = 0;
    Seen seen = Seen(MOST_AGENTS); // of this warp: its own time

    Warp(Block &b, int i) : block(b), kernel(*b.kernel), index(i), registers((size_t)kernel.slots * 32, GARBAGE)
    {
        groups.push_back(Group{0, ALL, false, -1});
        seen[i] = 1;
        local.assign(kernel.local_bytes * 32, 0xCB);
        if (kernel.wgmma) busy.assign(kernel.slots, 0), changed.assign(kernel.slots, 0);
        std::fill(reg(0), reg(0) + 32, 0);
        for (auto &c : kernel.constants) std::fill(reg(c.first), reg(c.first) + 32, c.second);
        for (auto &s : kernel.specials)
            for (int l = 0; l < 32; l++) reg(s.first)[l] = special(s.second, l);
    }
    u64 *reg(int slot) { return &registers[(size_t)slot * 32]; }
    u64 special(const std::string &name, int lane) const
    {
        const u32 t = (u32)index * 32 + lane, x = block.size.x, y = block.size.y;
        const u32 tid[3] = {t % x, t / x % y, t / (x * y)};
        const int axis = name.back() - 'x';
        const std::string head = name.substr(0, name.find('.'));
        auto of = [&](const dim3 &d) { return axis == 0 ? d.x : axis == 1 ? d.y : d.z; };
        if (head == "%tid") return tid[axis];
        if (head == "%ntid") return of(block.size);
        if (head == "%ctaid") return of(block.index);
        if (head == "%nctaid") return of(block.grid);
        if (name == "%laneid") return lane;
        throw Fault{"register " + name + " is not known here"};
    }
    [[noreturn]] void fail(const Ins &i, int lane, const std::string &what) const
    {
        throw Fault{what
                    + format(": %s line %d `%s`, block %u,%u,%u warp %d lane %d", kernel.name.c_str(), i.line,
                             i.text.substr(0, 90).c_str(), block.index.x, block.index.y, block.index.z, index,
                             lane)};
    }
    template <class F> static void each(u32 lanes, F f)
    {
        for (; lanes; lanes &= lanes - 1) f(__builtin_ctz(lanes));
    }
    // d = f(a, b, c), the operands in order
    template <class D, class S, class F> void apply(const Ins &i, u32 lanes, F f)
    {
        const u64 *a = reg(i.o[1]), *b = reg(i.o[2]), *c = reg(i.o[3]);
        u64 *d = reg(i.o[0]), t[32];
        auto one = [&](int l) {
            return Value<D>::bits(f(Value<S>::of(a[l]), Value<S>::of(b[l]), Value<S>::of(c[l])));
        };
        if (lanes == ALL) {
            for (int l = 0; l < 32; l++) t[l] = one(l);
            memcpy(d, t, sizeof t);
        } else each(lanes, [&](int l) { d[l] = one(l); });
    }
    // a pair of halves
    template <class F> void apply_pair(const Ins &i, u32 lanes, F f)
    {
        apply<u32, u32>(i, lanes, [&](u32 a, u32 b, u32 c) {
            return (u32)f(a & 0xffff, b & 0xffff, c & 0xffff) | (u32)f(a >> 16, b >> 16, c >> 16) << 16;
        });
    }

    // ---- memory
    u64 address(const Ins &i, int lane, size_t which = 0)
    {
        const u64 a = reg(i.at[which].slot)[lane] + (u64)i.at[which].offset;
        return i.space == SHARED || i.space == LOCAL || i.space == PARAM ? (u32)a : a;
    }
    u32 in_shared(const Ins &i, int lane, u64 a, size_t bytes) // its place in block.shared
    {
        if (a < SHARED_BASE || a + bytes > SHARED_BASE + block.shared.size())
            fail(i, lane,
                 format("shared memory: %zu bytes at %lld, the block has %zu", bytes,
                        (long long)a - SHARED_BASE, block.shared.size()));
        return (u32)a - SHARED_BASE;
    }
    // Every write since the last write or read of another warp is ordered after it, and reads after writes.
    // Lanes of a warp are not told apart.
    void ordered(const Ins &i, int lane, u32 at, size_t bytes, bool write)
    {
        const size_t n = block.warps.size();
        for (size_t k = at / 4; k < (at + bytes + 3) / 4; k++) {
            if (block.write_time[k] > seen[block.writer[k]])
                fail(i, lane,
                     format("race: shared memory at %zu was written by %s %d, nothing orders it", k * 4,
                            block.writer[k] < n ? "warp" : "mbarrier", block.writer[k]));
            u32 *reads = &block.read_time[k * n];
            for (size_t w = 0; w < n && write; w++) {
                if (reads[w] > seen[w])
                    fail(
                        i, lane,
                        format("race: shared memory at %zu was read by warp %zu, nothing orders it", k * 4, w));
                reads[w] = 0;
            }
            if (write) block.writer[k] = (u8)index, block.write_time[k] = seen[index];
            else reads[index] = seen[index];
        }
    }
    // written at a time that nobody has seen yet
    void under_way(u32 at, size_t bytes, size_t agent, u32 when)
    {
        for (size_t k = at / 4; k < (at + bytes) / 4; k++)
            block.writer[k] = (u8)agent, block.write_time[k] = when;
    }
    void *in_global(const Ins &i, int lane, u64 a, size_t bytes)
    {
        if (a < buffer_low || a + bytes > buffer_high) {
            auto b = emu::buffers.upper_bound(a);
            if (b == emu::buffers.begin() || (--b, a + bytes > b->first + b->second))
                fail(i, lane,
                     format("global memory: %zu bytes at %p are outside every buffer", bytes, (void *)a));
            buffer_low = b->first, buffer_high = b->first + b->second;
        }
        // .nc is for what nobody writes while the kernel is there, which is from before the wait
        for (u64 line = a / 64; emu::overlaps && line <= (a + bytes - 1) / 64; line++)
            if ((i.constant || !(waited >> lane & 1)) && emu::unfinished.count(line))
                fail(i, lane, "a kernel ahead writes what is read before griddepcontrol.wait, or by .nc");
        return (void *)a;
    }
    void *memory(const Ins &i, int lane, bool write)
    {
        const size_t bytes = (size_t)i.bytes * i.count;
        u64 a = address(i, lane);
        Space space = i.space;
        if (a % bytes)
            fail(i, lane, format("address %llx is not aligned to %zu bytes", (unsigned long long)a, bytes));
        if (space == GENERIC) {
            space = a & SHARED_WINDOW ? SHARED : a & LOCAL_WINDOW ? LOCAL : GLOBAL;
            a &= ~(SHARED_WINDOW | LOCAL_WINDOW);
        }
        switch (space) {
        case SHARED: {
            const u32 at = in_shared(i, lane, a, bytes);
            if (write && a + bytes > block.barrier_low && a < block.barrier_high)
                for (auto &b : block.barriers)
                    if (a + bytes > b.first && a < b.first + 8) fail(i, lane, "a store to an mbarrier");
            ordered(i, lane, at, bytes, write);
            if (write && kernel.wgmma) {
                block.unfenced[at / 16] = 1;
                unfenced.push_back(std::make_pair(at / 16, lane));
            }
            return &block.shared[at];
        }
        case LOCAL:
            if (a + bytes > kernel.local_bytes) fail(i, lane, "local memory");
            return &local[lane * kernel.local_bytes + a];
        case PARAM:
            if (a + bytes > block.parameters.size() || write) fail(i, lane, "parameters");
            return &block.parameters[a];
        default:
            if (kernel.waits && !i.constant && !(waited >> lane & 1))
                fail(i, lane, "global memory before griddepcontrol.wait");
            for (u64 line = a / 64; write && emu::tracks && line <= (a + bytes - 1) / 64; line++)
                if (emu::written.empty() || emu::written.back() != line) emu::written.push_back(line);
            return in_global(i, lane, a, bytes);
        }
    }
    Barrier &barrier(const Ins &i, int lane, u64 a)
    {
        in_shared(i, lane, a, 8);
        auto b = block.barriers.find((u32)a);
        if (b == block.barriers.end())
            fail(i, lane, format("no mbarrier was made at %d", (int)a - (int)SHARED_BASE));
        return b->second;
    }
    void arrive(const Ins &i, int lane, Barrier &b)
    {
        if (!b.pending) fail(i, lane, "mbarrier: more arrivals than its count");
        b.pending--;
        join(b.arrived, seen);
        seen[index]++;
        block.settle(b);
    }
    void land(Copy &c)
    {
        memcpy(&block.shared[c.to], (const void *)c.from, c.bytes);
        c.landed = true;
    }
    // cp.async of these lanes, but for the newest `keep` groups
    void wait_copies(u32 lanes, u32 keep)
    {
        size_t n = 0;
        for (Copy &c : copies)
            if ((lanes >> c.lane & 1) && c.group + keep < copy_group[c.lane]) {
                if (!c.landed) land(c);
                under_way(c.to, c.bytes, index, seen[index]);
                if (kernel.wgmma) unfenced.push_back(std::make_pair(c.to / 16, c.lane));
            } else copies[n++] = c;
        copies.resize(n);
    }

    // ---- wgmma
    // D [64][n] += A [64][16] B [16][n]: this warp's 16 rows. A and D as of mma.m16n8k16.
    void multiply_tile(const Issued &q)
    {
        static double B[16][256];
        const Ins &i = *q.ins;
        const int n = i.count, tile = (int)(q.tile >> 62);
        const u64 start = (q.tile & 0x3fff) << 4, leading = (q.tile >> 16 & 0x3fff) << 4,
                  stride = (q.tile >> 32 & 0x3fff) << 4;
        // bytes of a row of 8 rows; the xor of 16-byte chunks with the number of the row repeats after 8 rows
        const int row_bytes = tile == 0 ? 16 : tile == 1 ? 128 : tile == 2 ? 64 : 32;
        if (q.tile >> 49 & 7) fail(i, 0, "wgmma: a base offset");
        if (q.tile & 0x3ff1c000c000c000) fail(i, 0, "wgmma: bits that no field has are set");
        for (int c = 0; c < n; c++)
            for (int k = 0; k < 16; k++) {
                u64 a = start + (u64)(c / 8) * stride + (u64)(c % 8 * row_bytes);
                a += tile == 0 ? (u64)(k / 8) * leading + (u64)(k % 8 * 2) : (u64)k * 2;
                if (tile) a ^= (a >> 7 & (row_bytes / 16 - 1)) << 4;
                const u32 at = in_shared(i, 0, a, 2);
                if (k % 8 == 0) ordered(i, 0, at, 16, false);
                if (block.unfenced[at / 16])
                    fail(i, 0,
                         format("wgmma reads shared memory at %u with no fence.proxy.async since the write",
                                at));
                B[k][c] = half_value(i.bf16, block.shared[at] | block.shared[at + 1] << 8);
            }
        const int *d = i.o.data(), *r = d + n / 2;
        for (int row = 0; row < 16; row++) {
            double sum[256] = {}, A[16];
            const int g = row % 8;
            for (int k = 0; k < 16; k++) {
                const u64 v = reg(r[row / 8 + k / 8 * 2])[g * 4 + k % 8 / 2];
                A[k] = half_value(i.bf16, (u32)v >> (k % 2 * 16));
            }
            for (int c = 0; c < n && q.add; c++)
                sum[c] = Value<float>::of(reg(d[c / 8 * 4 + row / 8 * 2 + c % 2])[g * 4 + c % 8 / 2]);
            for (int k = 0; k < 16; k++)
                for (int c = 0; c < n; c++) sum[c] += A[k] * B[k][c];
            for (int c = 0; c < n; c++)
                reg(d[c / 8 * 4 + row / 8 * 2 + c % 2])[g * 4 + c % 8 / 2] = Value<float>::bits((float)sum[c]);
        }
    }
    void issue(const Ins &i)
    {
        const int d = i.count / 2;
        const u64 *tile = reg(i.o[d + 4]);
        for (int k = 0; k < d + 4; k++) {
            if (changed[i.o[k]] > fenced)
                fail(i, 0, format("operand %d was changed after the last wgmma.fence", k));
            // only sums of the same shape may be under way
            if (busy[i.o[k]] && (k >= d || busy[i.o[k]] != 1)) fail(i, 0, "wgmma: operands of one under way");
        }
        for (int l = 1; l < 32; l++)
            if (tile[l] != tile[0]) fail(i, l, "wgmma: lanes differ in the descriptor");
        for (int k = 0; k < d + 4; k++) busy[i.o[k]] = k < d ? 1 : 2;
        wgmmas.push_back(std::make_pair(i.line, tile[0]));
        issued.push_back(Issued{&i, tile[0], (bool)(reg(i.o[d + 5])[0] & 1)});
        if (emu::eager_bulk) multiply_tile(issued.back());
    }
    void wait_wgmma(int keep)
    {
        int under_way = 0;
        for (auto &q : issued) under_way += !q.ins;
        for (; under_way > keep; issued.pop_front()) {
            if (!issued.front().ins) under_way--;
            else if (!emu::eager_bulk) multiply_tile(issued.front());
        }
        std::fill(busy.begin(), busy.end(), 0);
        for (auto &q : issued)
            for (int k = 0; q.ins && k < q.ins->count / 2 + 4; k++)
                busy[q.ins->o[k]] = k < q.ins->count / 2 ? 1 : 2;
    }

    // ---- running
    bool step(size_t n);
    long run(long most)
    {
        long done = 0;
        for (Group &g : groups) g.stuck = false;
        while (done < most) {
            size_t n = groups.size();
            for (size_t k = 0; k < groups.size(); k++)
                if (!groups[k].stuck && groups[k].named < 0
                    && (n == groups.size() || groups[k].pc < groups[n].pc))
                    n = k;
            if (n == groups.size()) break;
            done += step(n);
        }
        return done;
    }
    u32 lanes_of(const Ins &i, u32 lanes)
    {
        if (i.guard < 0) return lanes;
        const u64 *p = reg(i.guard);
        u32 set = 0;
        for (int l = 0; l < 32; l++) set |= (u32)(p[l] & 1) << l;
        return lanes & (i.negated ? ~set : set);
    }
};

inline void Block::settle_named()
{
    int threads = 0;
    for (auto &w : warps) threads += w->live ? 32 : 0;
    for (int k = 0; k < 16; k++) {
        Named &b = named[k];
        if (!b.arrived || b.arrived < (b.all ? threads : b.count)) continue;
        b.arrived = 0;
        for (auto &w : warps)
            for (Group &g : w->groups)
                if (g.named == k) {
                    g.named = -1, g.pc++;
                    join(w->seen, b.seen);
                    w->seen[w->index]++;
                }
        b.seen.assign(MOST_AGENTS, 0);
    }
}

// One instruction of a group; false when it cannot be executed yet.
inline bool Warp::step(size_t n)
{
    const Ins &i = kernel.code[groups[n].pc];
    const u32 lanes = lanes_of(i, groups[n].lanes);
    auto stuck = [&] {
        groups[n].stuck = true;
        return false;
    };
    if (kernel.wgmma && lanes) {
        time++;
        if (!issued.empty() && !i.wgmma) {
            for (int slot : i.o)
                if (busy[slot]) fail(i, 0, "a register of a wgmma that was not waited for");
            for (auto &a : i.at)
                if (busy[a.slot]) fail(i, 0, "a register of a wgmma that was not waited for");
        }
        for (int k = 0; k < i.written && !i.wgmma; k++) changed[i.o[k]] = time;
    }
    if (!lanes && i.kind != BRANCH) groups[n].pc++;
    else switch (i.kind) {
        case PLAIN:
            i.run(*this, i, lanes);
            groups[n].pc++;
            break;
        case BRANCH:
            if (lanes == groups[n].lanes) groups[n].pc = i.target;
            else {
                groups[n].pc++;
                groups[n].lanes &= ~lanes;
                if (lanes) groups.push_back(Group{i.target, lanes, false, -1});
            }
            break;
        case EXIT:
            live &= ~lanes;
            groups[n].lanes &= ~lanes;
            groups[n].pc++;
            if (!groups[n].lanes) groups.erase(groups.begin() + n);
            for (Group &g : groups) g.stuck = false;
            if (!live) {
                if (!issued.empty()) fail(i, 0, "the warp ended with a wgmma under way");
                block.settle_named();
            }
            return true;
        case BARRIER: {
            const u32 id = (u32)reg(i.o[0])[0], count = (u32)reg(i.o[1])[0];
            if (lanes != live) return stuck();
            each(lanes, [&](int l) {
                if ((u32)reg(i.o[0])[l] != id || (u32)reg(i.o[1])[l] != count)
                    fail(i, l, "lanes at different barriers");
            });
            if (id > 15 || count % 32) fail(i, 0, format("barrier %u of %u threads", id, count));
            Named &b = block.named[id];
            if (b.arrived && (b.all != !count || b.count != (int)count)) fail(i, 0, "barrier: counts differ");
            b.arrived += 32, b.all = !count, b.count = (int)count;
            groups[n].named = (int)id;
            join(b.seen, seen);
            block.settle_named();
            return true;
        }
        case MEMBERS: {
            const u64 *masks = reg(i.o[i.mask]);
            const u32 need = (u32)masks[__builtin_ctz(lanes)];
            u32 here = lanes;
            each(lanes, [&](int l) {
                if ((u32)masks[l] != need) fail(i, l, "lanes differ in the mask");
                if (!(need >> l & 1)) fail(i, l, "the lane is not in its mask");
            });
            if (need & live & ~lanes && i.text.compare(0, 8, "bar.warp") == 0) {
                // lanes may meet at different bar.warp.sync
                auto waits = [&](const Group &g) {
                    const Ins &o = kernel.code[g.pc];
                    return g.named < 0 && o.kind == MEMBERS && o.text.compare(0, 8, "bar.warp") == 0
                           && (u32)reg(o.o[o.mask])[__builtin_ctz(g.lanes)] == need;
                };
                for (const Group &g : groups)
                    if (waits(g)) here |= g.lanes;
                if (need & live & ~here) return stuck();
                for (Group &g : groups)
                    if (waits(g)) g.pc++;
                break;
            }
            if (need & live & ~lanes) return stuck();
            i.run(*this, i, lanes);
            groups[n].pc++;
            break;
        }
        case WHOLE:
            if (lanes != ALL) return stuck();
            i.run(*this, i, lanes);
            groups[n].pc++;
            break;
        case TRY_WAIT: {
            bool any = false;
            each(lanes, [&](int l) {
                // true when the phase of this parity is over: the current one has phase & 1
                const Barrier &b = barrier(i, l, address(i, l));
                const bool over = (b.phase & 1) != (reg(i.o[1])[l] & 1);
                if (over) join(seen, b.over);
                reg(i.o[0])[l] = over;
                any |= over;
            });
            if (!any && told) return stuck();
            told = !any; // it may answer false after some time: so it does, once
            groups[n].pc++;
            break;
        }
        }
    for (size_t a = 0; groups.size() > 1 && a < groups.size(); a++)
        for (size_t b = a + 1; b < groups.size(); b++)
            if (groups[a].pc == groups[b].pc && groups[a].named < 0 && groups[b].named < 0) {
                groups[a].lanes |= groups[b].lanes;
                groups[a].stuck = false;
                groups.erase(groups.begin() + b--);
            }
    return true;
}

// ---- instructions that are a function of up to three operands
struct Simple {
    const char *name;
    void (*run)(Warp &, const Ins &, u32);
};
// clang-format off
#define PTX_OP(name, D, S, expression)                                                  \
    {name, [](Warp &w, const Ins &i, u32 lanes) {                                       \
         w.apply<D, S>(i, lanes, [](S a, S b, S c) -> D {                               \
             (void)a, (void)b, (void)c;                                                 \
             return expression;                                                         \
         });                                                                            \
     }},
#define PTX_PAIR(name, expression)                                                      \
    {name, [](Warp &w, const Ins &i, u32 lanes) {                                       \
         w.apply_pair(i, lanes, [](u32 x, u32 y, u32 z) -> u16 {                        \
             (void)z;                                                                   \
             return expression;                                                         \
         });                                                                            \
     }},
// integers: what does not depend on the sign has a type for each name
#define PTX_INTEGER(bits, S, U)                                        \
    PTX_OP("add.s" #bits, U, U, a + b)                                 \
    PTX_OP("add.u" #bits, U, U, a + b)                                 \
    PTX_OP("sub.s" #bits, U, U, a - b)                                 \
    PTX_OP("sub.u" #bits, U, U, a - b)                                 \
    PTX_OP("mul.lo.s" #bits, U, U, a * b)                              \
    PTX_OP("mul.lo.u" #bits, U, U, a * b)                              \
    PTX_OP("mad.lo.s" #bits, U, U, a * b + c)                          \
    PTX_OP("mad.lo.u" #bits, U, U, a * b + c)                          \
    PTX_OP("and.b" #bits, U, U, a & b)                                 \
    PTX_OP("or.b" #bits, U, U, a | b)                                  \
    PTX_OP("xor.b" #bits, U, U, a ^ b)                                 \
    PTX_OP("not.b" #bits, U, U, ~a)                                    \
    PTX_OP("neg.s" #bits, U, U, 0 - a)                                 \
    PTX_OP("shl.b" #bits, U, U, (u32)b < bits ? a << (u32)b : 0)       \
    PTX_OP("shr.u" #bits, U, U, (u32)b < bits ? a >> (u32)b : 0)       \
    PTX_OP("shr.s" #bits, S, S, a >> std::min((u32)b, (u32)bits - 1))  \
    PTX_OP("min.s" #bits, S, S, std::min(a, b))                        \
    PTX_OP("min.u" #bits, U, U, std::min(a, b))                        \
    PTX_OP("max.s" #bits, S, S, std::max(a, b))                        \
    PTX_OP("max.u" #bits, U, U, std::max(a, b))                        \
    PTX_OP("div.u" #bits, U, U, b ? a / b : ~(U)0)                     \
    PTX_OP("rem.u" #bits, U, U, b ? a % b : a)                         \
    PTX_OP("div.s" #bits, S, S, b && (b != -1) ? a / b : (S)(0 - (U)a))\
    PTX_OP("rem.s" #bits, S, S, b && (b != -1) ? a % b : 0)            \
    PTX_OP("abs.s" #bits, S, S, a < 0 ? (S)(0 - (U)a) : a)             \
    PTX_OP("setp.eq.s" #bits, bool, U, a == b)                         \
    PTX_OP("setp.ne.s" #bits, bool, U, a != b)                         \
    PTX_OP("setp.eq.u" #bits, bool, U, a == b)                         \
    PTX_OP("setp.ne.u" #bits, bool, U, a != b)                         \
    PTX_OP("setp.eq.b" #bits, bool, U, a == b)                         \
    PTX_OP("setp.ne.b" #bits, bool, U, a != b)                         \
    PTX_OP("setp.lt.s" #bits, bool, S, a < b)                          \
    PTX_OP("setp.le.s" #bits, bool, S, a <= b)                         \
    PTX_OP("setp.gt.s" #bits, bool, S, a > b)                          \
    PTX_OP("setp.ge.s" #bits, bool, S, a >= b)                         \
    PTX_OP("setp.lt.u" #bits, bool, U, a < b)                          \
    PTX_OP("setp.le.u" #bits, bool, U, a <= b)                         \
    PTX_OP("setp.gt.u" #bits, bool, U, a > b)                          \
    PTX_OP("setp.ge.u" #bits, bool, U, a >= b)                         \
    PTX_OP("selp.s" #bits, U, u64, (U)(c & 1 ? a : b))                 \
    PTX_OP("selp.u" #bits, U, u64, (U)(c & 1 ? a : b))                 \
    PTX_OP("selp.b" #bits, U, u64, (U)(c & 1 ? a : b))
// lt .. ge: false when one is NaN; with u: true then
#define PTX_COMPARE(name, sign, operation)                                            \
    PTX_OP("setp." name ".f32", bool, float, a == a && b == b && a operation b)       \
    PTX_OP("setp." name "u.f32", bool, float, a != a || b != b || a operation b)

static const Simple simple[] = {
    PTX_INTEGER(16, int16_t, u16)
    PTX_INTEGER(32, s32, u32)
    PTX_INTEGER(64, s64, u64)
    PTX_OP("mul.hi.u32", u32, u32, (u32)((u64)a * b >> 32))
    PTX_OP("mul.hi.s32", s32, s32, (s32)((s64)a * b >> 32))
    PTX_OP("mul.wide.s32", s64, s32, (s64)a * b)
    PTX_OP("mul.wide.u32", u64, u32, (u64)a * b)
    PTX_OP("mul.wide.s16", s32, int16_t, (s32)a * b)
    PTX_OP("mul.wide.u16", u32, u16, (u32)a * b)
    PTX_OP("mad.wide.s32", u64, u64, (u64)((s64)(s32)a * (s32)b) + c)
    PTX_OP("mad.wide.u32", u64, u64, (u64)(u32)a * (u32)b + c)
    PTX_OP("brev.b32", u32, u32, [](u32 v) {
        u32 r = 0;
        for (int k = 0; k < 32; k++) r |= (v >> k & 1) << (31 - k);
        return r;
    }(a))
    PTX_OP("popc.b32", u32, u32, (u32)__builtin_popcount(a))
    PTX_OP("clz.b32", u32, u32, a ? (u32)__builtin_clz(a) : 32)
    PTX_OP("bfind.u32", u32, u32, a ? 31 - (u32)__builtin_clz(a) : ALL)
    PTX_OP("bfind.shiftamt.u32", u32, u32, a ? (u32)__builtin_clz(a) : ALL)
    PTX_OP("and.pred", bool, bool, a && b)
    PTX_OP("or.pred", bool, bool, a || b)
    PTX_OP("xor.pred", bool, bool, a != b)
    PTX_OP("not.pred", bool, bool, !a)
    PTX_OP("mov.pred", bool, u64, a != 0)
    PTX_OP("mov.u16", u64, u64, a)
    PTX_OP("mov.b16", u64, u64, a)
    PTX_OP("mov.u32", u64, u64, a)
    PTX_OP("mov.s32", u64, u64, a)
    PTX_OP("mov.b32", u64, u64, a)
    PTX_OP("mov.f32", u64, u64, a)
    PTX_OP("mov.u64", u64, u64, a)
    PTX_OP("mov.b64", u64, u64, a)
    PTX_OP("mov.f64", u64, u64, a)
    PTX_OP("selp.f32", u32, u64, (u32)(c & 1 ? a : b))
    // addresses
    PTX_OP("cvta.to.global.u64", u64, u64, a)
    PTX_OP("cvta.global.u64", u64, u64, a)
    PTX_OP("cvta.shared.u64", u64, u64, a | SHARED_WINDOW)
    PTX_OP("cvta.to.shared.u64", u64, u64, a & ~SHARED_WINDOW)
    PTX_OP("cvta.local.u64", u64, u64, a | LOCAL_WINDOW)
    PTX_OP("cvta.to.local.u64", u64, u64, a & ~LOCAL_WINDOW)
    PTX_OP("createpolicy.fractional.L2::evict_first.b64", u64, u64, POLICY)
    // conversions
    PTX_OP("cvt.u64.u32", u64, u32, a)
    PTX_OP("cvt.s64.s32", s64, s32, a)
    PTX_OP("cvt.s64.u32", u64, u32, a)
    PTX_OP("cvt.u64.s32", s64, s32, a)
    PTX_OP("cvt.u32.u64", u32, u64, (u32)a)
    PTX_OP("cvt.s32.s64", u32, u64, (u32)a)
    PTX_OP("cvt.u32.u16", u32, u16, a)
    PTX_OP("cvt.s32.s16", s32, int16_t, a)
    PTX_OP("cvt.s32.s8", s32, int8_t, a)
    PTX_OP("cvt.u32.u8", u32, u8, a)
    PTX_OP("cvt.u16.u32", u16, u32, (u16)a)
    PTX_OP("cvt.u64.u16", u64, u16, a)
    PTX_OP("cvt.u16.u64", u16, u64, (u16)a)
    PTX_OP("cvt.rn.f32.s32", float, s32, (float)a)
    PTX_OP("cvt.rn.f32.u32", float, u32, (float)a)
    PTX_OP("cvt.rn.f64.s32", double, s32, (double)a)
    PTX_OP("cvt.rn.f32.f64", float, double, (float)a)
    {"cvt.f64.f32", [](Warp &w, const Ins &i, u32 lanes) {
         w.apply<double, u64>(i, lanes, [](u64 a, u64, u64) { return (double)Value<float>::of(a); });
     }},
    PTX_OP("cvt.rzi.s32.f32", s32, float, truncated(a))
    PTX_OP("cvt.rzi.u32.f32", u32, float, truncated_unsigned(a))
    PTX_OP("cvt.f32.f16", float, u32, f16_value(a))
    PTX_OP("cvt.rn.f16.f32", u16, float, to_f16(a))
    PTX_OP("cvt.rn.bf16.f32", u16, float, to_bf16(a))
    PTX_OP("cvt.rn.f16x2.f32", u32, float, (u32)to_f16(a) << 16 | to_f16(b)) // the first one above
    PTX_OP("cvt.rn.bf16x2.f32", u32, float, (u32)to_bf16(a) << 16 | to_bf16(b))
    // fp32, fp64: IEEE, subnormals kept but for .ftz
    PTX_OP("add.f32", float, float, a + b)
    PTX_OP("add.rn.f32", float, float, a + b)
    PTX_OP("sub.f32", float, float, a - b)
    PTX_OP("sub.rn.f32", float, float, a - b)
    PTX_OP("mul.f32", float, float, a * b)
    PTX_OP("mul.rn.f32", float, float, a * b)
    PTX_OP("fma.rn.f32", float, float, std::fma(a, b, c))
    PTX_OP("div.rn.f32", float, float, a / b)
    PTX_OP("rcp.rn.f32", float, float, 1 / a)
    PTX_OP("sqrt.rn.f32", float, float, std::sqrt(a))
    PTX_OP("neg.f32", u32, u32, a ^ 0x80000000)
    PTX_OP("abs.f32", u32, u32, a & 0x7fffffff)
    PTX_OP("min.f32", float, float, smaller(a, b))
    PTX_OP("max.f32", float, float, larger(a, b))
    PTX_OP("ex2.approx.ftz.f32", float, float, flushed((float)std::exp2((double)flushed(a))))
    PTX_OP("rcp.approx.ftz.f32", float, float, flushed((float)(1 / (double)flushed(a))))
    PTX_OP("rsqrt.approx.ftz.f32", float, float, flushed((float)(1 / std::sqrt((double)flushed(a)))))
    PTX_OP("add.f64", double, double, a + b)
    PTX_OP("sub.f64", double, double, a - b)
    PTX_OP("mul.f64", double, double, a * b)
    PTX_OP("div.rn.f64", double, double, a / b)
    PTX_COMPARE("lt", , <)
    PTX_COMPARE("le", , <=)
    PTX_COMPARE("gt", , >)
    PTX_COMPARE("ge", , >=)
    PTX_COMPARE("eq", , ==)
    PTX_COMPARE("ne", , !=)
    PTX_OP("setp.num.f32", bool, float, a == a && b == b)
    PTX_OP("setp.nan.f32", bool, float, a != a || b != b)
    // halves, by way of double: sums and products of two are exact there, a product and a sum are made odd
    PTX_PAIR("add.rn.f16x2", to_f16((double)f16_value(x) + f16_value(y)))
    PTX_PAIR("sub.rn.f16x2", to_f16((double)f16_value(x) - f16_value(y)))
    PTX_PAIR("mul.rn.f16x2", to_f16((double)f16_value(x) * f16_value(y)))
    PTX_PAIR("fma.rn.f16x2", to_f16(add_odd((double)f16_value(x) * f16_value(y), f16_value(z))))
    PTX_PAIR("fma.rn.bf16x2", to_bf16(add_odd((double)bf16_value(x) * bf16_value(y), bf16_value(z))))
};
// clang-format on

// ---- the others
static inline void run_lop3(Warp &w, const Ins &i, u32 lanes)
{
    const u32 table = (u32)w.reg(i.o[4])[0]; // bit 4 a + 2 b + c
    w.apply<u32, u32>(i, lanes, [&](u32 a, u32 b, u32 c) {
        u32 r = 0;
        for (int k = 0; k < 8; k++)
            if (table >> k & 1) r |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
        return r;
    });
}
static inline void run_prmt(Warp &w, const Ins &i, u32 lanes)
{
    w.apply<u32, u32>(i, lanes, [](u32 a, u32 b, u32 c) {
        const u64 bytes = (u64)b << 32 | a;
        u32 r = 0;
        for (int k = 0; k < 4; k++) {
            const u32 select = c >> 4 * k & 15;
            u32 byte = bytes >> (select & 7) * 8 & 255;
            if (select & 8) byte = byte & 128 ? 255 : 0; // its sign
            r |= byte << 8 * k;
        }
        return r;
    });
}
static inline void run_bfi(Warp &w, const Ins &i, u32 lanes) // i.bytes 4 or 8
{
    const u64 *length = w.reg(i.o[4]);
    u64 *d = w.reg(i.o[0]);
    Warp::each(lanes, [&](int l) {
        const u64 a = w.reg(i.o[1])[l];
        u64 r = w.reg(i.o[2])[l];
        const int at = w.reg(i.o[3])[l] & 255, n = length[l] & 255;
        for (int k = 0; k < n && at + k < i.bytes * 8; k++)
            r = (r & ~(1ull << (at + k))) | (a >> k & 1) << (at + k);
        d[l] = i.bytes == 4 ? (u32)r : r;
    });
}
// mov of a vector into a register, or out of one; the first element is the lowest
static inline void run_pack(Warp &w, const Ins &i, u32 lanes)
{
    Warp::each(lanes, [&](int l) {
        u64 r = 0;
        for (int k = 0; k < i.count; k++)
            r |= (w.reg(i.o[1 + k])[l] & (~0ull >> (64 - i.bytes * 8))) << k * i.bytes * 8;
        w.reg(i.o[0])[l] = r;
    });
}
static inline void run_unpack(Warp &w, const Ins &i, u32 lanes)
{
    Warp::each(lanes, [&](int l) {
        const u64 r = w.reg(i.o[i.count])[l];
        for (int k = 0; k < i.count; k++)
            w.reg(i.o[k])[l] = r >> k * i.bytes * 8 & (~0ull >> (64 - i.bytes * 8));
    });
}
static inline void run_load(Warp &w, const Ins &i, u32 lanes)
{
    if (i.o.size() > (size_t)i.count && i.mask == 1) // a cache policy
        Warp::each(lanes, [&](int l) {
            if (w.reg(i.o[i.count])[l] != POLICY) w.fail(i, l, "not a cache policy");
        });
    Warp::each(lanes, [&](int l) {
        const u8 *p = (const u8 *)w.memory(i, l, false);
        for (int k = 0; k < i.count; k++) {
            u64 v = 0;
            memcpy(&v, p + k * i.bytes, i.bytes);
            if (i.sign && i.bytes < 4) v = (u64)((s64)(v << (64 - i.bytes * 8)) >> (64 - i.bytes * 8));
            w.reg(i.o[k])[l] = v;
        }
    });
}
static inline void run_store(Warp &w, const Ins &i, u32 lanes)
{
    Warp::each(lanes, [&](int l) {
        u8 *p = (u8 *)w.memory(i, l, true);
        for (int k = 0; k < i.count; k++) memcpy(p + k * i.bytes, &w.reg(i.o[k])[l], i.bytes);
        if (emu::wrong && i.space == GLOBAL) p[i.count * i.bytes - 1] ^= 0x40;
    });
}
// atom: d, [a], b; red: [a], b
template <class T, bool MAX> static inline void run_atomic(Warp &w, const Ins &i, u32 lanes)
{
    Warp::each(lanes, [&](int l) {
        T *p = (T *)w.memory(i, l, true), old = *p, v = (T)w.reg(i.o[i.written])[l];
        *p = MAX ? std::max(old, v) : old + v;
        if (i.written) w.reg(i.o[0])[l] = old;
    });
}
// shfl.sync.mode.b32 d|p, a, b, c, mask
static inline void run_shuffle(Warp &w, const Ins &i, u32 lanes)
{
    u64 a[32], d[32];
    const char mode = i.text[10]; // u(p), d(own), b(fly), i(dx)
    memcpy(a, w.reg(i.o[2]), sizeof a);
    Warp::each(lanes, [&](int l) {
        const u32 b = (u32)w.reg(i.o[3])[l] & 31, c = (u32)w.reg(i.o[4])[l];
        const u32 segment = c >> 8 & 31, last = ((u32)l & segment) | (c & 31 & ~segment),
                  first = (u32)l & segment;
        int from = mode == 'u'   ? l - (int)b
                   : mode == 'd' ? l + (int)b
                   : mode == 'b' ? l ^ (int)b
                                 : (int)(first | (b & ~segment));
        const bool within = mode == 'u' ? from >= (int)last : from <= (int)last;
        if (!within) from = l;
        if (!(lanes >> from & 1)) w.fail(i, l, format("shuffle from lane %d, which is not here", from));
        d[l] = (u32)a[from];
        if (i.written == 2) w.reg(i.o[1])[l] = within;
    });
    Warp::each(lanes, [&](int l) { w.reg(i.o[0])[l] = d[l]; });
}
static inline void run_ballot(Warp &w, const Ins &i, u32 lanes)
{
    u32 set = 0;
    Warp::each(lanes, [&](int l) { set |= (u32)(w.reg(i.o[1])[l] & 1) << l; });
    Warp::each(lanes, [&](int l) { w.reg(i.o[0])[l] = set; });
}
// elect.sync d|p, mask: any lane, but always the same one
static inline void run_elect(Warp &w, const Ins &i, u32 lanes)
{
    const int leader = emu::schedule % 2 ? 31 - __builtin_clz(lanes) : __builtin_ctz(lanes);
    Warp::each(lanes, [&](int l) {
        w.reg(i.o[0])[l] = leader;
        w.reg(i.o[1])[l] = l == leader;
    });
}
static inline void run_nothing(Warp &, const Ins &, u32) {}

// ldmatrix .x1 .x2 .x4: the rows of matrix m are at the addresses of lanes 8 m .. 8 m + 7. A lane gets two
// neighbours of row lane / 4, or, with .trans, of column lane / 4.
static inline void run_ldmatrix(Warp &w, const Ins &i, u32)
{
    const bool trans = i.sign;
    for (int m = 0; m < i.count; m++) {
        const u8 *row[8];
        for (int r = 0; r < 8; r++) {
            const u64 a = w.address(i, m * 8 + r);
            if (a % 16) w.fail(i, m * 8 + r, "a row is not aligned to 16 bytes");
            const u32 at = w.in_shared(i, m * 8 + r, a, 16);
            w.ordered(i, m * 8 + r, at, 16, false);
            row[r] = &w.block.shared[at];
        }
        for (int l = 0; l < 32; l++) {
            u32 v = 0;
            for (int h = 0; h < 2; h++) {
                const int r = trans ? l % 4 * 2 + h : l / 4, c = trans ? l / 4 : l % 4 * 2 + h;
                v |= (u32)(row[r][c * 2] | row[r][c * 2 + 1] << 8) << 16 * h;
            }
            w.reg(i.o[m])[l] = v;
        }
    }
}
// mma.m16n8k8, k16: d, a, b, c. With g = lane / 4, t = lane % 4: a's registers are rows g and g + 8 of inputs
// 2t, 2t + 1, then the same of inputs + 8; b's are inputs 2t, 2t + 1 of column g, then inputs + 8; c and d are
// row g columns 2t, 2t + 1, then row g + 8.
static inline void run_mma(Warp &w, const Ins &i, u32)
{
    const int k = i.count, as = k / 4, bs = k / 8;
    const int *d = i.o.data(), *a = d + 4, *b = a + as, *c = b + bs;
    double A[16][16], B[16][8];
    for (int l = 0; l < 32; l++)
        for (int h = 0; h < 2; h++) {
            for (int n = 0; n < as; n++)
                A[l / 4 + n % 2 * 8][l % 4 * 2 + h + n / 2 * 8] = half_value(i.bf16, w.reg(a[n])[l] >> 16 * h);
            for (int n = 0; n < bs; n++)
                B[l % 4 * 2 + h + n * 8][l / 4] = half_value(i.bf16, w.reg(b[n])[l] >> 16 * h);
        }
    for (int row = 0; row < 16; row++) {
        double sum[8];
        for (int col = 0; col < 8; col++)
            sum[col] = Value<float>::of(w.reg(c[row / 8 * 2 + col % 2])[row % 8 * 4 + col / 2]);
        for (int x = 0; x < k; x++)
            for (int col = 0; col < 8; col++) sum[col] += A[row][x] * B[x][col];
        for (int col = 0; col < 8; col++)
            w.reg(d[row / 8 * 2 + col % 2])[row % 8 * 4 + col / 2] = Value<float>::bits((float)sum[col]);
    }
}

// cp.async.cg.shared.global [to], [from], 16
static inline void run_copy(Warp &w, const Ins &i, u32 lanes)
{
    Warp::each(lanes, [&](int l) {
        const u64 to = w.address(i, l), from = w.reg(i.at[1].slot)[l] + (u64)i.at[1].offset;
        if (w.reg(i.o[0])[l] != 16) w.fail(i, l, "cp.async.cg copies 16 bytes");
        if (i.mask == 1 && w.reg(i.o[1])[l] != POLICY) w.fail(i, l, "not a cache policy");
        if (to % 16 || from % 16) w.fail(i, l, "cp.async: not aligned");
        w.in_global(i, l, from, 16);
        Copy c = {l, w.copy_group[l], w.in_shared(i, l, to, 16), 16, from, false};
        w.ordered(i, l, c.to, 16, true);
        w.under_way(c.to, 16, w.index, ALL);
        if (emu::eager) w.land(c);
        if (w.kernel.wgmma) w.block.unfenced[c.to / 16] = 1;
        w.copies.push_back(c);
    });
}
static inline void run_copy_commit(Warp &w, const Ins &, u32 lanes)
{
    Warp::each(lanes, [&](int l) { w.copy_group[l]++; });
}
static inline void run_copy_wait(Warp &w, const Ins &i, u32 lanes)
{
    w.wait_copies(lanes, (u32)w.reg(i.o[0])[0]);
}

static inline void run_barrier_init(Warp &w, const Ins &i, u32 lanes)
{
    Warp::each(lanes, [&](int l) {
        const u64 a = w.address(i, l);
        const u32 count = (u32)w.reg(i.o[0])[l];
        Block &b = w.block;
        w.in_shared(i, l, a, 8);
        if (a % 8 || !count || count >> 20) w.fail(i, l, "mbarrier.init");
        const size_t agent = b.warps.size() + b.barriers.size();
        if (agent >= MOST_AGENTS) w.fail(i, l, "more mbarriers than counted on");
        b.barriers[(u32)a] = Barrier{count, count, 0, 0, false, agent, Seen(MOST_AGENTS), Seen(MOST_AGENTS)};
        b.barrier_low = std::min(b.barrier_low, (u32)a), b.barrier_high = std::max(b.barrier_high, (u32)a + 8);
        memset(&b.shared[a - SHARED_BASE], 0xFD, 8);
    });
}
static inline void run_barrier_fence(Warp &w, const Ins &, u32)
{
    for (auto &b : w.block.barriers) b.second.fenced = true;
}
// mbarrier.arrive, .arrive.expect_tx: _, [b], bytes
static inline void run_arrive(Warp &w, const Ins &i, u32 lanes)
{
    Warp::each(lanes, [&](int l) {
        Barrier &b = w.barrier(i, l, w.address(i, l));
        if (i.sign) b.bytes += (u32)w.reg(i.o[1])[l];
        if (b.bytes >> 20) w.fail(i, l, "mbarrier: more bytes than it counts");
        w.arrive(i, l, b);
    });
}
// cp.async.bulk [to], [from], bytes, [barrier], policy
static inline void run_bulk(Warp &w, const Ins &i, u32 lanes)
{
    Warp::each(lanes, [&](int l) {
        const u64 to = w.address(i, l), from = w.reg(i.at[1].slot)[l] + (u64)i.at[1].offset;
        const u32 bytes = (u32)w.reg(i.o[0])[l];
        const u64 barrier = (u32)(w.reg(i.at[2].slot)[l] + (u64)i.at[2].offset);
        if (i.mask == 1 && w.reg(i.o[1])[l] != POLICY) w.fail(i, l, "not a cache policy");
        if (to % 16 || from % 16 || bytes % 16 || !bytes) w.fail(i, l, "bulk copy: not aligned");
        w.in_global(i, l, from, bytes);
        const u32 at = w.in_shared(i, l, to, bytes);
        if (!w.barrier(i, l, barrier).fenced) w.fail(i, l, "mbarrier without a fence after its init");
        for (u32 k = 0; k < bytes / 16; k++)
            if (w.block.unfenced[at / 16 + k])
                w.fail(i, l, "a bulk copy over what was written with no fence.proxy.async since");
        w.ordered(i, l, at, bytes, true);
        w.under_way(at, bytes, w.barrier(i, l, barrier).agent, w.barrier(i, l, barrier).phase + 1);
        Bulk b = {(u32)to, bytes, (u32)barrier, from};
        if (emu::eager_bulk) w.block.land(b);
        else w.block.bulk.push_back(b);
    });
}
static inline void run_proxy_fence(Warp &w, const Ins &, u32 lanes)
{
    size_t n = 0;
    for (auto &u : w.unfenced)
        if (lanes >> u.second & 1) w.block.unfenced[u.first] = 0;
        else w.unfenced[n++] = u;
    w.unfenced.resize(n);
}
static inline void run_grid_wait(Warp &w, const Ins &, u32 lanes) { w.waited |= lanes; }
static inline void run_wgmma(Warp &w, const Ins &i, u32) { w.issue(i); }
static inline void run_wgmma_fence(Warp &w, const Ins &, u32) { w.fenced = w.time; }
static inline void run_wgmma_commit(Warp &w, const Ins &, u32)
{
    w.issued.push_back(Issued{nullptr, 0, false});
}
static inline void run_wgmma_wait(Warp &w, const Ins &i, u32) { w.wait_wgmma((int)w.reg(i.o[0])[0]); }
static inline void run_setmaxnreg(Warp &w, const Ins &i, u32)
{
    const u64 n = w.reg(i.o[0])[0];
    if (n < 24 || n > 256 || n % 8) w.fail(i, 0, "setmaxnreg: a multiple of 8 from 24 to 256");
}

// ---- parsing: a kernel's text becomes instructions whose operands are slots
struct Text { // of a file
    std::string path, text;
    std::map<std::string, size_t> entries; // name, where its parameters begin
};
struct Parser {
    const Text &file;
    Kernel &kernel;
    size_t at;
    struct Scope {
        int parent;
        std::map<std::string, int> registers, labels;
    };
    std::vector<Scope> scopes{Scope{-1, {}, {}}};
    int scope = 0;
    std::map<u64, int> constants{};
    std::map<std::string, int> specials{};
    std::map<std::string, u64> symbols{}; // addresses
    struct Jump {
        size_t pc;
        int scope;
        std::string label;
    };
    std::vector<Jump> jumps{};

    [[noreturn]] void fail(const std::string &what) const
    {
        const long line =
            std::count(file.text.begin(), file.text.begin() + (long)std::min(at, file.text.size()), '\n') + 1;
        throw Fault{file.path + format(":%ld: ", line) + what};
    }
    void skip()
    {
        const std::string &t = file.text;
        for (;;) {
            while (at < t.size() && isspace((unsigned char)t[at])) at++;
            if (t.compare(at, 2, "//") == 0) at = t.find('\n', at);
            else if (t.compare(at, 2, "/*") == 0) at = t.find("*/", at) + 2;
            else return;
            if (at >= t.size()) fail("the file ends");
        }
    }
    static bool of_name(char c)
    {
        return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.';
    }
    std::string word()
    {
        const size_t from = at;
        while (of_name(file.text[at])) at++;
        return file.text.substr(from, at - from);
    }
    static std::string trimmed(const std::string &s)
    {
        const size_t a = s.find_first_not_of(" \t\n\r"), b = s.find_last_not_of(" \t\n\r");
        return a == std::string::npos ? "" : s.substr(a, b - a + 1);
    }
    std::string until(char end)
    {
        const size_t from = at;
        at = file.text.find(end, at);
        if (at == std::string::npos) fail("the file ends");
        return trimmed(file.text.substr(from, at++ - from));
    }
    static std::vector<std::string> split(const std::string &s, char by) // outside of brackets
    {
        std::vector<std::string> parts;
        int depth = 0;
        size_t from = 0;
        for (size_t i = 0; i <= s.size(); i++) {
            if (i < s.size()) depth += (s[i] == '{' || s[i] == '[') - (s[i] == '}' || s[i] == ']');
            if (i == s.size() || (s[i] == by && !depth)) {
                parts.push_back(trimmed(s.substr(from, i - from)));
                from = i + 1;
            }
        }
        if (parts.size() == 1 && parts[0].empty()) parts.clear();
        return parts;
    }

    int constant(u64 v)
    {
        if (!v) return 0;
        auto c = constants.find(v);
        if (c != constants.end()) return c->second;
        kernel.constants.push_back(std::make_pair(kernel.slots, v));
        return constants[v] = kernel.slots++;
    }
    int value(const std::string &s) // a register, a number, a name's address
    {
        if (s.empty()) fail("an operand is missing");
        if (s == "_") return kernel.slots++; // goes nowhere
        if (isdigit((unsigned char)s[0]) || s[0] == '-') {
            char *end;
            u64 v;
            if (s[0] == '0' && (s[1] == 'f' || s[1] == 'F' || s[1] == 'd' || s[1] == 'D'))
                v = strtoull(s.c_str() + 2, &end, 16);
            else if (s.find('.') != std::string::npos) v = bits_as<u64>(strtod(s.c_str(), &end));
            else v = strtoull(s.c_str(), &end, 0);
            if (*end && *end != 'U') fail("number " + s);
            return constant(v);
        }
        for (int k = scope; k >= 0; k = scopes[k].parent) {
            auto r = scopes[k].registers.find(s);
            if (r != scopes[k].registers.end()) return r->second;
        }
        auto symbol = symbols.find(s);
        if (symbol != symbols.end()) return constant(symbol->second);
        if (s[0] != '%') fail("what is " + s);
        if (!specials.count(s)) {
            specials[s] = kernel.slots++;
            kernel.specials.push_back(std::make_pair(specials[s], s));
        }
        return specials[s];
    }
    Address address(std::string s) // without its brackets
    {
        Address a;
        const size_t plus = s.find('+');
        if (plus != std::string::npos) {
            a.offset = strtoll(s.c_str() + plus + 1, nullptr, 0);
            s = s.substr(0, plus);
        }
        a.slot = value(trimmed(s));
        return a;
    }
    void declare(const std::string &s) // .reg .b32 %r<10>, a
    {
        std::string names = s.substr(s.find_first_of(" \t", s.find('.') + 1));
        for (const std::string &name : split(names, ',')) {
            const size_t angle = name.find('<');
            if (angle == std::string::npos) scopes[scope].registers[name] = kernel.slots++;
            else
                for (int k = 0, n = atoi(name.c_str() + angle + 1); k < n; k++)
                    scopes[scope].registers[name.substr(0, angle) + std::to_string(k)] = kernel.slots++;
        }
    }
    // ".align 8 .b8 name[96]" or ".u32 name": name, size
    std::pair<std::string, size_t> variable(const std::string &s)
    {
        const size_t bracket = s.find('['), end = bracket == std::string::npos ? s.size() : bracket;
        const size_t from = s.find_last_of(" \t", end - 1) + 1, type = s.find_last_of('.', from);
        const size_t bits = (size_t)atoi(s.c_str() + s.find_first_of("0123456789", type));
        const size_t n = bracket == std::string::npos ? 1 : (size_t)atoi(s.c_str() + bracket + 1);
        return std::make_pair(trimmed(s.substr(from, end - from)), n * bits / 8);
    }

    static bool starts(const std::string &s, const char *with) { return s.compare(0, strlen(with), with) == 0; }
    static bool has(const std::string &op, const char *part) // ".nc", ".v4"
    {
        const size_t p = op.find(part), end = p + strlen(part);
        return p != std::string::npos && (end == op.size() || op[end] == '.');
    }
    void decode(Ins &i, const std::string &op, const std::vector<std::string> &operands);
    void memory(Ins &i, const std::string &op)
    {
        const std::string type = op.substr(op.find_last_of('.') + 1);
        i.space = has(op, ".global")                        ? GLOBAL
                  : op.find(".shared") != std::string::npos ? SHARED
                  : has(op, ".local")                       ? LOCAL
                  : has(op, ".param")                       ? PARAM
                                                            : GENERIC;
        i.bytes = atoi(type.c_str() + 1) / 8;
        i.sign = type[0] == 's';
        i.count = has(op, ".v2") ? 2 : has(op, ".v4") ? 4 : 1;
        i.constant = has(op, ".nc");
        if (op.find("cache_hint") != std::string::npos) i.mask = 1;
    }
    void instruction(const std::string &s)
    {
        Ins i;
        size_t p = 0;
        i.line = (int)std::count(file.text.begin(), file.text.begin() + (long)at, '\n') + 1;
        if (s[0] == '@') {
            i.negated = s[1] == '!';
            p = s.find_first_of(" \t");
            i.guard = value(s.substr(1 + i.negated, p - 1 - i.negated));
            p = s.find_first_not_of(" \t", p);
        }
        i.text = s.substr(p);
        p = i.text.find_first_of(" \t\n{[");
        const std::string op = i.text.substr(0, p);
        decode(i, op, p == std::string::npos ? std::vector<std::string>() : split(i.text.substr(p), ','));
        while (i.o.size() < 4) i.o.push_back(0);
        kernel.code.push_back(i);
    }
    void parse()
    {
        skip();
        at++; // (
        for (const std::string &s : split(until(')'), ',')) {
            auto v = variable(s);
            const size_t align = s.find(".align") == std::string::npos
                                     ? v.second
                                     : (size_t)atoi(s.c_str() + s.find(".align") + 6);
            kernel.parameter_bytes = (kernel.parameter_bytes + align - 1) / align * align;
            kernel.parameters.push_back(Parameter{v.first, kernel.parameter_bytes, v.second});
            symbols[v.first] = kernel.parameter_bytes;
            kernel.parameter_bytes += v.second;
        }
        const size_t from = file.text.find(".maxntid", at), body = file.text.find('{', at);
        if (from < body) kernel.max_threads = atoi(file.text.c_str() + from + 8);
        at = body + 1;
        for (int depth = 1; depth;) {
            skip();
            const char c = file.text[at];
            if (c == '{') {
                at++, depth++;
                scopes.push_back(Scope{scope, {}, {}});
                scope = (int)scopes.size() - 1;
            } else if (c == '}') {
                at++, depth--;
                scope = scopes[scope].parent;
            } else if (c == ';') at++;
            else if (c == '.') {
                const std::string s = until(';');
                if (starts(s, ".reg")) declare(trimmed(s.substr(4)));
                else if (starts(s, ".local")) {
                    auto v = variable(s);
                    kernel.local_bytes = (kernel.local_bytes + 15) / 16 * 16;
                    symbols[v.first] = kernel.local_bytes;
                    kernel.local_bytes += v.second;
                } else if (!starts(s, ".pragma")) fail(s);
            } else {
                const size_t before = at;
                const std::string name = word();
                skip();
                if (file.text[at] == ':' && file.text[at + 1] != ':') {
                    at++;
                    scopes[scope].labels[name] = (int)kernel.code.size();
                } else {
                    at = before;
                    instruction(until(';'));
                }
            }
        }
        for (const Jump &j : jumps) {
            int k = j.scope;
            while (k >= 0 && !scopes[k].labels.count(j.label)) k = scopes[k].parent;
            if (k < 0) fail("no label " + j.label);
            kernel.code[j.pc].target = scopes[k].labels[j.label];
        }
        Ins end;
        end.kind = EXIT, end.text = "}", end.o.assign(4, 0), end.written = 0;
        kernel.code.push_back(end);
    }
};

inline void Parser::decode(Ins &i, const std::string &op, const std::vector<std::string> &operands)
{
    static const std::map<std::string, void (*)(Warp &, const Ins &, u32)> &table =
        *new std::map<std::string, void (*)(Warp &, const Ins &, u32)>([] {
            std::map<std::string, void (*)(Warp &, const Ins &, u32)> t;
            for (const Simple &s : simple) t[s.name] = s.run;
            return t;
        }());
    int vector = 0; // elements of the first one
    if (starts(op, "bra")) {
        i.kind = BRANCH, i.written = 0;
        jumps.push_back(Jump{kernel.code.size(), scope, operands.at(0)});
        return;
    }
    for (const std::string &s : operands) {
        if (s[0] == '[') i.at.push_back(address(s.substr(1, s.find(']') - 1)));
        else if (s[0] == '{') {
            const auto parts = split(s.substr(1, s.find('}') - 1), ',');
            if (!vector) vector = (int)parts.size();
            for (const std::string &part : parts) i.o.push_back(value(part));
        } else
            for (const std::string &part : split(s, '|')) i.o.push_back(value(part));
    }
    const size_t n = i.o.size();
    auto want = [&](size_t count, size_t addresses, int written, void (*run)(Warp &, const Ins &, u32)) {
        if (n != count || i.at.size() != addresses) fail("operands of " + i.text);
        i.written = written;
        i.run = run;
    };
    const bool hint = op.find("L2::cache_hint") != std::string::npos;
    if (starts(op, "mov.") && vector) {
        i.bytes = atoi(op.c_str() + 5) / 8 / vector;
        i.count = vector;
        if (operands[0][0] == '{') want((size_t)vector + 1, 0, vector, run_unpack);
        else want((size_t)vector + 1, 0, 1, run_pack);
    } else if (table.count(op)) i.run = table.at(op);
    else if (op == "ret" || op == "exit") i.kind = EXIT, i.written = 0;
    else if (op == "lop3.b32") want(5, 0, 1, run_lop3);
    else if (op == "prmt.b32") want(4, 0, 1, run_prmt);
    else if (op == "bfi.b32" || op == "bfi.b64") want(5, 0, 1, run_bfi), i.bytes = op[5] == '3' ? 4 : 8;
    else if (starts(op, "ld.")) {
        memory(i, op);
        want((size_t)i.count + hint, 1, i.count, run_load);
    } else if (starts(op, "st.")) {
        memory(i, op);
        want((size_t)i.count, 1, 0, run_store);
    } else if (op == "atom.acq_rel.gpu.global.add.u32" || op == "atom.global.add.u32") {
        memory(i, op);
        want(2, 1, 1, run_atomic<u32, false>);
    } else if (op == "red.relaxed.gpu.global.max.u64") {
        memory(i, op);
        want(1, 1, 0, run_atomic<u64, true>);
    } else if (op == "red.relaxed.gpu.global.add.u64") {
        memory(i, op);
        want(1, 1, 0, run_atomic<u64, false>);
    } else if (op == "bar.sync" || op == "barrier.sync.aligned") {
        i.kind = BARRIER, i.written = 0;
    } else if (op == "bar.warp.sync") {
        i.kind = MEMBERS, i.mask = 0;
        want(1, 0, 0, run_nothing);
    } else if (starts(op, "shfl.sync.") && has(op, ".b32")) {
        const bool predicate = operands[0].find('|') != std::string::npos;
        if (!predicate) i.o.insert(i.o.begin() + 1, 0);
        i.kind = MEMBERS, i.mask = 5;
        want(n, 0, predicate ? 2 : 1, run_shuffle);
        if (i.o.size() != 6) fail("operands of " + i.text);
    } else if (op == "vote.sync.ballot.b32") {
        i.kind = MEMBERS, i.mask = 2;
        want(3, 0, 1, run_ballot);
    } else if (op == "elect.sync") {
        i.kind = MEMBERS, i.mask = 2;
        want(3, 0, 2, run_elect);
    } else if (starts(op, "ldmatrix.sync.aligned.m8n8.x") && has(op, ".b16")) {
        memory(i, op);
        i.sign = has(op, ".trans");
        i.count = op[28] - '0';
        i.kind = WHOLE;
        want((size_t)i.count, 1, i.count, run_ldmatrix);
    } else if (starts(op, "mma.sync.aligned.m16n8k")) {
        i.count = op[23] == '8' ? 8 : 16;
        i.bf16 = has(op, ".bf16");
        const std::string type = i.bf16 ? "bf16" : "f16";
        if (op != format("mma.sync.aligned.m16n8k%d.row.col.f32.", i.count) + type + "." + type + ".f32")
            fail(op);
        i.kind = WHOLE;
        want((size_t)(8 + i.count / 4 + i.count / 8), 0, 4, run_mma);
    } else if (starts(op, "cp.async.cg.shared.global")) {
        i.space = SHARED;
        i.mask = hint ? 1 : -1;
        want(1 + hint, 2, 0, run_copy);
    } else if (op == "cp.async.commit_group") want(0, 0, 0, run_copy_commit);
    else if (op == "cp.async.wait_group") want(1, 0, 0, run_copy_wait);
    else if (op == "mbarrier.init.shared::cta.b64") {
        i.space = SHARED;
        want(1, 1, 0, run_barrier_init);
    } else if (op == "mbarrier.arrive.shared::cta.b64") {
        i.space = SHARED;
        want(1, 1, 1, run_arrive);
    } else if (op == "mbarrier.arrive.expect_tx.shared::cta.b64") {
        i.space = SHARED;
        i.sign = true;
        want(2, 1, 1, run_arrive);
    } else if (op == "mbarrier.try_wait.parity.shared::cta.b64") {
        i.space = SHARED;
        i.kind = TRY_WAIT;
        want(2, 1, 1, run_nothing);
    } else if (starts(op, "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes")) {
        i.space = SHARED;
        i.mask = hint ? 1 : -1;
        want(1 + hint, 3, 0, run_bulk);
    } else if (op == "fence.proxy.async.shared::cta" || op == "fence.proxy.async")
        want(0, 0, 0, run_proxy_fence);
    else if (op == "fence.mbarrier_init.release.cluster") want(0, 0, 0, run_barrier_fence);
    else if (starts(op, "fence.acq_rel.") || starts(op, "membar.")) want(0, 0, 0, run_nothing);
    else if (op == "griddepcontrol.wait") {
        kernel.waits = true;
        want(0, 0, 0, run_grid_wait);
    } else if (op == "griddepcontrol.launch_dependents") want(0, 0, 0, run_nothing);
    else if (starts(op, "setmaxnreg.")) {
        i.kind = WHOLE;
        want(1, 0, 0, run_setmaxnreg);
    } else if (starts(op, "wgmma.mma_async.sync.aligned.m64n")) {
        i.count = atoi(op.c_str() + 33);
        i.bf16 = has(op, ".bf16");
        const std::string type = i.bf16 ? "bf16" : "f16";
        if (op != format("wgmma.mma_async.sync.aligned.m64n%dk16.f32.", i.count) + type + "." + type) fail(op);
        i.kind = WHOLE;
        want((size_t)(i.count / 2 + 9), 0, i.count / 2, run_wgmma);
        // d, a, b, add, +a, +b, b transposed
        if (i.o[n - 3] != constant(1) || i.o[n - 2] != constant(1) || i.o[n - 1])
            fail("wgmma: signs or order of b");
        kernel.wgmma = i.wgmma = true;
    } else if (op == "wgmma.fence.sync.aligned") {
        i.kind = WHOLE, i.wgmma = true;
        want(0, 0, 0, run_wgmma_fence);
    } else if (op == "wgmma.commit_group.sync.aligned") {
        i.kind = WHOLE, i.wgmma = true;
        want(0, 0, 0, run_wgmma_commit);
    } else if (op == "wgmma.wait_group.sync.aligned") {
        i.kind = WHOLE, i.wgmma = true;
        want(1, 0, 0, run_wgmma_wait);
    } else fail("no such instruction here: " + i.text);
}

// ---- files and launches
static inline std::deque<Text> &files()
{
    static std::deque<Text> &all = *new std::deque<Text>([] {
        std::deque<Text> found;
        const char *folder = getenv("AWQ_PTX");
        DIR *d = folder ? opendir(folder) : nullptr;
        if (!d) throw Fault{"AWQ_PTX is not a folder"};
        while (dirent *e = readdir(d)) {
            const std::string name = e->d_name;
            if (name.size() < 4 || name.substr(name.size() - 4) != ".ptx") continue;
            Text t;
            t.path = std::string(folder) + "/" + name;
            FILE *f = fopen(t.path.c_str(), "rb");
            char buffer[65536];
            for (size_t n; f && (n = fread(buffer, 1, sizeof buffer, f)) > 0;) t.text.append(buffer, n);
            if (f) fclose(f);
            for (size_t p = 0; (p = t.text.find(".entry ", p)) != std::string::npos;) {
                const size_t from = p + 7, end = t.text.find('(', from);
                t.entries[Parser::trimmed(t.text.substr(from, end - from))] = p = end;
            }
            found.push_back(t);
        }
        closedir(d);
        if (found.empty()) throw Fault{format("no PTX in %s", folder)};
        return found;
    }());
    return all;
}
static inline const Kernel *find(const std::string &name)
{
    static std::map<std::string, std::unique_ptr<Kernel>> &kernels =
        *new std::map<std::string, std::unique_ptr<Kernel>>;
    auto k = kernels.find(name);
    if (k != kernels.end()) return k->second.get();
    for (const Text &t : files()) {
        auto e = t.entries.find(name);
        if (e == t.entries.end()) continue;
        std::unique_ptr<Kernel> kernel(new Kernel);
        kernel->name = name;
        // what makes weights is launched without overlap, and waits for nothing
        const size_t target = t.text.find(".target sm_");
        kernel->waits = target != std::string::npos && atoi(t.text.c_str() + target + 11) >= 90
                        && !Parser::starts(name, "awq_repack");
        Parser p{t, *kernel, e->second};
        // the only shared memory is what the launch gives
        for (size_t s = 0; (s = t.text.find(".shared .align", s)) != std::string::npos; s++) {
            const size_t end = t.text.find(';', s);
            if (t.text.compare(s - 8, 8, ".extern ")) p.fail("shared memory of a fixed size");
            p.symbols[p.variable(t.text.substr(s, end - s)).first] = SHARED_BASE;
        }
        p.parse();
        return (kernels[name] = std::move(kernel)).get();
    }
    printf("    %s: not in the PTX, its C++ runs\n", name.c_str());
    return (kernels[name] = nullptr).get();
}

static inline void run_block(Block &b)
{
    const int n = (int)b.warps.size();
    u32 random = 1 + b.index.x * 7 + b.index.y * 131 + b.index.z * 1009;
    for (int left = n; left;) {
        long done = 0;
        for (int k = 0; k < n; k++) {
            const int s = emu::schedule;
            random ^= random << 13, random ^= random >> 17, random ^= random << 5;
            Warp &w = *b.warps[s == 1 || s == 5 ? n - 1 - k : s == 2 ? (int)((random >> 8) % (u32)n) : k];
            // 0, 1: some instructions each; 2: by chance; 3: as far as it gets; 4, 5: the first one that gets
            // anywhere, the others starve
            if (!w.live) continue;
            const long ran = w.run(s == 3 ? LONG_MAX : s == 2 ? 1 + (random >> 16) % 40 : s < 2 ? 7 : 50);
            done += ran;
            left -= !w.live;
            if (ran && s >= 4) break;
        }
        if (done || emu::schedule == 2) {
            if (done) continue;
            for (auto &w : b.warps) { // chance may have missed those that could
                if (w->live) done += w->run(1), left -= !w->live;
            }
            if (done) continue;
        }
        if (!left) break;
        if (b.bulk.empty()) {
            std::string where;
            for (auto &w : b.warps)
                for (Group &g : w->groups)
                    where +=
                        format(" warp %d lanes %08x line %d;", w->index, g.lanes, b.kernel->code[g.pc].line);
            throw Fault{format("deadlock in %s, block %u,%u,%u:", b.kernel->name.c_str(), b.index.x, b.index.y,
                               b.index.z)
                        + where.substr(0, 300)};
        }
        b.land(b.bulk.front());
        b.bulk.pop_front();
    }
    if (!b.bulk.empty()) throw Fault{b.kernel->name + ": the block ended with bulk copies under way"};
    for (auto &w : b.warps)
        if (w->wgmmas != b.warps[w->index & ~3]->wgmmas)
            throw Fault{b.kernel->name + ": warps differ in their wgmma"};
}

// as emu::launch; false in *ours: the PTX has no such kernel
static inline bool launch(const char *name, dim3 grid, dim3 size, size_t shared_bytes, void **params,
                          const std::vector<size_t> &sizes, bool *ours)
{
    const size_t blocks = (size_t)grid.x * grid.y * grid.z;
    const int threads = (int)(size.x * size.y * size.z);
    try {
        const Kernel *k = find(name);
        Block b;
        size_t stride = 97;
        *ours = k != nullptr;
        if (!k) return false;
        if (!blocks || threads < 1 || threads % 32 || threads > k->max_threads || shared_bytes > emu::SHARED_MAX
            || grid.y > 65535 || grid.z > 65535)
            throw Fault{format("%s: a launch of %zu blocks of %d threads, %zu bytes", name, blocks, threads,
                               shared_bytes)};
        if (sizes.size() != k->parameters.size()) throw Fault{format("%s: %zu parameters", name, sizes.size())};
        b.kernel = k, b.size = size, b.grid = grid;
        b.parameters.resize(k->parameter_bytes);
        for (size_t i = 0; i < sizes.size(); i++) {
            if (sizes[i] != k->parameters[i].size)
                throw Fault{format("%s: parameter %zu has %zu bytes, not %zu", name, i, k->parameters[i].size,
                                   sizes[i])};
            memcpy(&b.parameters[k->parameters[i].at], params[i], sizes[i]);
        }
        buffer_low = 1, buffer_high = 0;
        if (!emu::overlaps) emu::unfinished.clear();
        while (blocks % stride == 0) stride += 2;
        for (size_t i = 0; i < blocks; i++) {
            const size_t n = emu::schedule == 1   ? blocks - 1 - i
                             : emu::schedule == 2 ? (i * stride + 5) % blocks
                                                  : i;
            b.index =
                dim3((unsigned)(n % grid.x), (unsigned)(n / grid.x % grid.y), (unsigned)(n / grid.x / grid.y));
            b.shared.assign(shared_bytes, emu::eager ? 0xFF : 0xCB); // NaN, or a number
            b.unfenced.assign(shared_bytes / 16 + 1, 0);
            b.barriers.clear();
            b.barrier_low = ALL, b.barrier_high = 0;
            b.bulk.clear();
            b.warps.clear();
            for (Named &m : b.named) m = Named();
            b.writer.assign(shared_bytes / 4 + 1, 0);
            b.write_time.assign(shared_bytes / 4 + 1, 0);
            b.read_time.assign((shared_bytes / 4 + 1) * (threads / 32), 0);
            for (int w = 0; w < threads / 32; w++) b.warps.emplace_back(new Warp(b, w));
            run_block(b);
        }
        emu::unfinished.insert(emu::written.begin(), emu::written.end());
        emu::written.clear();
    } catch (const Fault &f) {
        *ours = true;
        emu::fault_text = f.text;
        emu::faulted = true;
        return false;
    }
    return true;
}
} // namespace ptx
#endif
