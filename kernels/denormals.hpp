// Numbers too small to be normal: a processor takes a hundred times as long for each.
#pragma once

#include <cstdint>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace tensor_optix {

// While it lives, this thread takes such numbers as 0. Units that no longer answer have gradients
// of 0, so that the means of these fade until they are of that kind, and stay so.
class FlushedDenormals {
  public:
#if defined(__SSE__)
    FlushedDenormals() : before_(_mm_getcsr()) {
        constexpr unsigned kResults = 0x8000, kOperands = 0x0040;
        _mm_setcsr(before_ | kResults | kOperands);
    }
    ~FlushedDenormals() {
        _mm_setcsr(before_);
    }
#elif defined(__aarch64__)
    FlushedDenormals() {
        constexpr std::uint64_t kBoth = std::uint64_t{1} << 24;
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" ::"r"(before_ | kBoth));
    }
    ~FlushedDenormals() {
        asm volatile("msr fpcr, %0" ::"r"(before_));
    }
#else
    FlushedDenormals() = default;
#endif
    FlushedDenormals(const FlushedDenormals&) = delete;
    FlushedDenormals& operator=(const FlushedDenormals&) = delete;

#if defined(__SSE__)
  private:
    unsigned before_;
#elif defined(__aarch64__)
  private:
    std::uint64_t before_;
#endif
};

}  // namespace tensor_optix
