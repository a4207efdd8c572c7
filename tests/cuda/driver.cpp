/* driver.cpp - a CUDA driver and an NVRTC over tests/cuda/emulator.h: the host side of awq_cuda.h runs without a GPU

       c++ -std=c++17 -O1 -shared -fPIC -o libcuda_emulator.so tests/cuda/driver.cpp
       AWQ_CUDA_DRIVER=./libcuda_emulator.so AWQ_NVRTC=./libcuda_emulator.so program

   Its NVRTC compiles nothing: the "cubin" names family, architecture and a hash of the text, and is checked when it is
   loaded as the driver checks a real one. Functions of a module are the emulator's kernels of that part of a family (its
   text begins with what is defined for the part). A real NVRTC
   may be used beside this driver: its cubins are searched for the kernel's name.

   What is made to hurt:
     - work on a stream is queued and done when somebody waits for it: a pinned buffer that is refilled too early, or an
       answer read too early, shows (AWQ_EMULATOR_EAGER=1: done at once)
     - every address is checked against the allocations; kernels' too, by the emulator
     - calls without a current context fail; awq_emulator_live counts what was not given back
     - a kernel that goes wrong spoils the context: every call fails from then on

   -DAWQ_ARCH=750 or 860: with the text of kernels that such a card gets, and its compute capability.

   From the environment, read at each call:
     AWQ_EMULATOR_COMPUTE=90       compute capability     AWQ_EMULATOR_DRIVER=13000   CUDA version of the driver
     AWQ_EMULATOR_DEVICES=1        how many               AWQ_EMULATOR_MEMORY=BYTES   of each, 8 GB
     AWQ_EMULATOR_MULTIPROCESSORS=2   of each
     AWQ_EMULATOR_USED=BYTES       by other programs      AWQ_EMULATOR_NVRTC=13.0     version; else that of the file's name,
                                                          libnvrtc.so.12; a path with "nobuiltins" compiles
                                                          where its other half has been opened
     AWQ_EMULATOR_FAIL=cuMemAlloc_v2:3=2    the third call of it fails with code 2; *:7 the seventh call of all
     AWQ_EMULATOR_SCHEDULE, AWQ_EMULATOR_LATE    order of threads 0..3; 0: asynchronous copies of kernels land at once
     AWQ_EMULATOR_WRONG=1          what is copied to the host has a wrong bit in its last byte
     AWQ_EMULATOR_WRONG=awq_norm_f16    each number that this kernel stores has a wrong bit */
#include "emulator.h"

#include <chrono>
#include <dlfcn.h>
#include <link.h>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

static std::map<std::string, std::string> family_of; // kernel -> family
struct Family {
    explicit Family(const char *name)
    {
        for (auto &k : emu::kernels()) family_of.insert({k.first, name}); // keeps those that have one
    }
};

#include "../../tools/cuda/prims.cuh"
#include "../../tools/cuda/common.cuh"
#include "../../tools/cuda/block.cuh"
#include "../../tools/cuda/warpgroup.cuh"
// every family of tools/cuda; tests/test_cuda.c says when one is missing
#include "../../tools/cuda/attention.cuh"
static Family attention_family("attention");
#include "../../tools/cuda/dense.cuh"
static Family dense_family("dense");
#include "../../tools/cuda/experts.cuh"
static Family experts_family("experts");
#include "../../tools/cuda/experts_wgmma.cuh"
static Family experts_wgmma_family("experts_wgmma");
#include "../../tools/cuda/linear.cuh"
static Family linear_family("linear");
#include "../../tools/cuda/linear8.cuh"
static Family linear8_family("linear8");
#include "../../tools/cuda/moe.cuh"
static Family moe_family("moe");
#include "../../tools/cuda/quantize.cuh"
static Family quantize_family("quantize");
#include "../../tools/cuda/repack.cuh"
static Family repack_family("repack");
#include "../../tools/cuda/rows.cuh"
static Family rows_family("rows");
#include "../../tools/cuda/sample.cuh"
static Family sample_family("sample");
#include "../../tools/cuda/selftest.cuh"
static Family selftest_family("selftest");
#include "../../tools/cuda/wgmma.cuh"
static Family wgmma_family("wgmma");
#include "../../tools/cuda/wgmma_few.cuh"
static Family wgmma_few_family("wgmma_few");

typedef uint64_t CUdeviceptr;

enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY = 209,
    UNSUPPORTED_PTX = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901
};
static const std::map<int, std::pair<const char *, const char *>> errors = {
    {OK, {"CUDA_SUCCESS", "no error"}},
    {INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {NOT_INITIALIZED, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {NO_DEVICE, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {INVALID_IMAGE, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {INVALID_CONTEXT, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {NO_BINARY, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {UNSUPPORTED_PTX,
     {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."}},
    {INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {ILLEGAL_ADDRESS, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {LAUNCH_FAILED, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {NOT_SUPPORTED, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}},
    {803,
     {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"}},
    {CAPTURE_UNSUPPORTED,
     {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
    {CAPTURE_INVALIDATED,
     {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}}};

static const char *text_of(const char *name, const char *otherwise)
{
    const char *s = getenv(name);
    return s && *s ? s : otherwise;
}
static long long number(const char *name, long long otherwise)
{
    const char *s = text_of(name, nullptr);
    return s ? atoll(s) : otherwise;
}

// ---- objects
typedef std::function<int()> Operation;
struct Context {
    int device = 0, uses = 0;
};
struct Graph {
    std::vector<Operation> operations;
    bool ready = false; // instantiated
};
struct Stream {
    Context *context = nullptr;
    std::deque<Operation> queue;
    uint64_t queued = 0, done = 0;
    std::unique_ptr<Graph> recording;
    bool spoiled = false; // the recording
    bool global = false;  // it forbids other threads what they may not do while they record
    std::thread::id recorder;
};
struct Event {
    Stream *stream = nullptr;
    uint64_t at = 0;
    bool timing = true;
    std::chrono::steady_clock::time_point time;
};
struct Module {
    std::string family, elf, define;
    bool has(const std::string &kernel) const // as the text's #if would have it
    {
        auto ends = [&](const std::string &end) {
            return kernel.size() > end.size() && !kernel.compare(kernel.size() - end.size(), end.size(), end);
        };
        if (!kernel.compare(0, 10, "awq_embed_")) return true;
        if (!define.compare(0, 11, "AWQ_ATTEND ")) return ends("_" + define.substr(11));
        return define == "AWQ_NO_F16" ? !ends("_f16") : define == "AWQ_NO_BF16" ? !ends("_bf16") : true;
    }
};
struct Function {
    std::string name;
    size_t shared = 48 << 10;
    Module *module = nullptr;
};

static bool started;
static int lost; // what every call returns after a kernel has gone wrong
static std::string lost_why;
static std::map<int, Context> primary;
static std::set<Context *> contexts;
static std::set<Stream *> streams;
static std::set<Event *> events;
static std::map<Module *, std::vector<std::unique_ptr<Function>>> modules;
static std::set<Graph *> graphs;
static std::map<uintptr_t, size_t> device_memory, pinned;
static thread_local std::vector<Context *> stack;
static std::map<std::string, long> calls;
static long all_calls;

static bool inside(const std::map<uintptr_t, size_t> &blocks, uintptr_t at, size_t bytes)
{
    auto b = blocks.upper_bound(at);
    if (b == blocks.begin()) return false;
    --b;
    return at - b->first <= b->second && bytes <= b->second - (at - b->first);
}

// what AWQ_EMULATOR_FAIL says of this call; counts start anew when the variable changes
static int told_to_fail(const char *name, int code)
{
    static std::mutex lock; // NVRTC is called by several threads
    std::lock_guard<std::mutex> locked(lock);
    static std::string before;
    const char *told = text_of("AWQ_EMULATOR_FAIL", "");
    if (before != told) {
        before = told;
        calls.clear();
        all_calls = 0;
    }
    long mine = ++calls[name], all = ++all_calls;
    for (const char *p = told; *p; p += strcspn(p, ","), p += *p == ',') {
        std::string one(p, strcspn(p, ","));
        size_t colon = one.find(':'), equals = one.find('=');
        if (colon == std::string::npos) continue;
        std::string which = one.substr(0, colon);
        if ((which == name && mine == atol(one.c_str() + colon + 1))
            || (which == "*" && all == atol(one.c_str() + colon + 1)))
            return equals == std::string::npos ? code : atoi(one.c_str() + equals + 1);
    }
    return 0;
}

#define CALL(otherwise)                                                        \
    do {                                                                       \
        if (int told = told_to_fail(__func__, otherwise)) {                    \
            if (told == ILLEGAL_ADDRESS || told == LAUNCH_FAILED) lost = told; \
            return told;                                                       \
        }                                                                      \
    } while (0)
#define CALL_IN_CONTEXT(otherwise)                 \
    do {                                           \
        if (!started) return NOT_INITIALIZED;      \
        if (stack.empty()) return INVALID_CONTEXT; \
        if (lost) return lost;                     \
        CALL(otherwise);                           \
    } while (0)

static int run(Stream *s, uint64_t until)
{
    while (s->done < until && !s->queue.empty() && !lost) {
        Operation o = s->queue.front();
        s->queue.pop_front();
        s->done++;
        if (int code = o()) lost = code;
    }
    return lost;
}
static int run_all()
{
    for (Stream *s : streams) run(s, s->queued);
    return lost;
}
// queued, or recorded
static int add(Stream *s, const Operation &o)
{
    if (s->recording) {
        s->recording->operations.push_back(o);
        return OK;
    }
    s->queue.push_back(o);
    s->queued++;
    return number("AWQ_EMULATOR_EAGER", 0) ? run(s, s->queued) : OK;
}
static Stream *stream_of(void *handle)
{
    static Stream *none; // stream 0
    if (handle) return streams.count((Stream *)handle) ? (Stream *)handle : nullptr;
    if (!none) streams.insert(none = new Stream);
    return none;
}

static thread_local int capture_mode; // 0 global, 1 of the thread, 2 relaxed
// what a thread may not do while it records: allocate, load, wait; its recordings are spoiled
static bool recording()
{
    bool any = false;
    for (Stream *s : streams)
        if (s->recording && (s->recorder == std::this_thread::get_id() || (s->global && !capture_mode)))
            any = s->spoiled = true;
    return any;
}
#define NOT_RECORDING                                 \
    do {                                              \
        if (recording()) return CAPTURE_UNSUPPORTED;  \
    } while (0)

static size_t total_memory() { return (size_t)number("AWQ_EMULATOR_MEMORY", (long long)8 << 30); }
static size_t free_memory()
{
    size_t used = (size_t)number("AWQ_EMULATOR_USED", 0);
    for (auto &b : device_memory) used += b.second;
    return used < total_memory() ? total_memory() - used : 0;
}

// ---- what tests ask
extern "C" {
// objects not given back, and contexts left current on this thread; what they are in text
int awq_emulator_live(char *text, size_t cap)
{
    int n = 0;
    size_t streams_made = 0;
    for (Stream *s : streams) streams_made += s->context != nullptr;
    for (auto &p : primary) n += p.second.uses;
    snprintf(
        text, cap,
        "%d contexts, %zu current, %zu streams, %zu events, %zu modules, %zu graphs, %zu blocks, %zu pinned", n,
        stack.size(), streams_made, events.size(), modules.size(), graphs.size(), device_memory.size(),
        pinned.size());
    return n
           + (int)(stack.size() + streams_made + events.size() + modules.size() + graphs.size()
                   + device_memory.size() + pinned.size());
}
int awq_emulator_kernels(const char *family) // how many it has here
{
    int n = 0;
    for (auto &f : family_of) n += f.second == family;
    return n;
}
long awq_emulator_calls(const char *name)
{
    return *name == '*' ? all_calls : calls.count(name) ? calls[name] : 0;
}
const char *awq_emulator_error() { return lost_why.c_str(); }
// as a new process would find it
void awq_emulator_reset()
{
    lost = 0;
    lost_why.clear();
    calls.clear();
    all_calls = 0;
}

// ---- driver
int cuGetErrorName(int code, const char **name)
{
    auto e = errors.find(code);
    if (e == errors.end()) return INVALID_VALUE;
    *name = e->second.first;
    return OK;
}
int cuGetErrorString(int code, const char **words)
{
    auto e = errors.find(code);
    if (e == errors.end()) return INVALID_VALUE;
    *words = e->second.second;
    return OK;
}
int cuDriverGetVersion(int *version)
{
    CALL(INVALID_VALUE);
    *version = (int)number("AWQ_EMULATOR_DRIVER", 13000);
    return OK;
}
int cuInit(unsigned flags)
{
    CALL(NO_DEVICE);
    if (flags) return INVALID_VALUE;
    started = true;
    return OK;
}
int cuDeviceGetCount(int *count)
{
    CALL(INVALID_VALUE);
    if (!started) return NOT_INITIALIZED;
    *count = (int)number("AWQ_EMULATOR_DEVICES", 1);
    return OK;
}
int cuDeviceGet(int *device, int index)
{
    CALL(INVALID_VALUE);
    if (index < 0 || index >= number("AWQ_EMULATOR_DEVICES", 1)) return INVALID_DEVICE;
    *device = index;
    return OK;
}
int cuDeviceGetName(char *name, int bytes, int device)
{
    CALL(INVALID_VALUE);
    snprintf(name, (size_t)bytes, "Emulated GPU %d", device);
    return OK;
}
static int shared_of_block()
{
    int compute = (int)number("AWQ_EMULATOR_COMPUTE", AWQ_ARCH / 10);
    return compute == 75                    ? 65536
           : compute == 80 || compute == 87 ? 166912
           : compute >= 90 && compute < 120 ? 232448
                                            : 101376;
}
int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    CALL(INVALID_VALUE);
    int compute = (int)number("AWQ_EMULATOR_COMPUTE", AWQ_ARCH / 10);
    if (device < 0) return INVALID_DEVICE;
    switch (attribute) {
    case 16: *value = (int)number("AWQ_EMULATOR_MULTIPROCESSORS", 2); return OK;
    case 75: *value = compute / 10; return OK;
    case 76: *value = compute % 10; return OK;
    case 97: *value = shared_of_block(); return OK;
    }
    return INVALID_VALUE;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    CALL(INVALID_VALUE);
    (void)device;
    *bytes = total_memory();
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device)
{
    CALL(OUT_OF_MEMORY);
    if (lost) return lost;
    Context *c = &primary[device];
    c->device = device;
    c->uses++;
    contexts.insert(c);
    *context = c;
    return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device)
{
    auto p = primary.find(device);
    if (p == primary.end() || !p->second.uses) return INVALID_CONTEXT;
    if (--p->second.uses == 0) { // what lies in it goes with it
        lost = 0;
        contexts.erase(&p->second);
    }
    return OK;
}
int cuCtxCreate_v2(void **context, unsigned, int device)
{
    Context *c = new Context;
    c->device = device;
    contexts.insert(c);
    stack.push_back(c);
    *context = c;
    return OK;
}
int cuCtxDestroy_v2(void *context)
{
    if (!contexts.erase((Context *)context)) return INVALID_CONTEXT;
    if (!stack.empty() && stack.back() == context) stack.pop_back();
    lost = 0;
    delete (Context *)context;
    return OK;
}
int cuCtxGetCurrent(void **context)
{
    *context = stack.empty() ? nullptr : stack.back();
    return OK;
}
int cuCtxPushCurrent_v2(void *context)
{
    CALL(INVALID_CONTEXT);
    if (!contexts.count((Context *)context)) return INVALID_CONTEXT;
    stack.push_back((Context *)context);
    return OK;
}
int cuCtxPopCurrent_v2(void **context)
{
    if (stack.empty()) return INVALID_CONTEXT;
    if (context) *context = stack.back();
    stack.pop_back();
    return OK;
}
int cuCtxGetDevice(int *device)
{
    CALL_IN_CONTEXT(INVALID_CONTEXT);
    *device = stack.back()->device;
    return OK;
}
int cuMemGetInfo_v2(size_t *available, size_t *total)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    *available = free_memory();
    *total = total_memory();
    return OK;
}
int cuMemAlloc_v2(CUdeviceptr *ptr, size_t bytes)
{
    CALL_IN_CONTEXT(OUT_OF_MEMORY);
    NOT_RECORDING;
    if (!bytes) return INVALID_VALUE;
    if (bytes > free_memory()) return OUT_OF_MEMORY;
    void *p = aligned_alloc(512, (bytes + 511) / 512 * 512);
    if (!p) return OUT_OF_MEMORY;
    memset(p, 0xD5, bytes); // whatever was there
    device_memory[(uintptr_t)p] = bytes;
    emu::add_buffer(p, bytes);
    *ptr = (CUdeviceptr)(uintptr_t)p;
    return OK;
}
int cuMemFree_v2(CUdeviceptr ptr)
{
    auto b = device_memory.find((uintptr_t)ptr);
    NOT_RECORDING;
    if (b == device_memory.end()) return INVALID_VALUE;
    run_all();
    emu::remove_buffer((void *)b->first);
    free((void *)b->first);
    device_memory.erase(b);
    return lost;
}
int cuMemAllocHost_v2(void **ptr, size_t bytes)
{
    CALL_IN_CONTEXT(OUT_OF_MEMORY);
    NOT_RECORDING;
    *ptr = aligned_alloc(512, (bytes + 511) / 512 * 512);
    if (!*ptr) return OUT_OF_MEMORY;
    pinned[(uintptr_t)*ptr] = bytes;
    return OK;
}
int cuMemFreeHost(void *ptr)
{
    run_all();
    if (!pinned.erase((uintptr_t)ptr)) return INVALID_VALUE;
    free(ptr);
    return lost;
}
// a copy begins when all kernels ahead have ended, and the next kernel when the copy has
static void copied() { emu::unfinished.clear(); }
int cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t n, void *stream)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Stream *s = stream_of(stream);
    if (!s) return INVALID_HANDLE;
    if (!inside(device_memory, (uintptr_t)to, n)) return INVALID_VALUE;
    if (inside(pinned, (uintptr_t)from, n)) // read when its turn comes
        return add(s, [=] { return copied(), memcpy((void *)to, from, n), OK; });
    if (s->recording) return s->spoiled = true, CAPTURE_UNSUPPORTED;
    std::string copy((const char *)from, n);
    return add(s, [=] { return copied(), memcpy((void *)to, copy.data(), n), OK; });
}
int cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t n, void *stream)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Stream *s = stream_of(stream);
    if (!s) return INVALID_HANDLE;
    if (!inside(device_memory, (uintptr_t)from, n)) return INVALID_VALUE;
    if (!inside(pinned, (uintptr_t)to, n) && s->recording) return s->spoiled = true, CAPTURE_UNSUPPORTED;
    return add(s, [=] {
        copied();
        memcpy(to, (void *)from, n);
        if (n && number("AWQ_EMULATOR_WRONG", 0) == 1) ((char *)to)[n - 1] ^= 1;
        return OK;
    });
}
int cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, void *stream)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Stream *s = stream_of(stream);
    if (!s) return INVALID_HANDLE;
    if (!inside(device_memory, (uintptr_t)to, n) || !inside(device_memory, (uintptr_t)from, n)) return INVALID_VALUE;
    return add(s, [=] { return copied(), memcpy((void *)to, (void *)from, n), OK; });
}
int cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n, void *stream)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Stream *s = stream_of(stream);
    if (!s) return INVALID_HANDLE;
    if (!inside(device_memory, (uintptr_t)to, n)) return INVALID_VALUE;
    return add(s, [=] { return copied(), memset((void *)to, value, n), OK; });
}
int cuStreamCreate(void **stream, unsigned)
{
    CALL_IN_CONTEXT(OUT_OF_MEMORY);
    Stream *s = new Stream;
    s->context = stack.back();
    streams.insert(s);
    *stream = s;
    return OK;
}
int cuStreamDestroy_v2(void *stream)
{
    Stream *s = (Stream *)stream;
    if (!streams.count(s)) return INVALID_HANDLE;
    run(s, s->queued);
    for (Event *e : events)
        if (e->stream == s) e->stream = nullptr;
    streams.erase(s);
    delete s;
    return lost;
}
int cuStreamSynchronize(void *stream)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Stream *s = stream_of(stream);
    if (!s) return INVALID_HANDLE;
    if (s->recording) return s->spoiled = true, CAPTURE_UNSUPPORTED;
    NOT_RECORDING;
    return run(s, s->queued);
}
int cuStreamGetCtx(void *stream, void **context)
{
    CALL(INVALID_VALUE);
    if (!streams.count((Stream *)stream)) return INVALID_HANDLE;
    *context = ((Stream *)stream)->context;
    return OK;
}
int cuThreadExchangeStreamCaptureMode(int *mode)
{
    if (*mode < 0 || *mode > 2) return INVALID_VALUE;
    std::swap(*mode, capture_mode);
    return OK;
}
int cuStreamBeginCapture_v2(void *stream, int mode)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Stream *s = stream_of(stream);
    if (!stream || !s || s->recording) return INVALID_VALUE;
    s->recording.reset(new Graph);
    s->spoiled = false;
    s->global = !mode;
    s->recorder = std::this_thread::get_id();
    return OK;
}
int cuStreamEndCapture(void *stream, void **graph)
{
    Stream *s = stream_of(stream);
    *graph = nullptr;
    if (!s || !s->recording) return INVALID_VALUE;
    std::unique_ptr<Graph> g(std::move(s->recording));
    CALL_IN_CONTEXT(INVALID_VALUE);
    if (s->spoiled) return CAPTURE_INVALIDATED;
    graphs.insert(g.get());
    *graph = g.release();
    return OK;
}
int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long)
{
    CALL_IN_CONTEXT(OUT_OF_MEMORY);
    if (!graphs.count((Graph *)graph)) return INVALID_VALUE;
    Graph *g = new Graph(*(Graph *)graph);
    g->ready = true;
    graphs.insert(g);
    *exec = g;
    return OK;
}
int cuGraphLaunch(void *exec, void *stream)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Stream *s = stream_of(stream);
    Graph *g = (Graph *)exec;
    if (!s || !graphs.count(g) || !g->ready) return INVALID_VALUE;
    for (auto &o : g->operations)
        if (int code = add(s, o)) return code;
    return OK;
}
int cuGraphDestroy(void *graph)
{
    if (!graphs.erase((Graph *)graph)) return INVALID_VALUE;
    delete (Graph *)graph;
    return OK;
}
int cuGraphExecDestroy(void *exec) { return cuGraphDestroy(exec); }
int cuEventCreate(void **event, unsigned flags)
{
    CALL_IN_CONTEXT(OUT_OF_MEMORY);
    Event *e = new Event;
    e->timing = !(flags & 2);
    events.insert(e);
    *event = e;
    return OK;
}
int cuEventDestroy_v2(void *event)
{
    if (!events.count((Event *)event)) return INVALID_HANDLE;
    run_all(); // the queue may set its time
    events.erase((Event *)event);
    delete (Event *)event;
    return lost;
}
int cuEventRecord(void *event, void *stream)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Stream *s = stream_of(stream);
    Event *e = (Event *)event;
    if (!s || !events.count(e)) return INVALID_HANDLE;
    if (s->recording) return s->spoiled = true, CAPTURE_UNSUPPORTED;
    e->stream = s;
    e->at = s->queued + 1;
    return add(s, [=] { return e->time = std::chrono::steady_clock::now(), OK; });
}
int cuEventSynchronize(void *event)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Event *e = (Event *)event;
    NOT_RECORDING;
    if (!events.count(e)) return INVALID_HANDLE;
    return e->stream ? run(e->stream, e->at) : OK;
}
int cuEventElapsedTime(float *ms, void *from, void *to)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    Event *a = (Event *)from, *b = (Event *)to;
    if (!events.count(a) || !events.count(b) || !a->timing || !b->timing) return INVALID_HANDLE;
    if (!a->stream || !b->stream || a->stream->done < a->at || b->stream->done < b->at) return NOT_READY;
    *ms = std::chrono::duration<float, std::milli>(b->time - a->time).count();
    return OK;
}

