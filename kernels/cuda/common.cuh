// What all kernels share: elements, conversions, flags, reductions of a block.
//
// No header of a toolkit is needed. Every operation on numbers is one that IEEE 754 rounds
// correctly, and contraction is off (`--fmad=false`), so the bits are those of the CPU's kernels.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__
// For paths that few rows take: they must not cost the usual ones any registers.
#define RARE static __device__ __noinline__

#ifndef SHARED_MEMORY
extern __shared__ __align__(16) u8 dynamic_shared[];
#define SHARED_MEMORY dynamic_shared
#endif

#define FULL_WARP 0xffffffffu
// Adding it rounds a small float to an integer, to the nearest even one, in its low bits.
#define ROUNDER 12582912.0f
#define INFINITE __uint_as_float(0x7f800000u)
#define SMALLEST_NORMAL __uint_as_float(0x00800000u)

// Codes of element types in arguments: those of the wire format.
enum { DTYPE_F32 = 0, DTYPE_F16 = 1, DTYPE_BF16 = 2 };

// What was seen in a row: `flags` in kernels/src/lib.rs.
enum {
  FLAG_NAN = 1,
  FLAG_FEWER_THAN_K = 2,
  FLAG_INFINITY = 4,
  FLAG_ZERO_ROW = 8,
  FLAG_DENORMAL_SCALE = 16
};

DEVICE bool is_nan(float x) { return x != x; }
DEVICE float magnitude(float x) { return __uint_as_float(__float_as_uint(x) & 0x7fffffffu); }
DEVICE bool is_infinite(float x) { return magnitude(x) == INFINITE; }
DEVICE bool is_finite(float x) { return magnitude(x) < INFINITE; }

// The larger; NaN if either is.
DEVICE float max_or_nan(float a, float b) {
#ifdef SHIM_HOST
  return is_nan(a) ? a : (is_nan(b) || b > a) ? b : a;
#else
  float out;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(out) : "f"(a), "f"(b));
  return out;
#endif
}

// An f16 as f32, exactly.
DEVICE float widen_f16(u16 half) {
#ifdef SHIM_HOST
  u32 sign = (u32)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
  // A subnormal is its fraction times 2^-24, which is exact.
  float value = __uint2float_rn(fraction) * __uint_as_float(103u << 23);
  return __uint_as_float(__float_as_uint(value) | sign);
#else
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(half));
  return out;
#endif
}

