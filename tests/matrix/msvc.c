/* Read by clang as MSVC would: its macros, none of gcc's or clang's own, and every word of theirs an error. Headers are
   mingw-w64's, read before. tests/matrix/run.sh has the command. */
#define __GNUC__ 4
#define __GNUC_MINOR__ 2
#include <immintrin.h>
#include <windows.h>
#include <errno.h>
#include <fcntl.h>
#include <intrin.h>
#include <math.h>
#include <process.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#undef __clang__
#undef __GNUC__
#undef __forceinline
#undef __attribute__
#define __attribute__(x) no::attribute
#define __asm__ no::assembler
#define __thread no::thread
#define __typeof__ no::typeof
#define __extension__ no::extension
#define __builtin_prefetch no::builtin
#define AWQ_IMPLEMENTATION
#include "../../awq.h"
#define AWQ_CUDA_IMPLEMENTATION
#include "../../awq_cuda.h"
