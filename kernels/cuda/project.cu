// Products of rows with a matrix: logits of hidden rows, or rotations: kernels/src/lmhead.rs says
// exactly what that is, and the bits are the same.
//
//   project_<t>(const u64* rows, u32 count, const <t>* matrix, u32 width, u32 outputs,
//               const float* bias, const u64* outs)
//       grid (ceil(outputs / 32), ceil(count / R)) where R is 4 for a count up to 4, else 16;
//       block 256; shared memory (32 + R) * 264 bytes
//
// In      rows: count addresses of f32[width]; matrix [outputs, width], row-major, aligned as its
//         element; bias f32[outputs] or null.
// Out     outs: count addresses of f32[outputs].
// Order   Products are summed in 16 lanes: lane l takes columns l, l + 16, ... in that order, each by
//         one fused multiply-add from +0; lanes are folded 8, 4, 2, 1; then the bias is added. It does
//         not depend on how many rows there are.
// Limits  width, outputs and count up to 2^31; what fits the memory.
// Does not use scratch or tensor cores (their sums have another order), or wait for another block.
//
// How. Half a warp computes a tile of rows times outputs, its 16 threads the 16 lanes; a block's
// eight pairs of tiles share panels of 64 columns in shared memory, so that a weight is read from
// memory once for all rows of the block.
#include "common.cuh"

namespace project {

// Outputs of a block, and of a thread's tile.
constexpr u32 OUTPUTS = 32;
constexpr u32 TILE_OUTPUTS = 8;
// Tiles of a block along the rows.
constexpr u32 ROW_TILES = 4;
// Columns of a panel, and their stride: the outputs of two half-warps lie 16 banks apart.
constexpr u32 PANEL = 64;
constexpr u32 STRIDE = 66;

// A block's panels in shared memory, and what fills them.
template <class E, u32 R>
struct Panels {
  float* rows;     // [R * ROW_TILES][STRIDE]
  float* weights;  // [OUTPUTS][STRIDE]

  __device__ __forceinline__ Panels() {
    rows = (float*)SHARED_MEMORY;
    weights = rows + R * ROW_TILES * STRIDE;
  }

  // Columns first.. of the block's rows and outputs; 0 beyond the edges.
  __device__ __forceinline__ void load(const u64* row_addresses, u32 count,
                                       const typename E::Word* matrix, u32 width, u32 outputs,
                                       u32 first) {
    u32 column = threadIdx.x % PANEL, start = threadIdx.x / PANEL;
    bool inside = column < width - first;
#pragma unroll
    for (u32 i = start; i < R * ROW_TILES; i += 256 / PANEL) {
      u32 row = blockIdx.y * R * ROW_TILES + i;
      bool takes = inside && row < count;
      rows[i * STRIDE + column] =
          takes ? __ldg((const float*)row_addresses[row] + first + column) : 0.0f;
    }
#pragma unroll
    for (u32 i = start; i < OUTPUTS; i += 256 / PANEL) {
      u32 output = blockIdx.x * OUTPUTS + i;
      bool takes = inside && output < outputs;
      u64 at = (u64)output * width + first + column;
      weights[i * STRIDE + column] = takes ? E::widen(__ldg(matrix + at)) : 0.0f;
    }
  }
};

template <class E, u32 R>
DEVICE void tiles(const u64* row_addresses, u32 count, const typename E::Word* matrix, u32 width,
                  u32 outputs, const float* bias, const u64* outs) {
  Panels<E, R> panels;
  u32 lane = threadIdx.x % 16, tile = threadIdx.x / 16;
  // The two halves of a warp share their rows.
  u32 row_tile = tile / (OUTPUTS / TILE_OUTPUTS), output_tile = tile % (OUTPUTS / TILE_OUTPUTS);
  float sums[R][TILE_OUTPUTS];
#pragma unroll
  for (u32 r = 0; r < R; r++) {
#pragma unroll
    for (u32 o = 0; o < TILE_OUTPUTS; o++) sums[r][o] = 0.0f;
  }
#pragma unroll 1
  for (u32 first = 0; first < width; first += PANEL) {
    panels.load(row_addresses, count, matrix, width, outputs, first);
    __syncthreads();
    // A last group of 16 columns that is not whole counts with zeros, as on the CPU; no group that
    // is wholly outside does, for it could turn -0 into +0.
    u32 end = width - first < PANEL ? (width - first + 15) / 16 * 16 : PANEL;
#pragma unroll 2
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

template <class E>
DEVICE void any(const u64* rows, u32 count, const typename E::Word* matrix, u32 width, u32 outputs,
                const float* bias, const u64* outs) {
  if (count <= 4) {
    tiles<E, 1>(rows, count, matrix, width, outputs, bias, outs);
  } else {
    tiles<E, 4>(rows, count, matrix, width, outputs, bias, outs);
  }
}

}  // namespace project

#define PROJECT_KERNEL(suffix, Element)                                                            \
  extern "C" __global__ void __launch_bounds__(256)                                                \
      project_##suffix(const u64* rows, u32 count, const Element::Word* matrix, u32 width,         \
                       u32 outputs, const float* bias, const u64* outs) {                          \
    project::any<Element>(rows, count, matrix, width, outputs, bias, outs);                        \
  }

PROJECT_KERNEL(f32, F32)
PROJECT_KERNEL(f16, F16)
PROJECT_KERNEL(bf16, BF16)
