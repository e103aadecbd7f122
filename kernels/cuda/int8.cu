// int8 of hidden rows: kernels/src/int8.rs and its neighbours say exactly what that is, and the
// bits are the same.
//
//   int8_row_<t>    (const RowJob* jobs, u32 cols, const float* mean, const u32* masked)
//       one scale per row: absmax / 127. job.scales: f32
//   int8_channel_<t>(const RowJob* jobs, u32 cols, const float* mean, const float* scale)
//       one given scale per column; a column whose scale is 0 or not finite is coded as 0
//   int8_group_<t>  (const RowJob* jobs, u32 cols)
//       one scale per 32 columns, f16(absmax / 127), at most 65,504.
//       job.scales: f16[ceil(cols / 32)]
//       each: grid (rows), block any multiple of 32 up to 512, shared memory 256 bytes
//
// In      job.row: cols elements, aligned as an element. mean, scale: f32[cols]. masked: a bit per
//         column, in words of 32, column 0 lowest; a masked column counts as 0. mean and masked may
//         be null.
// Out     job.codes i8[cols]; job.scales; *job.flags u8. -128 is never written.
//         NaN is coded as 0 and flagged, infinities as +-127 and flagged (0 where a channel's or a
//         group's scale is 0); neither counts for a scale.
// Limits  cols up to 2^31. Addresses need the alignment of their elements, no more; accesses are
//         wide where a row, a mean or scales start at a multiple of 16 bytes, codes at one of 8.
// Does not use scratch, wait for another block, or trust any value of a row.
//
// A code is the rounded quotient of a true division. Multiplying by the reciprocal is much cheaper
// and gives the same code unless the product comes close to the middle between two integers; then,
// for about one in 8,000 entries, the division is done: see `codes_of`.
#include "eight.cuh"

namespace int8 {

struct Job {
  u64 row, codes, scales, flags;
};

// Chunks of eight columns that a thread keeps between its two passes.
constexpr u32 KEPT = 2;

DEVICE float clamp(float x) { return fmaxf(fminf(x, 127.0f), -127.0f); }

// The code of a quotient in its low byte, to the nearest even integer. Not for NaN.
DEVICE u32 code_of(float quotient) {
  return __float_as_uint(__fadd_rn(clamp(quotient), ROUNDER));
}

// A divisor, and its reciprocal where that may be used.
struct Scale {
  float scale, reciprocal;
  bool is_tame;

