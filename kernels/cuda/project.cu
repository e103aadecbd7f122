// Products of rows with a matrix: logits of hidden rows, or rotations: kernels/src/lmhead.rs says
// exactly what that is, and the bits are the same.
//
//   project_<t>(const u64* rows, u32 count, const <t>* matrix, u32 width, u32 outputs,
//               const float* bias, const u64* outs)
//       block 256; for a count up to 4: grid (ceil(outputs / 128)), shared memory 8,192 bytes;
//       else grid (ceil(outputs / 32), ceil(count / 16)), shared memory 12,672 bytes
//
// In      rows: count addresses of f32[width]; matrix [outputs, width], row-major, aligned as its
//         element; bias f32[outputs] or null.
// Out     outs: count addresses of f32[outputs].
// Order   Products are summed in 16 lanes: lane l takes columns l, l + 16, ... in that order, each
//         by one fused multiply-add from +0; lanes are folded 8, 4, 2, 1; then the bias is added.
//         The order does not depend on how many rows there are.
// Limits  width, outputs and count up to 2^31; what fits the memory.
// Does not use scratch or tensor cores (their sums have another order), or wait for another block.
//
// How. Few rows: the weights are all that is read. Two threads have an output, each half of its
// lanes, and stream its weights from memory eight at a time; the rows are in shared memory.
// Many rows: half a warp computes a tile of rows times outputs, its 16 threads the 16 lanes; a
// block's eight pairs of tiles share panels of 64 columns in shared memory, so that a weight is
// read from memory once for all rows of the block.
#include "common.cuh"

namespace project {

constexpr u32 THREADS = 256;

// Few rows: columns of the rows that are in shared memory at a time, a multiple of 16.
constexpr u32 FEW_PANEL = 512;

// Many rows: outputs of a block, and of a thread's tile.
constexpr u32 OUTPUTS = 32;
constexpr u32 TILE_OUTPUTS = 8;
// Tiles of a block along the rows.
constexpr u32 ROW_TILES = 4;
// Columns of a panel, and their stride: the outputs of two half-warps lie 16 banks apart.
constexpr u32 PANEL = 64;
constexpr u32 STRIDE = 66;

// A thread's share of the panels of R * ROW_TILES rows and OUTPUTS outputs.
template <class E, u32 R>
struct Panels {
  static constexpr u32 ROWS = R * ROW_TILES;
  static constexpr u32 STEP = THREADS / PANEL;
  float* rows;     // shared, [ROWS][STRIDE]
  float* weights;  // shared, [OUTPUTS][STRIDE]
  float next_rows[ROWS / STEP];
  typename E::Word next_weights[OUTPUTS / STEP];

  // Asks memory for columns first.. of the block's rows and outputs; 0 beyond the edges.
  __device__ __forceinline__ void fetch(const u64* row_addresses, u32 count,
                                        const typename E::Word* matrix, u32 width, u32 outputs,
                                        u32 first) {
    u32 column = first + threadIdx.x % PANEL, start = threadIdx.x / PANEL;
#pragma unroll
    for (u32 i = 0; i < ROWS / STEP; i++) {
      u32 row = blockIdx.y * ROWS + start + i * STEP;
      bool takes = column < width && row < count;
      next_rows[i] = takes ? __ldg((const float*)row_addresses[row] + column) : 0.0f;
    }
#pragma unroll
    for (u32 i = 0; i < OUTPUTS / STEP; i++) {
      u32 output = blockIdx.x * OUTPUTS + start + i * STEP;
      bool takes = column < width && output < outputs;
      next_weights[i] = takes ? __ldg(matrix + (u64)output * width + column) : 0;
    }
  }

