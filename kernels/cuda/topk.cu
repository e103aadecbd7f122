// The k best entries of a row and its normaliser: kernels/src/topk.rs says exactly what that is,
// and the bits are the same.
//
//   topk_scan_<t> (const TopKJob* jobs, u32 cols, u32 k, u32 split, u8* scratch)
//       grid (split, rows), block 512 / split threads for a split of 1, 2, 4 or 8,
//       2048 / split for 16 or 32; no shared memory
//   topk_merge_<t>(const TopKJob* jobs, u32 cols, u32 k, u32 split, u32 values_dtype, u8* scratch)
//       grid (rows), block 512, shared memory 41,216 bytes; after the scan, in stream order
//
// In      job.row: cols elements, aligned as an element. Wide loads where the row allows them.
// Out     job.indices u32[k], job.values [k] of values_dtype (rounded to nearest even), both best
//         first and untouched beyond *job.count; *job.max, *job.log_sum f32; *job.flags u8.
// Limits  k up to 1,024 (a larger one is cut, and flagged as fewer than k); cols up to 2^32 - 1.
// Scratch 24,832 bytes per row at an address that is a multiple of 16; any content before, nothing
//         to keep after. The caller owns it; launches that may overlap need scratch of their own.
// Bits    do not depend on split, on the schedule, or on what other rows there are.
// Does not wait for another block, allocate, print, or trust any value of a row.
//
// How. The log-sum is defined over 4,096 lanes, entry i in lane i mod 4096, so a row is cut among
// threads by lanes: a thread owns a chunk of lanes in each half of every stripe of 4,096 entries,
// adds to its lanes in order of i, and folds the halves. On the way it keeps the maxima of groups:
// a chunk over a segment of consecutive stripes. The merge folds the sums, finds a value that at
// least k groups reach and not many more, and reads again only those groups: whatever reaches the
// value is a candidate. Sorted by (value, index), which are unique, the order in which candidates
// were found leaves no trace. Rows whose maximum is far from 0, or that hold NaN, are summed a
// second time, and rows with more candidates than there is room for (ties) are bisected over the
// keys: slow, linear, exact.
#include "topk_scan.cuh"

namespace topk {

// Lane by lane again, with any anchor and NaN as -inf, into the sums of the scratch. All threads of
// a merge.
template <class E>
RARE void sum_again(const typename E::Word* row, u32 cols, float anchor, float* sums) {
  // Lanes threadIdx.x + 512 i: the first four are in the lower half.
  constexpr u32 LANES = STRIPE / MERGE_THREADS;
  float lanes[LANES];
#pragma unroll
  for (u32 i = 0; i < LANES; i++) lanes[i] = 0.0f;
  u32 whole = cols / STRIPE;
  const typename E::Word* at = row + threadIdx.x;
#pragma unroll 2
  for (u32 stripe = 0; stripe < whole; stripe++, at += STRIPE) {
    typename E::Word words[LANES];
#pragma unroll
    for (u32 i = 0; i < LANES; i++) words[i] = __ldg(at + i * MERGE_THREADS);
#pragma unroll
    for (u32 i = 0; i < LANES; i++) {
      float d = fmaxf(__fsub_rn(E::widen(words[i]), anchor), -INFINITE);
      lanes[i] = __fadd_rn(lanes[i], exponential(d));
    }
  }
#pragma unroll
  for (u32 i = 0; i < LANES; i++) {
    if (threadIdx.x + i * MERGE_THREADS < cols % STRIPE) {
      float d = fmaxf(__fsub_rn(E::widen(at[i * MERGE_THREADS]), anchor), -INFINITE);
      lanes[i] = __fadd_rn(lanes[i], exponential(d));
    }
  }
#pragma unroll
  for (u32 i = 0; i < LANES / 2; i++) {
    sums[threadIdx.x + i * MERGE_THREADS] = __fadd_rn(lanes[i], lanes[i + LANES / 2]);
  }
}

// Entries equal to an infinite `max`, counted by each thread of a merge for itself.
template <class E>
RARE u32 count_equal(const typename E::Word* row, u32 cols, float max) {
  u32 count = 0;
#pragma unroll 4
  for (u64 at = threadIdx.x; at < cols; at += MERGE_THREADS) count += E::widen(row[at]) == max;
  return count;
}

// Entries whose key is at most `last`, likewise.
template <class E>
RARE u32 count_keys(const typename E::Word* row, u32 cols, u64 last) {
  u32 count = 0;
#pragma unroll 4
  for (u64 at = threadIdx.x; at < cols; at += MERGE_THREADS) {
    float x = E::widen(row[at]);
    count += !is_nan(x) && key_of(x, (u32)at) <= last;
  }
  return count;
}

// Takes every entry whose key is at most `last`, likewise.
template <class E>
RARE void collect_keys(const typename E::Word* row, u32 cols, u64 last, u64* keys, u32* taken) {
  for (u64 at = threadIdx.x; at < cols; at += MERGE_THREADS) {
    float x = E::widen(row[at]);
    if (!is_nan(x) && key_of(x, (u32)at) <= last) {
      u32 place = atomicAdd(taken, 1u);
      if (place < ROOM) keys[place] = key_of(x, (u32)at);
    }
  }
}

// The first two folds of 2,048 sums, 1024 and 512: what is left to thread t is place t.
DEVICE float fold_twice(const float* sums) {
  u32 t = threadIdx.x;
  float low = __fadd_rn(sums[t], sums[t + 1024]);
  float high = __fadd_rn(sums[t + 512], sums[t + 1536]);
  return __fadd_rn(low, high);
}

// Folds the 512 that are left: 256, 128, ..., 1. `floats` is shared memory for them. The answer is
// that of thread 0; all threads of a merge take part.
DEVICE float fold(float left, float* floats) {
  u32 t = threadIdx.x;
  floats[t] = left;
  __syncthreads();
  float sum = 0.0f;
  if (t < 32) {
    // Folds 256, 128, 64 and 32 at once: what a lane needs is 32 places apart.
    float part[8];
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
      part[i] = __fadd_rn(floats[t + 32 * i], floats[t + 32 * i + 256]);
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++) part[i] = __fadd_rn(part[i], part[i + 4]);
    sum = __fadd_rn(__fadd_rn(part[0], part[2]), __fadd_rn(part[1], part[3]));
#pragma unroll 1
    for (u32 half = 16; half > 0; half /= 2) {
      sum = __fadd_rn(sum, __shfl_down_sync(FULL_WARP, sum, half));
    }
  }
  __syncthreads();
  return sum;
}