// ---- modules and kernels
static uint64_t fnv(const char *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325ull;
    while (n--) h = (h ^ (unsigned char)*p++) * 0x100000001b3ull;
    return h;
}
// "AWQ emulator|<architecture>|<family>|<define of the part>|<hash of the text>|<hash of all before>"
static int read_image(const char *image, std::string *family, std::string *define)
{
    char arch[32], name[64], part[64];
    unsigned long long text, hash;
    int length = 0, compute = (int)number("AWQ_EMULATOR_COMPUTE", AWQ_ARCH / 10);
    std::string start(image, strnlen(image, 400));
    if (sscanf(start.c_str(), "AWQ emulator|%31[^|]|%63[^|]|%63[^|]|%llx%n", arch, name, part, &text, &length)
            != 4
        || sscanf(start.c_str() + length, "|%llx", &hash) != 1 || hash != fnv(image, (size_t)length))
        return INVALID_IMAGE;
    bool ptx = !strncmp(arch, "compute_", 8), exact = arch[strlen(arch) - 1] == 'a';
    int made = atoi(strchr(arch, '_') + 1);
    if (ptx ? made > compute : exact ? made != compute : made / 10 != compute / 10 || made > compute)
        return NO_BINARY;
    *family = name;
    *define = part;
    return OK;
}
int cuModuleLoadDataEx(void **module, const void *image, unsigned n, int *options, void **values)
{
    CALL_IN_CONTEXT(INVALID_IMAGE);
    NOT_RECORDING;
    Module m;
    const unsigned char *p = (const unsigned char *)image;
    if (!memcmp(p, "\177ELF", 4)) { // of a real NVRTC: as long as its table of sections says, which is its end
        uint64_t table;
        uint16_t size, count;
        memcpy(&table, p + 40, 8);
        memcpy(&size, p + 58, 2);
        memcpy(&count, p + 60, 2);
        m.elf.assign((const char *)image, (size_t)table + (size_t)size * count);
    } else if (int code = read_image((const char *)image, &m.family, &m.define)) {
        for (unsigned i = 0; i < n; i++)
            if (options[i] == 5)
                snprintf((char *)values[i], 64, "emulator: error : this is not for this device\n");
        return code;
    }
    Module *made = new Module(m);
    modules[made];
    *module = made;
    return OK;
}
int cuModuleUnload(void *module)
{
    run_all();
    if (!modules.erase((Module *)module)) return INVALID_HANDLE;
    delete (Module *)module;
    return lost;
}
int cuModuleGetFunction(void **function, void *module, const char *name)
{
    CALL_IN_CONTEXT(NOT_FOUND);
    auto m = modules.find((Module *)module);
    if (m == modules.end()) return INVALID_HANDLE;
    auto f = family_of.find(name);
    if (f == family_of.end()) return NOT_FOUND;
    if (m->first->elf.empty() ? m->first->family != f->second || !m->first->has(name)
                              : m->first->elf.find(std::string(".text.") + name + '\0') == std::string::npos)
        return NOT_FOUND;
    m->second.emplace_back(new Function);
    m->second.back()->name = name;
    m->second.back()->module = m->first;
    *function = m->second.back().get();
    return OK;
}
int cuFuncSetAttribute(void *function, int attribute, int value)
{
    CALL_IN_CONTEXT(INVALID_VALUE);
    if (attribute != 8 || value < 0 || value > shared_of_block()) return INVALID_VALUE;
    ((Function *)function)->shared = (size_t)value;
    return OK;
}
static int launch(Function *f, dim3 grid, dim3 block, unsigned shared, void *stream, void **params, bool overlaps)
{
    Stream *s = stream_of(stream);
    auto k = emu::kernels().find(f->name);
    if (!s) return INVALID_HANDLE;
    if (!modules.count(f->module)) return INVALID_HANDLE;
    if (shared > f->shared || !grid.x || !grid.y || !grid.z
        || block.x * block.y * block.z > (unsigned)k->second.max_threads)
        return INVALID_VALUE;
    // arguments are copied now, as the driver does
    auto copies = std::make_shared<std::vector<std::string>>();
    for (size_t i = 0; i < k->second.sizes.size(); i++)
        copies->emplace_back((const char *)params[i], k->second.sizes[i]);
    std::string name = f->name;
    return add(s, [=] {
        std::vector<void *> at;
        std::vector<std::max_align_t> room;
        size_t n = 0, used = 0;
        for (auto &c : *copies) n += (c.size() + 127) / 64 * 64 / sizeof(std::max_align_t);
        room.resize(n + 8);
        for (auto &c : *copies) { // aligned as a tensor map wants it
            uintptr_t p = ((uintptr_t)room.data() + used + 63) / 64 * 64;
            memcpy((void *)p, c.data(), c.size());
            at.push_back((void *)p);
            used = p + c.size() - (uintptr_t)room.data();
        }
        emu::schedule = (int)number("AWQ_EMULATOR_SCHEDULE", 0) & 3;
        emu::eager = !number("AWQ_EMULATOR_LATE", 1);
        emu::wrong = name == text_of("AWQ_EMULATOR_WRONG", "");
        emu::tracks = true;
        emu::overlaps = overlaps;
        const bool done = emu::launch_by_name(name.c_str(), grid, block, shared, at.data());
        emu::wrong = emu::overlaps = false;
        if (done) return (int)OK;
        lost_why = name + ": " + emu::error();
        return (int)(strstr(emu::error(), "global memory") ? ILLEGAL_ADDRESS : LAUNCH_FAILED);
    });
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra)
{
    CALL_IN_CONTEXT(LAUNCH_FAILED);
    if (extra) return INVALID_VALUE;
    return launch((Function *)function, dim3(gx, gy, gz), dim3(bx, by, bz), shared, stream, params,
                  false);
}
struct LaunchConfig {
    unsigned grid[3], block[3], shared;
    void *stream;
    struct {
        int id, pad;
        union {
            int flag;
            uint64_t room[8];
        };
    } * attributes;
    unsigned n;
};
int cuLaunchKernelEx(const LaunchConfig *c, void *function, void **params, void **extra)
{
    CALL_IN_CONTEXT(LAUNCH_FAILED);
    if (extra) return INVALID_VALUE;
    for (unsigned i = 0; i < c->n; i++)
        if (c->attributes[i].id != 6 || number("AWQ_EMULATOR_COMPUTE", AWQ_ARCH / 10) < 90)
            return NOT_SUPPORTED;
    return launch((Function *)function, dim3(c->grid[0], c->grid[1], c->grid[2]),
                  dim3(c->block[0], c->block[1], c->block[2]), c->shared, c->stream, params, c->n > 0);
}