  // Puts what was fetched where all threads see it.
  __device__ __forceinline__ void store() {
    u32 column = threadIdx.x % PANEL, start = threadIdx.x / PANEL;
#pragma unroll
    for (u32 i = 0; i < ROWS / STEP; i++) {
      rows[(start + i * STEP) * STRIDE + column] = next_rows[i];
    }
#pragma unroll
    for (u32 i = 0; i < OUTPUTS / STEP; i++) {
      weights[(start + i * STEP) * STRIDE + column] = E::widen(next_weights[i]);
    }
  }
};

template <class E, u32 R>
DEVICE void tiles(const u64* row_addresses, u32 count, const typename E::Word* matrix, u32 width,
                  u32 outputs, const float* bias, const u64* outs) {
  Panels<E, R> panels;
  panels.rows = (float*)SHARED_MEMORY;
  panels.weights = panels.rows + Panels<E, R>::ROWS * STRIDE;
  u32 lane = threadIdx.x % 16, tile = threadIdx.x / 16;
  // The two halves of a warp share their rows.
  u32 row_tile = tile / (OUTPUTS / TILE_OUTPUTS), output_tile = tile % (OUTPUTS / TILE_OUTPUTS);
  float sums[R][TILE_OUTPUTS];
#pragma unroll
  for (u32 r = 0; r < R; r++) {
#pragma unroll
    for (u32 o = 0; o < TILE_OUTPUTS; o++) sums[r][o] = 0.0f;
  }
  panels.fetch(row_addresses, count, matrix, width, outputs, 0);
#pragma unroll 1
  for (u32 first = 0; first < width; first += PANEL) {
    panels.store();
    __syncthreads();
    // The next panel comes while this one is used.
    if (width - first > PANEL) {
      panels.fetch(row_addresses, count, matrix, width, outputs, first + PANEL);
    }
    // A last group of 16 columns that is not whole counts with zeros, as on the CPU; no group that
    // is wholly outside does, for it could turn -0 into +0.
    u32 end = width - first < PANEL ? (width - first + 15) / 16 * 16 : PANEL;
#pragma unroll 1
    for (u32 column = lane; column < end; column += 16) {
      float x[R], w[TILE_OUTPUTS];
#pragma unroll
      for (u32 r = 0; r < R; r++) x[r] = panels.rows[(row_tile * R + r) * STRIDE + column];
#pragma unroll
      for (u32 o = 0; o < TILE_OUTPUTS; o++) {
        w[o] = panels.weights[(output_tile * TILE_OUTPUTS + o) * STRIDE + column];
      }
#pragma unroll
      for (u32 r = 0; r < R; r++) {
#pragma unroll
        for (u32 o = 0; o < TILE_OUTPUTS; o++) sums[r][o] = __fmaf_rn(x[r], w[o], sums[r][o]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (u32 r = 0; r < R; r++) {
    u32 row = (blockIdx.y * ROW_TILES + row_tile) * R + r;
#pragma unroll
    for (u32 o = 0; o < TILE_OUTPUTS; o++) {
      float sum = sums[r][o];
#pragma unroll
      for (u32 half = 8; half > 0; half /= 2) {
        sum = __fadd_rn(sum, __shfl_xor_sync(FULL_WARP, sum, half));
      }
      u32 output = blockIdx.x * OUTPUTS + output_tile * TILE_OUTPUTS + o;
      if (lane == o && row < count && output < outputs) {
        if (bias) sum = __fadd_rn(sum, __ldg(bias + output));
        ((float*)outs[row])[output] = sum;
      }
    }
  }
}

// R rows, two threads to an output: `half` has lanes 8 * half to 8 * half + 7. WIDE promises a
// matrix at a multiple of 16 bytes, and rows of a whole number of eights.
template <class E, u32 R, u32 UNROLL, bool WIDE>
DEVICE void few(const u64* row_addresses, u32 count, const typename E::Word* matrix, u32 width,
                u32 outputs, const float* bias, const u64* outs) {
  float* panel = (float*)SHARED_MEMORY;  // [R][FEW_PANEL]
  u32 half = threadIdx.x % 2, output = blockIdx.x * (THREADS / 2) + threadIdx.x / 2;
  // Threads beyond the last output compute it once more, and do not write it.
  u32 from = output < outputs ? output : outputs - 1;
  const typename E::Word* weights = matrix + (u64)from * width;
  float sums[R][8];
#pragma unroll
  for (u32 r = 0; r < R; r++) {
#pragma unroll
    for (u32 i = 0; i < 8; i++) sums[r][i] = 0.0f;
  }
#pragma unroll 1
  for (u32 first = 0; first < width; first += FEW_PANEL) {
    __syncthreads();
    for (u32 i = threadIdx.x; i < R * FEW_PANEL; i += THREADS) {
      u32 row = i / FEW_PANEL, column = first + i % FEW_PANEL;
      bool inside = row < count && column < width;
      panel[i] = inside ? __ldg((const float*)row_addresses[row] + column) : 0.0f;
    }
    __syncthreads();
    // A last group of 16 columns that is not whole counts with zeros, as on the CPU.
    u32 end = width - first < FEW_PANEL ? width - first : FEW_PANEL;
#pragma unroll 1
    for (u32 group = 0; group < end; group += 16 * UNROLL) {
      Eight<E> raw[UNROLL];
#pragma unroll
      for (u32 u = 0; u < UNROLL; u++) {
        u32 column = first + group + 16 * u + 8 * half;
        u32 left = column < width ? width - column : 0;
        if (WIDE && left > 0) {
          raw[u].load_wide(weights + column);
        } else {
          raw[u].load(weights + column, WIDE ? 0 : left);
        }
      }
#pragma unroll
      for (u32 u = 0; u < UNROLL; u++) {
        if (group + 16 * u >= end) break;
        float w[8];
        raw[u].widen(w);
#pragma unroll
        for (u32 r = 0; r < R; r++) {
          const float4* x = (const float4*)(panel + r * FEW_PANEL + group + 16 * u + 8 * half);
          float4 low = x[0], high = x[1];
          sums[r][0] = __fmaf_rn(low.x, w[0], sums[r][0]);
          sums[r][1] = __fmaf_rn(low.y, w[1], sums[r][1]);
          sums[r][2] = __fmaf_rn(low.z, w[2], sums[r][2]);
          sums[r][3] = __fmaf_rn(low.w, w[3], sums[r][3]);
          sums[r][4] = __fmaf_rn(high.x, w[4], sums[r][4]);
          sums[r][5] = __fmaf_rn(high.y, w[5], sums[r][5]);
          sums[r][6] = __fmaf_rn(high.z, w[6], sums[r][6]);
          sums[r][7] = __fmaf_rn(high.w, w[7], sums[r][7]);
        }
      }
    }
  }
#pragma unroll
  for (u32 r = 0; r < R; r++) {
    float* sum = sums[r];
#pragma unroll
    for (u32 i = 0; i < 8; i++) sum[i] = __fadd_rn(sum[i], __shfl_xor_sync(FULL_WARP, sum[i], 1));
#pragma unroll
    for (u32 i = 0; i < 4; i++) sum[i] = __fadd_rn(sum[i], sum[i + 4]);
    float logit = __fadd_rn(__fadd_rn(sum[0], sum[2]), __fadd_rn(sum[1], sum[3]));
    if (half == 0 && r < count && output < outputs) {
      if (bias) logit = __fadd_rn(logit, __ldg(bias + output));
      ((float*)outs[r])[output] = logit;
    }
  }
}

template <class E>
DEVICE void any(const u64* rows, u32 count, const typename E::Word* matrix, u32 width, u32 outputs,
                const float* bias, const u64* outs) {
  if (count > 4) {
    tiles<E, 4>(rows, count, matrix, width, outputs, bias, outs);
  } else if (width % 8 != 0 || !is_aligned<uint4>(matrix)) {
    few<E, 4, 1, false>(rows, count, matrix, width, outputs, bias, outs);
  } else if (count > 1) {
    few<E, 4, 2, true>(rows, count, matrix, width, outputs, bias, outs);
  } else {
    few<E, 1, 8, true>(rows, count, matrix, width, outputs, bias, outs);
  }
}

}  // namespace project

#define PROJECT_KERNEL(suffix, Element)                                                            \
  extern "C" __global__ void __launch_bounds__(256, 2)                                             \
      project_##suffix(const u64* rows, u32 count, const Element::Word* matrix, u32 width,         \
                       u32 outputs, const float* bias, const u64* outs) {                          \
    project::any<Element>(rows, count, matrix, width, outputs, bias, outs);                        \
  }

PROJECT_KERNEL(f32, F32)
PROJECT_KERNEL(f16, F16)
PROJECT_KERNEL(bf16, BF16)
