// Lets an unchanged .cu file compile as C++: the part of CUDA's language that the kernels use.
//
// Whatever is not here, the kernels do not use; a kernel that needs more adds it here.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#define SHIM_HOST 1

namespace shim {

struct Index {
  unsigned x, y, z;
};

// Of the fiber that runs.
struct Place {
  Index thread, block, block_dim, grid_dim;
  unsigned char* shared;
};
extern thread_local Place place;

enum class Vote { None, Or, And, Count };
enum class Warp { Sync, Shuffle, Ballot, Add, Max, Min };

// Waits for every thread of the block at this very barrier; gives the vote.
int barrier(Vote vote, int value, const char* file, int line);
// Waits for the lanes of `mask`; gives what `op` asks of their values.
uint32_t warp(Warp op, uint32_t mask, uint32_t value, unsigned source, const char* file, int line);
// A place where another thread may run.
void may_yield();
// Tells the checks of an atomic operation.
void note_atomic(void* at);

inline unsigned linear_thread() {
  return place.thread.x +
         place.block_dim.x * (place.thread.y + place.block_dim.y * place.thread.z);
}
inline unsigned lane() { return linear_thread() % 32; }

template <class T>
__attribute__((no_sanitize_thread, noinline)) T atomic(T* at, T (*change)(T, T), T value) {
  may_yield();
  note_atomic(at);
  T old = *at;
  *at = change(old, value);
  return old;
}

template <class To, class From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

inline float larger(float a, float b) { return (b != b || a > b) ? a : b; }
inline float smaller(float a, float b) { return (b != b || a < b) ? a : b; }

}  // namespace shim

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#define threadIdx (shim::place.thread)
#define blockIdx (shim::place.block)
#define blockDim (shim::place.block_dim)
#define gridDim (shim::place.grid_dim)
#define SHARED_MEMORY (shim::place.shared)

#define __syncthreads() ((void)shim::barrier(shim::Vote::None, 0, __FILE__, __LINE__))
#define __syncthreads_or(v) shim::barrier(shim::Vote::Or, (v), __FILE__, __LINE__)
#define __syncthreads_and(v) shim::barrier(shim::Vote::And, (v), __FILE__, __LINE__)
#define __syncthreads_count(v) shim::barrier(shim::Vote::Count, (v), __FILE__, __LINE__)

#define SHIM_WARP(op, mask, value, source) \
  shim::warp(shim::Warp::op, (mask), (value), (source), __FILE__, __LINE__)
#define __syncwarp(...) ((void)SHIM_WARP(Sync, 0xffffffffu, 0, 0))
#define __ballot_sync(mask, v) SHIM_WARP(Ballot, mask, (v) != 0, 0)
#define __any_sync(mask, v) (int)(SHIM_WARP(Ballot, mask, (v) != 0, 0) != 0)
#define __all_sync(mask, v) (int)(SHIM_WARP(Ballot, mask, (v) != 0, 0) == (mask))
#define __reduce_add_sync(mask, v) SHIM_WARP(Add, mask, v, 0)
#define __reduce_max_sync(mask, v) SHIM_WARP(Max, mask, v, 0)
#define __reduce_min_sync(mask, v) SHIM_WARP(Min, mask, v, 0)
#define SHIM_SHUFFLE(mask, v, source) \
  shim::shuffle_bits(v, SHIM_WARP(Shuffle, mask, shim::bits<uint32_t>(v), source))
#define __shfl_sync(mask, v, source) SHIM_SHUFFLE(mask, v, (unsigned)(source) % 32)
#define __shfl_xor_sync(mask, v, by) SHIM_SHUFFLE(mask, v, shim::lane() ^ (unsigned)(by))
#define __shfl_down_sync(mask, v, by) \
  SHIM_SHUFFLE(mask, v, \
               shim::lane() + (unsigned)(by) < 32 ? shim::lane() + (unsigned)(by) : shim::lane())
#define __shfl_up_sync(mask, v, by) \
  SHIM_SHUFFLE(mask, v, \
               shim::lane() >= (unsigned)(by) ? shim::lane() - (unsigned)(by) : shim::lane())

namespace shim {
template <class T>
T shuffle_bits(T, uint32_t got) {
  return bits<T>(got);
}
}  // namespace shim

struct __align__(8) uint2 {
  unsigned x, y;
};
struct __align__(16) uint4 {
  unsigned x, y, z, w;
};
struct __align__(8) float2 {
  float x, y;
};
struct __align__(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

template <class T>
inline T __ldg(const T* at) {
  return *at;
}

inline unsigned atomicAdd(unsigned* at, unsigned v) {
  return shim::atomic<unsigned>(at, [](unsigned a, unsigned b) { return a + b; }, v);
}
inline unsigned atomicOr(unsigned* at, unsigned v) {
  return shim::atomic<unsigned>(at, [](unsigned a, unsigned b) { return a | b; }, v);
}
inline unsigned atomicMax(unsigned* at, unsigned v) {
  return shim::atomic<unsigned>(at, [](unsigned a, unsigned b) { return a > b ? a : b; }, v);
}

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz((unsigned)v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  uint64_t both = (uint64_t)b << 32 | a;
  unsigned out = 0;
  for (unsigned place = 0; place < 4; place++) {
    unsigned byte = selector >> (4 * place) & 7;
    out |= (unsigned)(both >> (8 * byte) & 0xff) << (8 * place);
  }
  return out;
}

inline unsigned __float_as_uint(float v) { return shim::bits<unsigned>(v); }
inline float __uint_as_float(unsigned v) { return shim::bits<float>(v); }
inline long long __double_as_longlong(double v) { return shim::bits<long long>(v); }
inline double __longlong_as_double(long long v) { return shim::bits<double>(v); }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline float __double2float_rn(double a) { return (float)a; }
inline float __uint2float_rn(unsigned a) { return (float)a; }
inline float __int2float_rn(int a) { return (float)a; }

#define fmaxf shim::larger
#define fminf shim::smaller
