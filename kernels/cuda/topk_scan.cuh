// The first half of top-k, the scan: what a row and its scratch look like, lanes, groups, and their
// maxima and sums. The contract is in topk.cu.
#pragma once
#include "numbers.cuh"

namespace topk {

struct Job {
  u64 row, indices, values, count, max, log_sum, flags;
};

constexpr u32 STRIPE = 4096;
constexpr u32 HALF = STRIPE / 2;
constexpr u32 GROUPS = 4096;
constexpr u32 PARTS_MAX = 32;
constexpr u32 K_MAX = 1024;
constexpr u32 ROOM = 4096;
constexpr u32 MERGE_THREADS = 512;
// Up to this many candidates each finds its rank by itself; more are sorted together.
constexpr u32 RANKED = 384;

// Per row: also in kernels/src/cuda/plan.rs.
struct Scratch {
  float sums[HALF];
  float maxima[GROUPS];
  u32 has_nan[PARTS_MAX];
  u8 padding[128];
};
static_assert(sizeof(Scratch) == 24832, "as the plan has it");

DEVICE Scratch* scratch_of(u8* scratch, u32 row) { return (Scratch*)scratch + row; }

DEVICE u32 stripes_of(u32 cols) { return cols / STRIPE + (cols % STRIPE != 0); }

// How lanes become groups when a thread's chunk has C lanes.
template <u32 C>
struct Grouping {
  static constexpr u32 PER_SEGMENT = STRIPE / C;
  static constexpr u32 SEGMENTS = GROUPS / PER_SEGMENT;
  // Stripes of a segment, at least 1.
  DEVICE u32 length(u32 cols) {
    u32 length = (stripes_of(cols) + SEGMENTS - 1) / SEGMENTS;
    return length > 0 ? length : 1;
  }
};

// A chunk of C lanes as it lies in memory.
template <class E, u32 C, bool WIDE>
struct Chunk;
template <class E, bool WIDE>
struct Chunk<E, 4, WIDE> {
  typename E::Four four;
  __device__ __forceinline__ void load(const typename E::Word* at) {
    four = load_four<E, WIDE>(at);
  }
  __device__ __forceinline__ void widen(float* to) const { E::unpack(four, to); }
};
template <class E, bool WIDE>
struct Chunk<E, 1, WIDE> {
  typename E::Word word;
  __device__ __forceinline__ void load(const typename E::Word* at) { word = __ldg(at); }
  __device__ __forceinline__ void widen(float* to) const { *to = E::widen(word); }
};

// What a thread knows of its lanes.
template <class E, u32 C>
struct Lanes {
  const typename E::Word* row;
  u32 cols, thread;
  float sums[2][C];
  float tops[2];
  u32 segment, segment_length, in_segment;
  bool has_nan;

  __device__ __forceinline__ void add(u32 half, const float* x) {
#pragma unroll
    for (u32 i = 0; i < C; i++) {
      tops[half] = max_or_nan(tops[half], x[i]);
      sums[half][i] = __fadd_rn(sums[half][i], exponential(x[i]));
    }
  }

  // The first `end - at` entries of a chunk that the row's end cuts.
  __device__ __forceinline__ void add_cut(u32 half, u64 at) {
#pragma unroll
    for (u32 i = 0; i < C; i++) {
      if (at + i < cols) {
        float x = E::widen(__ldg(row + at + i));
        tops[half] = max_or_nan(tops[half], x);
        sums[half][i] = __fadd_rn(sums[half][i], exponential(x));
      }
    }
  }

  // Ends a stripe; the last of a segment writes the segment's maxima.
  __device__ __forceinline__ void step(float* maxima) {
    if (++in_segment == segment_length) flush(maxima);
  }

  __device__ __forceinline__ void flush(float* maxima) {
    float* to = maxima + segment * Grouping<C>::PER_SEGMENT + thread;
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
      to[half * (HALF / C)] = tops[half];
      has_nan = has_nan || is_nan(tops[half]);
      tops[half] = -INFINITE;
    }
    segment++;
    in_segment = 0;
  }
};

