// The receiver's side: dense rows from codes and from top-k sets.
//
//   restore_row    (const DenseJob* jobs, u32 cols, const float* mean, u32 out_dtype)
//       code * *job.scales (f32), or with a mean the fused code * scale + mean
//   restore_channel(const DenseJob* jobs, u32 cols, const float* mean, const float* scale,
//                   u32 out_dtype)
//       the fused code * scale[column] + mean[column]; without a mean the product
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
//         every NaN becomes the positive quiet one in 16-bit formats.
// Limits  cols up to 2^31. Addresses aligned as their elements. No scratch, no waiting.
#include "eight.cuh"

namespace restore {

struct Job {
  u64 codes, scales, out;
};

struct Scatter {
  u64 indices, values, count, out;
};

DEVICE float decode(float code, float scale, const float* mean, u32 col) {
  return mean ? __fmaf_rn(code, scale, __ldg(mean + col)) : __fmul_rn(code, scale);
}

// `scale_of` gives the scale of a column.
template <class Scale>
DEVICE void dense(const Job& job, u32 cols, const float* mean, u32 out_dtype, Scale scale_of) {
#pragma unroll 1
  for (u32 col = threadIdx.x * 8; col < cols; col += blockDim.x * 8) {
    float v[8];
    load_codes((const u8*)job.codes, cols, col, v);
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      if (i < cols - col) v[i] = decode(v[i], scale_of(col + i), mean, col + i);
    }
    store_eight(out_dtype, (void*)job.out, cols, col, v);
  }
}

}  // namespace restore

extern "C" __global__ void __launch_bounds__(512)
    restore_row(const restore::Job* jobs, u32 cols, const float* mean, u32 out_dtype) {
  restore::Job job = jobs[blockIdx.x];
  float scale = *(const float*)job.scales;
  restore::dense(job, cols, mean, out_dtype, [=](u32) { return scale; });
}

extern "C" __global__ void __launch_bounds__(512)
    restore_channel(const restore::Job* jobs, u32 cols, const float* mean, const float* scale,
                    u32 out_dtype) {
  restore::dense(jobs[blockIdx.x], cols, mean, out_dtype,
                 [=](u32 col) { return __ldg(scale + col); });
}

extern "C" __global__ void __launch_bounds__(512)
    restore_group(const restore::Job* jobs, u32 cols, u32 out_dtype) {
  restore::Job job = jobs[blockIdx.x];
  const u16* scales = (const u16*)job.scales;
  restore::dense(job, cols, nullptr, out_dtype,
                 [=](u32 col) { return widen_f16(__ldg(scales + col / 32)); });
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
