// The receiver's side: dense rows from codes and from top-k sets.
//
//   restore_row    (const DenseJob* jobs, u32 cols, const float* mean, u32 out_dtype)
//       code * *job.scales (f32), or with a mean the fused code * scale + mean
//   restore_channel(const DenseJob* jobs, u32 cols, const float* mean, const float* scale,
//                   u32 out_dtype)
//       the fused code * scale[column] + mean[column]; an absent mean is 0
//   restore_group  (const DenseJob* jobs, u32 cols, u32 out_dtype)
//       code * job.scales[column / 32] (f16)
//   scatter_topk   (const ScatterJob* jobs, u32 cols, u32 k, float fill, u32 values_dtype,
//                   u32 out_dtype)
//       `fill` everywhere, then values to their indices
//       each: grid (rows), block any multiple of 32 up to 512, no shared memory
//
// In      job.codes i8[cols]; mean, scale f32[cols]. Top-k: job.indices u32, job.values of
//         values_dtype, *job.count u32, of which k are read at most. An index outside the row is
//         passed over; of entries with the same index any one stays.
// Out     job.out [cols] of out_dtype, computed in f32 and rounded once more to the nearest even;
//         every NaN becomes the positive quiet one in 16-bit formats, and some NaN in f32.
// Limits  cols up to 2^31. Addresses aligned as their elements. No scratch, no waiting.
#include "eight.cuh"

namespace restore {

struct Job {
  u64 codes, scales, out;
};

struct Scatter {
  u64 indices, values, count, out;
};

// `value_of` gives what a code stands for in a column.
template <class Value>
DEVICE void dense(const Job& job, u32 cols, u32 out_dtype, Value value_of) {
#pragma unroll 1
  for (u32 col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
    float v[8];
    load_codes((const u8*)job.codes, cols, col, v);
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      if (i < cols - col) v[i] = value_of(v[i], col + i);
    }
    store_eight(out_dtype, (void*)job.out, cols, col, v);
  }
}

}  // namespace restore

extern "C" __global__ void __launch_bounds__(512)
    restore_row(const restore::Job* jobs, u32 cols, const float* mean, u32 out_dtype) {
  restore::Job job = jobs[blockIdx.x];
  float scale = *(const float*)job.scales;
  restore::dense(job, cols, out_dtype, [=](float code, u32 col) {
    return mean ? __fmaf_rn(code, scale, __ldg(mean + col)) : __fmul_rn(code, scale);
  });
}

extern "C" __global__ void __launch_bounds__(512)
    restore_channel(const restore::Job* jobs, u32 cols, const float* mean, const float* scale,
                    u32 out_dtype) {
  restore::dense(jobs[blockIdx.x], cols, out_dtype, [=](float code, u32 col) {
    return __fmaf_rn(code, __ldg(scale + col), mean ? __ldg(mean + col) : 0.0f);
  });
}

extern "C" __global__ void __launch_bounds__(512)
    restore_group(const restore::Job* jobs, u32 cols, u32 out_dtype) {
  restore::Job job = jobs[blockIdx.x];
  const u16* scales = (const u16*)job.scales;
  restore::dense(job, cols, out_dtype, [=](float code, u32 col) {
    return __fmul_rn(code, widen_f16(__ldg(scales + col / 32)));
  });
}

extern "C" __global__ void __launch_bounds__(512)
    scatter_topk(const restore::Scatter* jobs, u32 cols, u32 k, float fill, u32 values_dtype,
                 u32 out_dtype) {
  restore::Scatter job = jobs[blockIdx.x];
  float v[8] = {fill, fill, fill, fill, fill, fill, fill, fill};
  for (u32 col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
    store_eight(out_dtype, (void*)job.out, cols, col, v);
  }
  u32 count = *(const u32*)job.count;
  if (count > k) count = k;
  __syncthreads();
  for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
    u32 col = ((const u32*)job.indices)[i];
    float value = load_as(values_dtype, (const void*)job.values, i);
    if (col < cols) store_as(out_dtype, (void*)job.out, col, value);
  }
}
