// Runs the CUDA kernels on this machine: the C face, for Rust and for a stand-in of a driver.
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// What shim_launch answers.
enum {
  SHIM_OK = 0,
  SHIM_UNKNOWN = 1,  // no such kernel
  SHIM_SHAPE = 2,    // a grid, block or shared memory that no device takes
  SHIM_FAULT = 3,    // the kernel is wrong: a divergent barrier, a deadlock, a misaligned address
};

// 1 if there is a kernel of that name, else 0.
int shim_find(const char* kernel);

// Number of arguments of a kernel; -1 if there is none of that name.
int shim_arguments(const char* kernel);

// Runs a whole grid before it returns. `args` points to one pointer per argument, as for
// cuLaunchKernel. The schedule of threads and blocks follows from `seed`; seed 0 takes them in
// order. An answer other than SHIM_OK is explained in `error`, which may be null. Any number of
// host threads may launch at once.
int shim_launch(const char* kernel, const unsigned grid[3], const unsigned block[3],
                unsigned shared, void** args, unsigned long long seed, char* error,
                size_t error_len);

// Lets the shim watch a piece of memory: an access to the `guard` bytes before or behind it, which
// the caller keeps unused, is then reported. Without it nothing is known of global memory.
void shim_watch(const void* start, size_t len, size_t guard);
void shim_unwatch(const void* start);

#ifdef __cplusplus
}
#endif
