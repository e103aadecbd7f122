// Hidden rows for the quality dial: subtract a mean, measure the root mean square, divide by steps.
//
//   center_<t>(const RowJob* jobs, u32 cols, const float* mean)
//       grid (rows), block any multiple of 32 up to 512, shared memory 16,640 bytes
//   steps     (const RowJob* jobs, u32 cols)
//       grid (rows), block any multiple of 32 up to 512
//
// center  In   job.row: cols elements, aligned as an element; mean f32[cols] or null.
//         Out  job.codes f32[cols]: x - mean, 0 where that is not finite; *job.scales f32: the root
//              of (sum of squares / cols), 0 without columns; *job.flags u8: NaN, infinity.
//         Sum  16 lanes: lane l adds the squares of columns l, l + 16, ... in that order, each by
//              one fused multiply-add from +0; lanes are folded 8, 4, 2, 1. Division and root
//              are rounded.
// steps   In   job.row: f32[cols]; *job.scales f32: the step.
//         Out  job.codes i16[cols]: the quotient, rounded to the nearest even and clamped to
//              +-32,767; 0 where the step is 0 or the quotient is NaN.
// Limits  cols up to 2^31. Does not use scratch, wait for another block, or trust any value.
#include "eight.cuh"

namespace center {

struct Job {
  u64 row, codes, scales, flags;
};

// Columns between two barriers: a multiple of 16, so that a lane keeps its columns.
constexpr u32 TILE = 4096;

template <class E>
DEVICE void center(const Job& job, u32 cols, const float* mean) {
  float* tile = (float*)SHARED_MEMORY;
  Hidden<E> row((const void*)job.row, cols, mean, nullptr);
  float* out = (float*)job.codes;
  float sum = 0.0f;
  bool has_nan = false, has_infinity = false;
#pragma unroll 1
  for (u32 first = 0; first < cols; first += TILE) {
    u32 count = cols - first < TILE ? cols - first : TILE;
#pragma unroll 4
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
      float t = row.at(first + i);
      has_nan = has_nan || is_nan(t);
      has_infinity = has_infinity || is_infinite(t);
      t = is_finite(t) ? t : 0.0f;
      tile[i] = t;
      out[first + i] = t;
    }
    __syncthreads();
    if (threadIdx.x < 16) {
#pragma unroll 8
      for (u32 i = threadIdx.x; i < count; i += 16) sum = __fmaf_rn(tile[i], tile[i], sum);
    }
    __syncthreads();
  }
  has_nan = __syncthreads_or(has_nan) != 0;
  has_infinity = __syncthreads_or(has_infinity) != 0;
  if (threadIdx.x >= 32) return;
#pragma unroll
  for (u32 half = 8; half > 0; half /= 2) {
    sum = __fadd_rn(sum, __shfl_down_sync(FULL_WARP, sum, half));
  }
  if (threadIdx.x == 0) {
    float mean_square = cols > 0 ? __fdiv_rn(sum, __uint2float_rn(cols)) : 0.0f;
    *(float*)job.scales = __fsqrt_rn(mean_square);
    *(u8*)job.flags = (u8)((has_nan ? FLAG_NAN : 0) | (has_infinity ? FLAG_INFINITY : 0));
  }
}

DEVICE u16 step_code(float y, float step) {
  float quotient = __fdiv_rn(y, step);
  if (step == 0.0f || is_nan(quotient)) return 0;
  quotient = fmaxf(fminf(quotient, 32767.0f), -32767.0f);
  return (u16)__float_as_uint(__fadd_rn(quotient, ROUNDER));
}

}  // namespace center

#define CENTER_KERNEL(suffix, Element)                                                             \
  extern "C" __global__ void __launch_bounds__(512)                                                \
      center_##suffix(const center::Job* jobs, u32 cols, const float* mean) {                      \
    center::center<Element>(jobs[blockIdx.x], cols, mean);                                         \
  }

CENTER_KERNEL(f32, F32)
CENTER_KERNEL(f16, F16)
CENTER_KERNEL(bf16, BF16)

extern "C" __global__ void __launch_bounds__(512) steps(const center::Job* jobs, u32 cols) {
  const center::Job job = jobs[blockIdx.x];
  const float* row = (const float*)job.row;
  u16* codes = (u16*)job.codes;
  float step = *(const float*)job.scales;
#pragma unroll 4
  for (u32 col = threadIdx.x; col < cols; col += blockDim.x) {
    codes[col] = center::step_code(__ldg(row + col), step);
  }
}