  // Between 2^-100 and 2^100 the reciprocal is a normal number, correctly rounded.
  __device__ __forceinline__ explicit Scale(float scale) : scale(scale), reciprocal(0.0f) {
    is_tame = __uint_as_float(27u << 23) <= scale && scale <= __uint_as_float(227u << 23);
    if (is_tame) reciprocal = __fdiv_rn(1.0f, scale);
  }
};

// Codes of eight finite numbers, in the low bytes.
//
// Let e = t / scale, exactly, and |e| <= 127.5. The reciprocal and the product are each off by a
// factor within 1 +- 2^-24 (or, below the normal numbers, by less than 2^-149), so the product p is
// within 127.5 * 2^-23 * (1 + 2^-24) < 2^-15 of e; the rounded quotient q is within 127.5 * 2^-24 <
// 2^-17. So |p - q| < 2^-14. If p is at least 2^-14 away from the middle between two integers, no
// such middle lies between p and q or at q: both round to the same integer. p minus the integer
// next to it is exact. Where |p| reaches 127, |q| is above 126.9, and both end as 127 once clamped.
DEVICE void codes_of(const float* t, const Scale& by, u32* codes) {
  bool close = !by.is_tame;
#pragma unroll
  for (u32 i = 0; i < 8; i++) {
    float p = clamp(__fmul_rn(t[i], by.reciprocal));
    float sum = __fadd_rn(p, ROUNDER);
    float off = magnitude(__fsub_rn(p, __fsub_rn(sum, ROUNDER)));
    close = close || off > 0.5f - 0.00006103515625f;
    codes[i] = __float_as_uint(sum);
  }
  if (close) {
#pragma unroll
    for (u32 i = 0; i < 8; i++) codes[i] = code_of(__fdiv_rn(t[i], by.scale));
  }
}

// The code of any number for a scale that may be 0.
DEVICE u32 code_of_any(float t, float scale) {
  if (is_nan(t)) return 0;
  if (is_infinite(t)) return t > 0.0f ? 127 : (u32)-127;
  return scale == 0.0f ? 0 : code_of(__fdiv_rn(t, scale));
}

DEVICE u32 flag_of(float t) {
  return is_nan(t) ? FLAG_NAN : is_infinite(t) ? FLAG_INFINITY : 0;
}

DEVICE u32 scale_flags(float absmax, float scale) {
  if (absmax == 0.0f) return FLAG_ZERO_ROW;
  return scale < SMALLEST_NORMAL ? FLAG_DENORMAL_SCALE : 0;
}

// The union of what the threads of a block saw; all must call it. Bits above the fourth are lost.
DEVICE u32 all_flags(u32 flags) {
  u32 all = 0;
  if (__syncthreads_or(flags & FLAG_NAN)) all |= FLAG_NAN;
  if (__syncthreads_or(flags & FLAG_INFINITY)) all |= FLAG_INFINITY;
  return all;
}

// A row with NaN or infinity: entry by entry.
template <class E>
RARE void row_unusual(const void* from, u32 cols, const float* mean, const u32* masked, u8* codes,
                      float* scale_out, u8* flags_out) {
  Hidden<E> row(from, cols, mean, masked);
  // Everyone has read what the caller's block wrote before this one writes.
  __syncthreads();
  Block block((u32*)SHARED_MEMORY);
  u32 top = 0, flags = 0;
  for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
    float t = row.at(col);
    flags |= flag_of(t);
    u32 bits = __float_as_uint(magnitude(t));
    if (is_finite(t) && bits > top) top = bits;
  }
  float absmax = __uint_as_float(block.max(top));
  float scale = __fdiv_rn(absmax, 127.0f);
  for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
    codes[col] = (u8)code_of_any(row.at(col), scale);
  }
  flags = all_flags(flags);
  if (threadIdx.x == 0) {
    *scale_out = scale;
    *flags_out = (u8)(flags | scale_flags(absmax, scale));
  }
}

DEVICE u32 top_of(const float* t, u32 top) {
#pragma unroll
  for (u32 i = 0; i < 8; i++) {
    u32 bits = __float_as_uint(magnitude(t[i]));
    top = bits > top ? bits : top;
  }
  return top;
}

template <class E, bool WIDE>
DEVICE void row(const Job& job, u32 cols, const float* mean, const u32* masked) {
  Hidden<E> row((const void*)job.row, cols, mean, masked);
  Block block((u32*)SHARED_MEMORY);
  u8* codes = (u8*)job.codes;
  u32 first = threadIdx.x * 8, step = blockDim.x * 8, top = 0;
  // All loads before the first use: they wait for memory together.
  Eight<E> kept[KEPT];
#pragma unroll
  for (u32 i = 0; i < KEPT; i++) row.template fetch<WIDE>(first + i * step, kept[i]);
#pragma unroll
  for (u32 i = 0; i < KEPT; i++) {
    float t[8];
    row.finish(first + i * step, kept[i], t);
    top = top_of(t, top);
  }
#pragma unroll 1
  for (u32 col = first + KEPT * step; col < cols; col += step) {
    float t[8];
    row.template eight<WIDE>(col, t);
    top = top_of(t, top);
  }
  top = block.max(top);
  // Of magnitudes the order of the bits is that of the numbers, with infinity and NaN on top.
  if (top >= 0x7f800000u) {
    row_unusual<E>((const void*)job.row, cols, mean, masked, codes, (float*)job.scales,
                   (u8*)job.flags);
    return;
  }
  float absmax = __uint_as_float(top), scale = __fdiv_rn(absmax, 127.0f);
  Scale by(scale);
  u32 words[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll
  for (u32 i = 0; i < KEPT; i++) {
    float t[8];
    row.finish(first + i * step, kept[i], t);
    if (scale > 0.0f) codes_of(t, by, words);
    store_codes(codes, cols, first + i * step, words);
  }
#pragma unroll 1
  for (u32 col = first + KEPT * step; col < cols; col += step) {
    float t[8];
    row.template eight<WIDE>(col, t);
    if (scale > 0.0f) codes_of(t, by, words);
    store_codes(codes, cols, col, words);
  }
  if (threadIdx.x == 0) {
    *(float*)job.scales = scale;
    *(u8*)job.flags = (u8)scale_flags(absmax, scale);
  }
}

template <class E, bool WIDE>
DEVICE void channel(const Job& job, u32 cols, const float* mean, const float* scale) {
  Hidden<E> row((const void*)job.row, cols, mean, nullptr);
  u32 flags = 0;
#pragma unroll 1
  for (u32 col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
    float t[8], scales[8];
    u32 words[8];
    row.template eight<WIDE>(col, t);
    if (cols - col >= 8) {
      eight_floats(scale, col, scales);
    } else {
#pragma unroll
      for (u32 i = 0; i < 8; i++) scales[i] = i < cols - col ? __ldg(scale + col + i) : 0.0f;
    }
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      float s = scales[i];
      flags |= flag_of(t[i]);
      bool codes = is_finite(s) && s != 0.0f && !is_nan(t[i]);
      words[i] = codes ? code_of(__fdiv_rn(t[i], s)) : 0;
    }
    store_codes((u8*)job.codes, cols, col, words);
  }
  flags = all_flags(flags);
  if (threadIdx.x == 0) *(u8*)job.flags = (u8)flags;
}

