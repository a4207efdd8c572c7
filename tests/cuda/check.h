/* check.h - what the tests of kernels share: runner, random numbers, the emulator's modes, memory of the GPU */
#ifndef AWQ_CUDA_CHECK_H
#define AWQ_CUDA_CHECK_H
#include <chrono>
#include <memory>
#include <set>

static int passed, failed, skipped, bad;
static const char *only = "";
static std::map<std::string, std::set<int>> launched; // kernels that a test has run, and in which modes
static std::set<std::string> launched_bulk;            // those to which BULK_MODES matter

static double now()
{
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}
static void fail(const char *format, ...)
{
    va_list args;
    if (bad++ < 5) {
        printf("    ");
        va_start(args, format);
        vprintf(format, args);
        va_end(args);
        puts("");
    }
    if (getenv("STOP_AT_FAILURE")) exit(1); // mutate.sh needs no more
}
template <class F> static void run(const char *name, F test)
{
    if (!strstr(name, only)) return;
    double t = now();
    bad = 0;
    test();
    printf("%-8s %6.2f s  %s\n", bad ? "FAILED" : "ok", now() - t, name);
    bad ? failed++ : passed++;
}

static uint32_t seed = 1;
static uint32_t random32()
{
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    return seed;
}
static double uniform(double lo, double hi) { return lo + (hi - lo) * (random32() >> 8) * 0x1p-24; }

// Modes: orders of threads, cp.async late or early; for kernels with bulk copies or wgmma, those late or early.
// MODES cases, one after another, go through the first two, BULK_MODES through all.
static const int MODES = 2 * emu::SCHEDULES, BULK_MODES = 2 * MODES;
static int mode;
static void set_mode(int m)
{
    emu::schedule = m % emu::SCHEDULES;
    emu::eager = m / emu::SCHEDULES & 1;
    emu::eager_bulk = m / MODES;
}
static void next_mode()
{
    set_mode(mode);
    mode = (mode + 1) % BULK_MODES;
}
static const char *mode_name()
{
    static char text[60];
    snprintf(text, sizeof text, "schedule %d, copies %s, in bulk %s", emu::schedule,
             emu::eager ? "early" : "late", emu::eager_bulk ? "early" : "late");
    return text;
}

// memory of the GPU: registered, aligned as the driver aligns it
template <class T> struct Buffer {
    T *p;
    size_t n;
    Buffer(size_t count, T fill = T())
        : p((T *)aligned_alloc(256, (count * sizeof(T) + 511) / 256 * 256)), n(count)
    {
        std::fill(p, p + n, fill);
        emu::add_buffer(p, n * sizeof(T));
    }
    ~Buffer()
    {
        emu::remove_buffer(p);
        free(p);
    }
    Buffer(const Buffer &) = delete;
    T &operator[](size_t i) { return p[i]; }
    const T &operator[](size_t i) const { return p[i]; }
    uint64_t address() const { return (uint64_t)(uintptr_t)p; }
};

static u16 to_half(bool bf16, float f) { return bf16 ? emu::f32_to_bf16(f) : emu::f32_to_f16(f); }
static float from_half(bool bf16, u16 h) { return bf16 ? emu::bf16_to_f32(h) : emu::f16_to_f32(h); }

// awq__expf of awq.h
static float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static float cpu_exp(float x)
{
    float k, r, p;
    int e;
    if (x > 88.72283f) return bits_float(0x7f800000);
    if (!(x >= -87.33654f)) return x != x ? x : 0.0f;
    k = x * 1.44269504f;
    k = (float)(int)(k + (k < 0 ? -0.5f : 0.5f));
    r = x - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    e = (int)k;
    if (e > 127) return p * 1.7014118346046923e38f * 2.0f;
    return p * bits_float((uint32_t)(e + 127) << 23);
}

// one argument, a struct by value; false: emu::error() says what went wrong
template <class A>
static bool try_launch(const std::string &kernel, dim3 grid, unsigned threads, unsigned shared, A argument)
{
    void *params[] = {&argument};
    const bool ok = emu::launch_by_name(kernel.c_str(), grid, threads, shared, params);
    const int m = emu::schedule + emu::SCHEDULES * emu::eager;
    if (emu::bulk) launched_bulk.insert(kernel);
    launched[kernel].insert(emu::bulk ? m + MODES * emu::eager_bulk : m);
    return ok;
}
template <class A>
static bool launch(const std::string &kernel, dim3 grid, unsigned threads, unsigned shared, A argument)
{
    if (try_launch(kernel, grid, threads, shared, argument)) return true;
    fail("%s, %s: %s", kernel.c_str(), mode_name(), emu::error());
    return false;
}
// every kernel, in every mode that matters to it
static void test_all_launched()
{
    for (auto &k : emu::kernels())
        for (int m = 0; m < (launched_bulk.count(k.first) ? BULK_MODES : MODES); m++) {
            set_mode(m);
            if (!launched[k.first].count(m)) fail("%s was not launched in %s", k.first.c_str(), mode_name());
        }
}
static int report()
{
    if (!*only) run("all_launched", test_all_launched);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}

// numbers in fp32 or halves, [rows][stride]: what a linear leaves
struct Values {
    bool f32, bf16;
    int stride;
    Buffer<float> f;
    Buffer<u16> h;
    Values(int rows, int stride_, bool f32_, bool bf16_, double lo = -1, double hi = 1)
        : f32(f32_), bf16(bf16_), stride(stride_), f(f32_ ? (size_t)rows * stride_ : 1),
          h(f32_ ? 1 : (size_t)rows * stride_)
    {
        for (size_t i = 0; i < (size_t)rows * stride; i++) set(i, (float)uniform(lo, hi));
    }
    void set(size_t i, float v)
    {
        if (f32) f[i] = v;
        else h[i] = to_half(bf16, v);
    }
    float at(size_t row, size_t i) const
    {
        size_t k = row * stride + i;
        return f32 ? f[k] : from_half(bf16, h[k]);
    }
    uint64_t address() const { return f32 ? f.address() : h.address(); }
};

// NaN only where NaN is wanted
static bool near(double got, double want, double relative, double absolute)
{
    if (want != want) return got != got;
    return got == want || std::fabs(got - want) <= relative * std::fabs(want) + absolute;
}
#endif
