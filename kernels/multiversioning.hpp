// What every kernel shares: how a function is compiled for several instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

// One function, compiled for AVX-512, AVX2 and the baseline, chosen when the library is loaded.
// The mechanism (ifunc) exists on glibc only, and sanitizers do not survive it. The byte and word
// instructions of x86-64-v4 suit the masks; older compilers cannot dispatch on it.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && \
    !defined(TENSOR_OPTIX_SANITIZE)
#if !defined(__clang__) && __GNUC__ >= 12
#define TENSOR_OPTIX_CLONES \
    __attribute__((target_clones("arch=x86-64-v4", "avx512f", "avx2", "default")))
#else
#define TENSOR_OPTIX_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define TENSOR_OPTIX_CLONES
#endif

// A helper must be inlined into its clone, or it would stay at the baseline instruction set.
#if defined(__GNUC__)
#define TENSOR_OPTIX_INLINE inline __attribute__((always_inline))
#define TENSOR_OPTIX_PREFETCH(address) __builtin_prefetch(address)
#else
#define TENSOR_OPTIX_INLINE inline
#define TENSOR_OPTIX_PREFETCH(address) static_cast<void>(address)
#endif

#if defined(_MSC_VER)
#define TENSOR_OPTIX_RESTRICT __restrict
#else
#define TENSOR_OPTIX_RESTRICT __restrict__
#endif