// ln(sum of exp(x - max)); the answer is that of thread 0. `left` is the scan's sum, folded twice.
template <class E>
DEVICE float log_sum(const typename E::Word* row, u32 cols, float max, bool has_nan, float left,
                     Scratch* scratch, float* floats, Block& block) {
  if (is_infinite(max)) {
    u32 equal = block.sum(count_equal<E>(row, cols, max));
    return threadIdx.x == 0 ? __double2float_rn(logarithm((double)equal)) : 0.0f;
  }
  float anchor = -48.0f <= max && max <= 48.0f ? 0.0f : max;
  if (anchor != 0.0f || has_nan) {
    sum_again<E>(row, cols, anchor, scratch->sums);
    __syncthreads();
    left = fold_twice(scratch->sums);
  }
  float sum = fold(left, floats);
  if (threadIdx.x != 0) return 0.0f;
  double shift = __dsub_rn((double)anchor, (double)max);
  return __double2float_rn(__dadd_rn(logarithm((double)sum), shift));
}

// The maxima of the groups, eight to a thread, as integers of their order.
struct Maxima {
  u32 orders[GROUPS / MERGE_THREADS];

  __device__ __forceinline__ void load(const float* maxima) {
#pragma unroll
    for (u32 i = 0; i < GROUPS / MERGE_THREADS; i++) {
      orders[i] = order_of(maxima[i * MERGE_THREADS + threadIdx.x]);
    }
  }
  // The largest of this thread, and the smallest.
  __device__ __forceinline__ u32 top() const {
    u32 top = orders[0];
#pragma unroll
    for (u32 i = 1; i < GROUPS / MERGE_THREADS; i++) top = orders[i] > top ? orders[i] : top;
    return top;
  }
  __device__ __forceinline__ u32 least() const {
    u32 least = orders[0];
#pragma unroll
    for (u32 i = 1; i < GROUPS / MERGE_THREADS; i++) least = orders[i] < least ? orders[i] : least;
    return least;
  }
  __device__ __forceinline__ u32 reaching(u32 bound) const {
    u32 count = 0;
#pragma unroll
    for (u32 i = 0; i < GROUPS / MERGE_THREADS; i++) count += orders[i] >= bound;
    return count;
  }
};