template <class E, bool WIDE>
DEVICE void group(const Job& job, u32 cols) {
  Hidden<E> row((const void*)job.row, cols, nullptr, nullptr);
  u32 flags = 0;
  // All threads take every turn: four of them share a group and tell each other its largest entry.
#pragma unroll 1
  for (u32 turn = 0; turn < cols; turn += blockDim.x * 8) {
    u32 col = turn + threadIdx.x * 8;
    float t[8];
    u32 words[8], top = 0, seen = 0;
    row.template eight<WIDE>(col, t);
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      u32 bits = __float_as_uint(magnitude(t[i]));
      if (bits < 0x7f800000u) top = bits > top ? bits : top;
      seen |= flag_of(t[i]);
    }
#pragma unroll
    for (u32 by = 1; by < 4; by *= 2) {
      u32 other = __shfl_xor_sync(FULL_WARP, top, by);
      top = other > top ? other : top;
    }
    u16 half = narrow_f16(fminf(__fdiv_rn(__uint_as_float(top), 127.0f), 65504.0f));
    float scale = widen_f16(half);
#pragma unroll
    for (u32 i = 0; i < 8; i++) words[i] = 0;
    if (scale > 0.0f && seen == 0) {
      codes_of(t, Scale(scale), words);
    } else if (scale > 0.0f) {
#pragma unroll
      for (u32 i = 0; i < 8; i++) words[i] = code_of_any(t[i], scale);
    }
    flags |= seen;
    store_codes((u8*)job.codes, cols, col, words);
    if (col < cols && col % 32 == 0) ((u16*)job.scales)[col / 32] = half;
  }
  flags = all_flags(flags);
  if (threadIdx.x == 0) *(u8*)job.flags = (u8)flags;
}

// Whether a row's elements can be loaded eight at a time.
template <class E>
DEVICE bool is_wide(const Job& job, u32 cols) {
  return Hidden<E>((const void*)job.row, cols, nullptr, nullptr).is_wide();
}

}  // namespace int8

// `work` for the block's job, with or without wide loads.
#define INT8_EITHER(work, Element, ...)                    \
  const int8::Job job = jobs[blockIdx.x];                  \
  if (int8::is_wide<Element>(job, cols)) {                 \
    int8::work<Element, true>(job, __VA_ARGS__);           \
  } else {                                                 \
    int8::work<Element, false>(job, __VA_ARGS__);          \
  }

#define INT8_KERNELS(suffix, Element)                                                              \
  extern "C" __global__ void __launch_bounds__(512, 2)                                             \
      int8_row_##suffix(const int8::Job* jobs, u32 cols, const float* mean, const u32* masked) {   \
    INT8_EITHER(row, Element, cols, mean, masked)                                                  \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(512, 2)                                             \
      int8_channel_##suffix(const int8::Job* jobs, u32 cols, const float* mean,                    \
                            const float* scale) {                                                  \
    INT8_EITHER(channel, Element, cols, mean, scale)                                               \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(512, 2)                                             \
      int8_group_##suffix(const int8::Job* jobs, u32 cols) {                                       \
    INT8_EITHER(group, Element, cols)                                                              \
  }

INT8_KERNELS(f32, F32)
INT8_KERNELS(f16, F16)
INT8_KERNELS(bf16, BF16)