// To f16, to the nearest even; every NaN becomes 0x7e00.
DEVICE u16 narrow_f16(float x) {
  if (is_nan(x)) return 0x7e00;
#ifdef SHIM_HOST
  u32 bits = __float_as_uint(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  if (rest >= 0x477ff000) return (u16)(sign | 0x7c00);
  if (rest < 0x38800000) {
    // Below the smallest normal f16: adding 0.5 leaves a multiple of 2^-24 in the low bits.
    float shifted = __uint_as_float(rest) + 0.5f;
    return (u16)(sign | (__float_as_uint(shifted) - 0x3f000000));
  }
  u32 odd = rest >> 13 & 1;
  return (u16)(sign | (rest - 0x38000000 + 0xfff + odd) >> 13);
#else
  u16 out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
#endif
}

// To bf16, to the nearest even; every NaN becomes 0x7fc0.
DEVICE u16 narrow_bf16(float x) {
  if (is_nan(x)) return 0x7fc0;
  u32 bits = __float_as_uint(x);
  return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Element types. A Word is an element as it lies in memory, a Four are four of them.
struct F32 {
  typedef u32 Word;
  typedef uint4 Four;
  DEVICE float widen(u32 word) { return __uint_as_float(word); }
  DEVICE uint4 pack(u32 a, u32 b, u32 c, u32 d) {
    return make_uint4(a, b, c, d);
  }
  DEVICE void unpack(uint4 four, float* to) {
    to[0] = widen(four.x), to[1] = widen(four.y), to[2] = widen(four.z), to[3] = widen(four.w);
  }
};
struct F16 {
  typedef u16 Word;
  typedef uint2 Four;
  DEVICE float widen(u16 word) { return widen_f16(word); }
  DEVICE uint2 pack(u32 a, u32 b, u32 c, u32 d) {
    return make_uint2(a | b << 16, c | d << 16);
  }
  DEVICE void unpack(uint2 four, float* to) {
    to[0] = widen((u16)four.x), to[1] = widen((u16)(four.x >> 16));
    to[2] = widen((u16)four.y), to[3] = widen((u16)(four.y >> 16));
  }
};
struct BF16 {
  typedef u16 Word;
  typedef uint2 Four;
  DEVICE float widen(u16 word) {
    return __uint_as_float((u32)word << 16);
  }
  DEVICE uint2 pack(u32 a, u32 b, u32 c, u32 d) {
    return make_uint2(a | b << 16, c | d << 16);
  }
  DEVICE void unpack(uint2 four, float* to) {
    to[0] = __uint_as_float(four.x << 16), to[1] = __uint_as_float(four.x & 0xffff0000u);
    to[2] = __uint_as_float(four.y << 16), to[3] = __uint_as_float(four.y & 0xffff0000u);
  }
};

// Four elements from anywhere; WIDE promises an address that is a multiple of their size.
template <class E, bool WIDE>
DEVICE typename E::Four load_four(const typename E::Word* at) {
  if (WIDE) return __ldg((const typename E::Four*)at);
  return E::pack(__ldg(at), __ldg(at + 1), __ldg(at + 2), __ldg(at + 3));
}

// Eight elements as they lie in memory.
template <class E>
struct Eight {
  uint4 parts[sizeof(typename E::Word) / 2];

  // From an address that is a multiple of 16.
  __device__ __forceinline__ void load_wide(const typename E::Word* at) {
#pragma unroll
    for (u32 i = 0; i < sizeof(parts) / 16; i++) parts[i] = __ldg((const uint4*)at + i);
  }
  // The first `count` from anywhere; 0 for those beyond.
  __device__ __forceinline__ void load(const typename E::Word* at, u32 count) {
    u32 words[8];
#pragma unroll
    for (u32 i = 0; i < 8; i++) words[i] = i < count ? (u32)__ldg(at + i) : 0;
    if constexpr (sizeof(parts) == 16) {
      uint2 low = E::pack(words[0], words[1], words[2], words[3]);
      uint2 high = E::pack(words[4], words[5], words[6], words[7]);
      parts[0] = make_uint4(low.x, low.y, high.x, high.y);
    } else {
      parts[0] = E::pack(words[0], words[1], words[2], words[3]);
      parts[1] = E::pack(words[4], words[5], words[6], words[7]);
    }
  }
  __device__ __forceinline__ void widen(float* to) const {
    if constexpr (sizeof(parts) == 16) {
      E::unpack(make_uint2(parts[0].x, parts[0].y), to);
      E::unpack(make_uint2(parts[0].z, parts[0].w), to + 4);
    } else {
      E::unpack(parts[0], to);
      E::unpack(parts[1], to + 4);
    }
  }
};

template <class T>
DEVICE bool is_aligned(const void* at) {
  return (u64)at % sizeof(T) == 0;
}

// Writes one value as an element of type `dtype`.
DEVICE void store_as(u32 dtype, void* to, u64 at, float value) {
  if (dtype == DTYPE_F32) {
    ((float*)to)[at] = value;
  } else {
    ((u16*)to)[at] = dtype == DTYPE_F16 ? narrow_f16(value) : narrow_bf16(value);
  }
}

DEVICE float load_as(u32 dtype, const void* from, u64 at) {
  if (dtype == DTYPE_F32) return ((const float*)from)[at];
  u16 word = ((const u16*)from)[at];
  return dtype == DTYPE_F16 ? F16::widen(word) : BF16::widen(word);
}

// Numbers that the warps of a block tell each other, through 64 words of shared memory. Two halves
// in turn: whoever writes the third time has seen everyone read the first. Between two of these
// over the same words there must be a barrier.
struct Block {
  u32* words;
  u32 turn;

  __device__ __forceinline__ explicit Block(u32* words) : words(words), turn(0) {}

  // Sum or maximum over all threads, which must all call it.
  __device__ __forceinline__ u32 sum(u32 value) {
    return __reduce_add_sync(FULL_WARP, share(__reduce_add_sync(FULL_WARP, value)));
  }
  __device__ __forceinline__ u32 max(u32 value) {
    return __reduce_max_sync(FULL_WARP, share(__reduce_max_sync(FULL_WARP, value)));
  }

 private:
  // Gives each lane the number of one warp; 0 to lanes beyond the last.
  __device__ __forceinline__ u32 share(u32 of_warp) {
    u32 lane = threadIdx.x % 32;
    turn ^= 32;
    if (lane == 0) (words + turn)[threadIdx.x / 32] = of_warp;
    __syncthreads();
    return lane < blockDim.x / 32 ? (words + turn)[lane] : 0;
  }
};