// The order of a value that at least k groups reach and, ties aside, not many more. In short rows
// groups without entries count as -inf.
DEVICE u32 bound_of(const Maxima& maxima, u32 k, u32 top, Block& block) {
  // At least k groups reach `low`, as k is less than their number; fewer than k reach `high`.
  u32 low = ~block.max(~maxima.least()), high = top;
  if (block.sum(maxima.reaching(high)) >= k) return high;
  for (u32 step = 0; high - low > 1; step++) {
    u32 middle = low + (high - low) / 2;
    // Halving the values is faster than halving their bits, but need not end.
    float by_value = 0.5f * value_of(low) + 0.5f * value_of(high);
    if (step < 12 && is_finite(by_value)) {
      u32 order = order_of(by_value);
      if (low < order && order < high) middle = order;
    }
    u32 reached = block.sum(maxima.reaching(middle));
    if (reached < k) {
      high = middle;
    } else if (reached <= k + k / 8 + 16) {
      return middle;
    } else {
      low = middle;
    }
  }
  return low;
}

// Writes the numbers of the groups that reach `bound` in any order; gives how many.
DEVICE u32 list_groups(const Maxima& maxima, u32 bound, u16* groups, u32* listed) {
  if (threadIdx.x == 0) *listed = 0;
  __syncthreads();
#pragma unroll
  for (u32 i = 0; i < GROUPS / MERGE_THREADS; i++) {
    bool takes = maxima.orders[i] >= bound;
    u32 takers = __ballot_sync(FULL_WARP, takes);
    if (takers == 0) continue;
    u32 lane = threadIdx.x % 32, first = 0;
    if (lane == 0) first = atomicAdd(listed, (u32)__popc(takers));
    first = __shfl_sync(FULL_WARP, first, 0);
    u32 before = __popc(takers & ((1u << lane) - 1));
    if (takes) groups[first + before] = (u16)(i * MERGE_THREADS + threadIdx.x);
  }
  __syncthreads();
  return *listed;
}

// Takes every entry of the listed groups that reaches `bound`. `taken` may come to more than ROOM:
// then only that is known.
template <class E, u32 C>
DEVICE void collect(const typename E::Word* row, u32 cols, u32 bound, const u16* groups, u32 listed,
                    u64* keys, u32* taken) {
  u32 stripes = stripes_of(cols), length = Grouping<C>::length(cols);
  // An item is a stripe of a listed group. A thread loads several before it looks at any.
  constexpr u32 ITEMS = 4;
  u32 shift = 0;
  while (1u << shift < length && shift < 5) shift++;
  float least = value_of(bound);
  for (u32 first = 0; first < length; first += 1u << shift) {
    for (u32 start = threadIdx.x; start < listed << shift; start += MERGE_THREADS * ITEMS) {
      if (*(volatile u32*)taken > ROOM) return;
      float x[ITEMS][C];
      u64 at[ITEMS];
#pragma unroll
      for (u32 i = 0; i < ITEMS; i++) {
        u32 item = start + i * MERGE_THREADS;
        u32 group = groups[item < listed << shift ? item >> shift : 0];
        u32 of_group = first + (item & ((1u << shift) - 1));
        u32 stripe = group / Grouping<C>::PER_SEGMENT * length + of_group;
        bool takes = item < listed << shift && of_group < length && stripe < stripes;
        at[i] = (u64)stripe * STRIPE + group % Grouping<C>::PER_SEGMENT * C;
#pragma unroll
        for (u32 j = 0; j < C; j++) {
          bool inside = takes && at[i] + j < cols;
          x[i][j] = inside ? E::widen(__ldg(row + at[i] + j)) : __uint_as_float(0x7fc00000u);
        }
      }
#pragma unroll
      for (u32 i = 0; i < ITEMS; i++) {
#pragma unroll
        for (u32 j = 0; j < C; j++) {
          if (!(x[i][j] >= least)) continue;
          u32 place = atomicAdd(taken, 1u);
          if (place < ROOM) keys[place] = key_of(x[i][j], (u32)at[i] + j);
        }
      }
    }
  }
}