// ---- NVRTC
struct Program {
    std::string text, name, image, ptx, log;
};
static const char *own_path()
{
    static std::string path;
    Dl_info info;
    if (path.empty() && dladdr((void *)own_path, &info) && info.dli_fname) path = info.dli_fname;
    return path.c_str();
}
static void version_of(int *major, int *minor)
{
    const char *version = text_of("AWQ_EMULATOR_NVRTC", nullptr), *named = strstr(own_path(), "libnvrtc.so.");
    if (!version) version = named ? named + 12 : "13.0";
    *major = atoi(version);
    *minor = strchr(version, '.') ? atoi(strchr(version, '.') + 1) : 0;
}
static int other_half_is_open() // as the loader finds it by name alone
{
    int major, minor, found = 0;
    version_of(&major, &minor);
    std::string name = "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor);
    std::pair<std::string, int *> look(name, &found);
    dl_iterate_phdr(
        [](struct dl_phdr_info *info, size_t, void *arg) {
            auto *l = (std::pair<std::string, int *> *)arg;
            const char *base = strrchr(info->dlpi_name, '/');
            *l->second |= base && l->first == base + 1;
            return 0;
        },
        &look);
    return found;
}
int nvrtcVersion(int *major, int *minor)
{
    CALL(11);
    version_of(major, minor);
    return OK;
}
static std::vector<int> archs()
{
    int major, minor;
    version_of(&major, &minor);
    if (major >= 13) return {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
    if (major == 12 && minor >= 9) return {50, 75, 80, 86, 87, 89, 90, 100, 101, 103, 120, 121};
    if (major == 12 || minor >= 8) return {50, 75, 80, 86, 87, 89, 90};
    return {50, 75, 80, 86, 87};
}
int nvrtcGetNumSupportedArchs(int *count)
{
    CALL(11);
    *count = (int)archs().size();
    return OK;
}
int nvrtcGetSupportedArchs(int *to)
{
    CALL(11);
    for (int a : archs()) *to++ = a;
    return OK;
}
int nvrtcCreateProgram(void **program, const char *text, const char *name, int n, const char *const *,
                       const char *const *)
{
    CALL(1);
    if (n) return 3;
    Program *p = new Program;
    p->text = text;
    p->name = name;
    *program = p;
    return OK;
}
int nvrtcDestroyProgram(void **program)
{
    delete (Program *)*program;
    *program = nullptr;
    return OK;
}
int nvrtcCompileProgram(void *program, int n, const char *const *options)
{
    Program *p = (Program *)program;
    std::string arch, family = p->name.substr(0, p->name.find('.'));
    int major, minor, known = 0;
    char line[400];
    version_of(&major, &minor);
    p->log = p->name + "(7): warning: the emulator compiles nothing\n" + p->name
             + "(8): error: the emulator was told to fail\n\n1 error detected in the compilation of \""
             + p->name + "\".\n";
    CALL(6);
    if (strstr(own_path(), "nobuiltins") && !other_half_is_open()) return 7;
    for (int i = 0; i < n; i++)
        if (!strncmp(options[i], "--gpu-architecture=", 19)) arch = options[i] + 19;
        else if (strcmp(options[i], "--std=c++17")) return 5;
    size_t digits = arch.find_first_of("0123456789");
    if (digits == std::string::npos) return 5;
    for (int a : archs()) known |= a == atoi(arch.c_str() + digits);
    if (!known || (arch.back() == 'a' && major < 12)) return 5;
    if (p->text.find("KERNEL") == std::string::npos && p->text.find("__global__") == std::string::npos)
        return 6;
    p->log.clear();
    std::string define = p->text.compare(0, 8, "#define ") ? "all" : p->text.substr(8, p->text.find('\n') - 8);
    snprintf(line, sizeof line, "AWQ emulator|%s|%s|%s|%016llx", arch.c_str(), family.c_str(), define.c_str(),
             (unsigned long long)fnv(p->text.data(), p->text.size()));
    p->image = line;
    snprintf(line, sizeof line, "|%016llx", (unsigned long long)fnv(p->image.data(), p->image.size()));
    p->image += line;
    if (!arch.compare(0, 8, "compute_")) p->ptx.swap(p->image);
    return OK;
}
int nvrtcGetProgramLogSize(void *program, size_t *bytes)
{
    CALL(11);
    *bytes = ((Program *)program)->log.size() + 1;
    return OK;
}
int nvrtcGetProgramLog(void *program, char *log)
{
    CALL(11);
    strcpy(log, ((Program *)program)->log.c_str());
    return OK;
}
int nvrtcGetCUBINSize(void *program, size_t *bytes)
{
    CALL(11);
    *bytes = ((Program *)program)->image.empty() ? 0 : ((Program *)program)->image.size() + 1;
    return OK;
}
int nvrtcGetCUBIN(void *program, char *cubin)
{
    CALL(11);
    strcpy(cubin, ((Program *)program)->image.c_str());
    return OK;
}
int nvrtcGetPTXSize(void *program, size_t *bytes)
{
    CALL(11);
    *bytes = ((Program *)program)->ptx.size() + 1;
    return OK;
}
int nvrtcGetPTX(void *program, char *ptx)
{
    CALL(11);
    strcpy(ptx, ((Program *)program)->ptx.c_str());
    return OK;
}
}
