/* abi.cpp - the prototypes, numbers and structures of awq_cuda.h are those of NVIDIA's cuda.h and nvrtc.h

       c++ -std=c++17 -I/usr/local/cuda/include -o abi tests/cuda/abi.cpp -lm -lpthread -ldl && ./abi

   Each function: as many parameters, each of the same size and kind (pointer or not) as in the header. Symbols: the
   name that the header's macros give. All of it at compile time but for the names. */
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../../awq_cuda.h"

#include <cuda.h>
#include <nvrtc.h>
#include <type_traits>

template <class A, class B>
constexpr bool same_kind = sizeof(A) == sizeof(B)
                           && std::is_pointer<A>::value
                                  == std::is_pointer<B>::value &&std::is_floating_point<A>::value
                                  == std::is_floating_point<B>::value;
template <class... A> struct list {
};
template <class A, class B> constexpr bool same_list = false; // not as many
template <class... A, class... B> constexpr bool same_list<list<A...>, list<B...>> = [](auto equal) constexpr
{
    if constexpr (decltype(equal)::value) return (same_kind<A, B> && ...);
    else return false;
}
(std::integral_constant<bool, sizeof...(A) == sizeof...(B)>());
template <class A, class B> constexpr bool same = false;
template <class R, class... A, class S, class... B>
constexpr bool same<R (*)(A...), S (*)(B...)> = same_kind<R, S> &&same_list<list<A...>, list<B...>>;

/* cuda.h says which of its functions a name stands for by macros: #call and its expansion */
#define TEXT(x) #x
#define EXPANDED(x) TEXT(x)
static int checked, wrong;
static void check_name(const char *symbol, const char *header)
{
    checked++;
    if (strcmp(symbol, header)) {
        /* older ones that every driver still has */
        if (!strcmp(symbol, "cuEventElapsedTime") && !strcmp(header, "cuEventElapsedTime_v2")) return;
        printf("    %s is %s in the header\n", symbol, header);
        wrong++;
    }
}

#define DRIVER(field, call)                                                                              \
    static_assert(same<decltype(awq__cuda_driver::field), decltype(&call)>, #call);                      \
    static const struct field##_name {                                                                   \
        field##_name()                                                                                   \
        {                                                                                                \
            for (const awq__cuda_symbol *s = awq__cuda_driver_symbols; s->name; s++)                     \
                if (s->offset == offsetof(awq__cuda_driver, field)) check_name(s->name, EXPANDED(call)); \
        }                                                                                                \
    } field##_checked;

DRIVER(GetErrorName, cuGetErrorName)
DRIVER(GetErrorString, cuGetErrorString)
DRIVER(Init, cuInit)
DRIVER(DriverGetVersion, cuDriverGetVersion)
DRIVER(DeviceGetCount, cuDeviceGetCount)
DRIVER(DeviceGet, cuDeviceGet)
DRIVER(DeviceGetName, cuDeviceGetName)
DRIVER(DeviceGetAttribute, cuDeviceGetAttribute)
DRIVER(DeviceTotalMem, cuDeviceTotalMem)
DRIVER(DevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain)
DRIVER(DevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease)
DRIVER(CtxPushCurrent, cuCtxPushCurrent)
DRIVER(CtxPopCurrent, cuCtxPopCurrent)
DRIVER(CtxGetDevice, cuCtxGetDevice)
DRIVER(MemGetInfo, cuMemGetInfo)
DRIVER(MemAlloc, cuMemAlloc)
DRIVER(MemFree, cuMemFree)
DRIVER(MemAllocHost, cuMemAllocHost)
DRIVER(MemFreeHost, cuMemFreeHost)
DRIVER(MemcpyHtoDAsync, cuMemcpyHtoDAsync)
DRIVER(MemcpyDtoHAsync, cuMemcpyDtoHAsync)
DRIVER(MemcpyDtoDAsync, cuMemcpyDtoDAsync)
DRIVER(MemsetD8Async, cuMemsetD8Async)
DRIVER(StreamCreate, cuStreamCreate)
DRIVER(StreamDestroy, cuStreamDestroy)
DRIVER(StreamSynchronize, cuStreamSynchronize)
DRIVER(StreamGetCtx, cuStreamGetCtx)
DRIVER(StreamBeginCapture, cuStreamBeginCapture)
DRIVER(ThreadCaptureMode, cuThreadExchangeStreamCaptureMode)
DRIVER(StreamEndCapture, cuStreamEndCapture)
DRIVER(EventCreate, cuEventCreate)
DRIVER(EventDestroy, cuEventDestroy)
DRIVER(EventRecord, cuEventRecord)
DRIVER(EventSynchronize, cuEventSynchronize)
DRIVER(EventElapsedTime, cuEventElapsedTime)
DRIVER(ModuleLoadDataEx, cuModuleLoadDataEx)
DRIVER(ModuleUnload, cuModuleUnload)
DRIVER(ModuleGetFunction, cuModuleGetFunction)
DRIVER(FuncSetAttribute, cuFuncSetAttribute)
DRIVER(LaunchKernel, cuLaunchKernel)
DRIVER(LaunchKernelEx, cuLaunchKernelEx)
DRIVER(GraphInstantiate, cuGraphInstantiateWithFlags)
DRIVER(GraphLaunch, cuGraphLaunch)
DRIVER(GraphExecDestroy, cuGraphExecDestroy)
DRIVER(GraphDestroy, cuGraphDestroy)