// More candidates than room: finds a key that at least k and at most ROOM entries reach, by
// halving. Keys are unique, so there is one.
template <class E>
RARE void bisect(const typename E::Word* row, u32 cols, u32 k, u32 bound, u32 top, u64* keys,
                 u32* taken, u32* words) {
  Block block(words);
  u64 low = (u64)~top << 32, high = (u64)~bound << 32 | 0xffffffffu, middle;
  for (;;) {
    middle = low + (high - low) / 2;
    u32 count = block.sum(count_keys<E>(row, cols, middle));
    if (count < k) {
      low = middle + 1;
    } else if (count > ROOM) {
      high = middle;
    } else {
      break;
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) *taken = 0;
  __syncthreads();
  collect_keys<E>(row, cols, middle, keys, taken);
  __syncthreads();
}

// Sorts `count` keys, ascending, by a network over the next power of two.
RARE void sort(u64* keys, u32 count) {
  u32 size = 2;
  while (size < count) size *= 2;
  for (u32 i = count + threadIdx.x; i < size; i += MERGE_THREADS) keys[i] = ~0ull;
  __syncthreads();
  for (u32 run = 2; run <= size; run *= 2) {
    for (u32 apart = run / 2; apart > 0; apart /= 2) {
      for (u32 i = threadIdx.x; i < size / 2; i += MERGE_THREADS) {
        u32 low = i / apart * apart * 2 + i % apart, high = low + apart;
        u64 a = keys[low], b = keys[high];
        if ((a > b) == ((low & run) == 0)) keys[low] = b, keys[high] = a;
      }
      __syncthreads();
    }
  }
}

DEVICE void write(const Job& job, u32 values_dtype, u32 place, u64 key) {
  ((u32*)job.indices)[place] = (u32)key;
  store_as(values_dtype, (void*)job.values, place, value_of(~(u32)(key >> 32)));
}

template <class E>
DEVICE void merge(const Job* jobs, u32 cols, u32 k, u32 split, u32 values_dtype, u8* scratch) {
  typedef typename E::Word Word;
  u64* keys = (u64*)SHARED_MEMORY;
  u16* groups = (u16*)(keys + ROOM);
  u32* words = (u32*)(groups + GROUPS);
  // Of the 64 words a sum uses 16 at 0 and 16 at 32: the others are free.
  u32 *listed = words + 16, *taken = words + 17;
  Block block(words);
  Job job = jobs[blockIdx.x];
  const Word* row = (const Word*)job.row;
  Scratch* mine = scratch_of(scratch, blockIdx.x);

  Maxima maxima;
  maxima.load(mine->maxima);
  float left = fold_twice(mine->sums);
  u32 top = block.max(maxima.top());
  float max = value_of(top);
  bool part_has_nan = threadIdx.x < split && mine->has_nan[threadIdx.x] != 0;
  bool has_nan = __syncthreads_or(part_has_nan) != 0;
  float normaliser = log_sum<E>(row, cols, max, has_nan, left, mine, (float*)keys, block);

  u32 wanted = k < K_MAX ? k : K_MAX, count = 0;
  if (wanted > 0) {
    u32 bound = bound_of(maxima, wanted, top, block);
    if (threadIdx.x == 0) *taken = 0;
    u32 groups_listed = list_groups(maxima, bound, groups, listed);
    if (split > 8) {
      collect<E, 1>(row, cols, bound, groups, groups_listed, keys, taken);
    } else {
      collect<E, 4>(row, cols, bound, groups, groups_listed, keys, taken);
    }
    __syncthreads();
    u32 candidates = *taken;
    __syncthreads();
    if (candidates > ROOM) {
      bisect<E>(row, cols, wanted, bound, top, keys, taken, words);
      candidates = *taken;
    }
    count = candidates < wanted ? candidates : wanted;
    if (candidates <= RANKED) {
      if (threadIdx.x < candidates) {
        u64 key = keys[threadIdx.x];
        u32 rank = 0;
        for (u32 i = 0; i < candidates; i++) rank += keys[i] < key;
        if (rank < count) write(job, values_dtype, rank, key);
      }
    } else {
      sort(keys, candidates);
      for (u32 i = threadIdx.x; i < count; i += MERGE_THREADS) write(job, values_dtype, i, keys[i]);
    }
  }
  if (threadIdx.x == 0) {
    *(u32*)job.count = count;
    *(float*)job.max = max;
    *(float*)job.log_sum = normaliser;
    u32 flags = has_nan ? FLAG_NAN : 0;
    if (count < k) flags |= FLAG_FEWER_THAN_K;
    if (is_infinite(max) && cols > 0) flags |= FLAG_INFINITY;
    *(u8*)job.flags = (u8)flags;
  }
}

}  // namespace topk

#define TOPK_KERNELS(suffix, Element)                                                              \
  extern "C" __global__ void __launch_bounds__(512, 2)                                             \
      topk_scan_##suffix(const topk::Job* jobs, u32 cols, u32 k, u32 split, u8* scratch) {         \
    (void)k;                                                                                       \
    topk::scan<Element>(jobs, cols, split, scratch);                                               \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(512, 2)                                             \
      topk_merge_##suffix(const topk::Job* jobs, u32 cols, u32 k, u32 split, u32 values_dtype,     \
                          u8* scratch) {                                                           \
    topk::merge<Element>(jobs, cols, k, split, values_dtype, scratch);                             \
  }

TOPK_KERNELS(f32, F32)
TOPK_KERNELS(f16, F16)
TOPK_KERNELS(bf16, BF16)
