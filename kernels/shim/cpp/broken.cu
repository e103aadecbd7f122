// Kernels with one mistake each, and one without: what the tests of the shim run.

#ifndef SHARED_MEMORY
extern __shared__ unsigned char dynamic_shared[];
#define SHARED_MEMORY dynamic_shared
#endif

// Thread 0 leaves a number for all others, who do not wait for it.
extern "C" __global__ void broken_missing_barrier(unsigned* out) {
  volatile unsigned* shared = (volatile unsigned*)SHARED_MEMORY;
  if (threadIdx.x == 0) shared[0] = 7;
  // Here a barrier is missing.
  out[threadIdx.x] = shared[0];
}

extern "C" __global__ void broken_divergent_barrier(unsigned* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    out[threadIdx.x] = 1;
    __syncthreads();
  }
}

extern "C" __global__ void broken_early_exit(unsigned* out) {
  if (threadIdx.x == 5) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

extern "C" __global__ void broken_reads_unwritten(unsigned* out) {
  const volatile unsigned* shared = (const volatile unsigned*)SHARED_MEMORY;
  out[threadIdx.x] = shared[threadIdx.x];
}

extern "C" __global__ void broken_overrun(unsigned at) {
  volatile unsigned char* shared = (volatile unsigned char*)SHARED_MEMORY;
  if (threadIdx.x == 0) shared[at] = 1;
}

extern "C" __global__ void broken_alignment(const unsigned* from, unsigned* out) {
  if (threadIdx.x == 0) out[0] = ((const uint4*)from)->z;
}

extern "C" __global__ void broken_shuffle_mask(unsigned* out) {
  if (threadIdx.x == 3) return;
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, threadIdx.x, 1);
}

// Every block writes the first word.
extern "C" __global__ void broken_global_race(unsigned* out) {
  if (threadIdx.x == 0) out[0] = blockIdx.x;
}

// Reads beyond 32 words.
extern "C" __global__ void broken_global_read(const unsigned* from, unsigned* out) {
  out[threadIdx.x] = from[threadIdx.x + 1];
}

// The order in which threads come: whatever the schedule makes of it.
extern "C" __global__ void sound_arrivals(unsigned* out) {
  unsigned* counter = (unsigned*)SHARED_MEMORY;
  if (threadIdx.x == 0) *counter = 0;
  __syncthreads();
  out[threadIdx.x] = atomicAdd(counter, 1u);
}

// Thread x of block b gives: the sum of its warp's lanes, a ballot of the odd ones, the number of
// threads below 40, its neighbour's number, and its block.
extern "C" __global__ void sound_collectives(unsigned* out) {
  unsigned x = threadIdx.x;
  unsigned* mine = out + (blockIdx.x * blockDim.x + x) * 5;
  mine[0] = __reduce_add_sync(0xffffffffu, x % 32);
  mine[1] = __ballot_sync(0xffffffffu, x % 2);
  mine[2] = (unsigned)__syncthreads_count(x < 40);
  mine[3] = __shfl_xor_sync(0xffffffffu, x, 1);
  mine[4] = blockIdx.x;
}