#define NVRTC(field) static_assert(same<decltype(awq__cuda_nvrtc::field), decltype(&nvrtc##field)>, #field);
NVRTC(Version)
NVRTC(GetNumSupportedArchs)
NVRTC(GetSupportedArchs)
NVRTC(CreateProgram)
NVRTC(DestroyProgram)
NVRTC(CompileProgram)
NVRTC(GetProgramLogSize)
NVRTC(GetProgramLog)
NVRTC(GetCUBINSize)
NVRTC(GetCUBIN)
NVRTC(GetPTXSize)
NVRTC(GetPTX)

#define NUMBER(ours, theirs) static_assert((int)ours == (int)theirs, #ours)
NUMBER(AWQ__CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
NUMBER(AWQ__CU_STUB, CUDA_ERROR_STUB_LIBRARY);
NUMBER(AWQ__CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
NUMBER(AWQ__CU_DRIVER_MISMATCH, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
NUMBER(AWQ__CU_MULTIPROCESSORS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
NUMBER(AWQ__CU_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
NUMBER(AWQ__CU_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
NUMBER(AWQ__CU_SHARED_OPTIN, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
NUMBER(AWQ__CU_DYNAMIC_SHARED, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
NUMBER(AWQ__CU_JIT_ERRORS, CU_JIT_ERROR_LOG_BUFFER);
NUMBER(AWQ__CU_JIT_ERROR_BYTES, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
NUMBER(AWQ__CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
NUMBER(AWQ__CU_EVENT_NO_TIMING, CU_EVENT_DISABLE_TIMING);
NUMBER(AWQ__CU_CAPTURE_THREAD, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
NUMBER(AWQ__CU_PROGRAMMATIC, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
NUMBER(AWQ__NVRTC_BUILTINS, NVRTC_ERROR_BUILTIN_OPERATION_FAILURE);
/* what spoils a context, by its number in awq__cuda_is_lost */
NUMBER(214, CUDA_ERROR_ECC_UNCORRECTABLE);
NUMBER(220, CUDA_ERROR_NVLINK_UNCORRECTABLE);
NUMBER(226, CUDA_ERROR_CONTAINED);
NUMBER(700, CUDA_ERROR_ILLEGAL_ADDRESS);
NUMBER(702, CUDA_ERROR_LAUNCH_TIMEOUT);
NUMBER(709, CUDA_ERROR_CONTEXT_IS_DESTROYED);
NUMBER(710, CUDA_ERROR_ASSERT);
NUMBER(714, CUDA_ERROR_HARDWARE_STACK_ERROR);
NUMBER(719, CUDA_ERROR_LAUNCH_FAILED);
NUMBER(721, CUDA_ERROR_TENSOR_MEMORY_LEAK);
NUMBER(999, CUDA_ERROR_UNKNOWN);

#define FIELD(ours, a, theirs, b) \
    static_assert(offsetof(ours, a) == offsetof(theirs, b) && sizeof(ours::a) == sizeof(theirs::b), #b)
static_assert(sizeof(awq__cu_config) == sizeof(CUlaunchConfig), "CUlaunchConfig");
FIELD(awq__cu_config, grid_x, CUlaunchConfig, gridDimX);
FIELD(awq__cu_config, grid_z, CUlaunchConfig, gridDimZ);
FIELD(awq__cu_config, block_x, CUlaunchConfig, blockDimX);
FIELD(awq__cu_config, block_z, CUlaunchConfig, blockDimZ);
FIELD(awq__cu_config, shared, CUlaunchConfig, sharedMemBytes);
FIELD(awq__cu_config, stream, CUlaunchConfig, hStream);
FIELD(awq__cu_config, attributes, CUlaunchConfig, attrs);
FIELD(awq__cu_config, n_attributes, CUlaunchConfig, numAttrs);
static_assert(sizeof(awq__cu_attribute) == sizeof(CUlaunchAttribute), "CUlaunchAttribute");
FIELD(awq__cu_attribute, id, CUlaunchAttribute, id);
FIELD(awq__cu_attribute, value, CUlaunchAttribute, value);
static_assert(offsetof(awq__cu_attribute, value.flag)
                  == offsetof(CUlaunchAttribute, value.programmaticStreamSerializationAllowed),
              "flag");
NUMBER(sizeof(int), sizeof(CUresult));
NUMBER(sizeof(uint64_t), sizeof(CUdeviceptr));

int main()
{
    int driver = (int)(sizeof awq__cuda_driver_symbols / sizeof awq__cuda_driver_symbols[0]) - 1;
    if (checked != driver) printf("    %d of %d functions are compared\n", checked, driver), wrong++;
    printf("%-8s cuda.h %d.%d: %d functions and 12 of NVRTC\n", wrong ? "FAILED" : "ok", CUDA_VERSION / 1000,
           CUDA_VERSION % 1000 / 10, checked);
    printf("%d passed, %d failed, 0 skipped\n", !wrong, !!wrong);
    return wrong != 0;
}