// Replaces this thread's maxima that are NaN by those of the numbers in their groups.
template <class E, u32 C>
RARE void mend(const typename E::Word* row, u32 cols, u32 thread, float* maxima) {
  u32 length = Grouping<C>::length(cols);
  for (u32 i = 0; i < 2 * Grouping<C>::SEGMENTS; i++) {
    u32 segment = i / 2, lanes = i % 2 * (HALF / C) + thread;
    float* top = maxima + segment * Grouping<C>::PER_SEGMENT + lanes;
    if (!is_nan(*top)) continue;
    *top = -INFINITE;
    for (u32 stripe = segment * length; stripe < (segment + 1) * length; stripe++) {
      for (u32 lane = lanes * C; lane < (lanes + 1) * C; lane++) {
        u64 at = (u64)stripe * STRIPE + lane;
        if (at < cols) *top = fmaxf(*top, E::widen(row[at]));
      }
    }
  }
}

template <class E, u32 C, u32 UNROLL, bool WIDE>
DEVICE void scan_lanes(const typename E::Word* row, u32 cols, Scratch* scratch) {
  Lanes<E, C> lanes;
  lanes.row = row;
  lanes.cols = cols;
  lanes.thread = blockIdx.x * blockDim.x + threadIdx.x;
  lanes.segment = lanes.in_segment = 0;
  lanes.segment_length = Grouping<C>::length(cols);
  lanes.has_nan = false;
#pragma unroll
  for (u32 half = 0; half < 2; half++) {
    lanes.tops[half] = -INFINITE;
#pragma unroll
    for (u32 i = 0; i < C; i++) lanes.sums[half][i] = 0.0f;
  }

  u32 whole = cols / STRIPE, stripe = 0;
  const typename E::Word* at = row + lanes.thread * C;
  // All loads of some stripes before the first use: they wait for memory together.
#pragma unroll 1
  for (; whole - stripe >= UNROLL; stripe += UNROLL, at += UNROLL * STRIPE) {
    Chunk<E, C, WIDE> chunks[UNROLL][2];
#pragma unroll
    for (u32 u = 0; u < UNROLL; u++) {
      chunks[u][0].load(at + u * STRIPE);
      chunks[u][1].load(at + u * STRIPE + HALF);
    }
#pragma unroll
    for (u32 u = 0; u < UNROLL; u++) {
#pragma unroll
      for (u32 half = 0; half < 2; half++) {
        float x[C];
        chunks[u][half].widen(x);
        lanes.add(half, x);
      }
      lanes.step(scratch->maxima);
    }
  }
#pragma unroll 1
  for (; stripe < whole; stripe++, at += STRIPE) {
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
      Chunk<E, C, WIDE> chunk;
      float x[C];
      chunk.load(at + half * HALF);
      chunk.widen(x);
      lanes.add(half, x);
    }
    lanes.step(scratch->maxima);
  }
  if (cols % STRIPE != 0) {
    u64 first = (u64)whole * STRIPE + lanes.thread * C;
    lanes.add_cut(0, first);
    lanes.add_cut(1, first + HALF);
    lanes.step(scratch->maxima);
  }
  // What is left of the last segment, and segments that the row does not reach.
#pragma unroll 1
  while (lanes.segment < Grouping<C>::SEGMENTS) lanes.flush(scratch->maxima);
  if (lanes.has_nan) mend<E, C>(row, cols, lanes.thread, scratch->maxima);

#pragma unroll
  for (u32 i = 0; i < C; i++) {
    scratch->sums[lanes.thread * C + i] = __fadd_rn(lanes.sums[0][i], lanes.sums[1][i]);
  }
  int has_nan = __syncthreads_or(lanes.has_nan);
  if (threadIdx.x == 0) scratch->has_nan[blockIdx.x] = has_nan != 0;
}

template <class E>
DEVICE void scan(const Job* jobs, u32 cols, u32 split, u8* scratch) {
  typedef typename E::Word Word;
  const Word* row = (const Word*)jobs[blockIdx.y].row;
  Scratch* mine = scratch_of(scratch, blockIdx.y);
  if (split > 8) {
    scan_lanes<E, 1, 8, false>(row, cols, mine);
  } else if (is_aligned<typename E::Four>(row)) {
    scan_lanes<E, 4, 8 / sizeof(Word), true>(row, cols, mine);
  } else {
    scan_lanes<E, 4, 2, false>(row, cols, mine);
  }
}

}  // namespace topk
