// What the files of the stand-in driver share. Every function here wants `lock` held.
#pragma once
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

using Result = int;
enum : Result {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201,
  UNSUPPORTED_PTX = 222,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_OUT_OF_RESOURCES = 701,
  ALREADY_REGISTERED = 712,
  NOT_REGISTERED = 713,
  LAUNCH_FAILED = 719,
  NOT_SUPPORTED = 801,
  DRIVER_MISMATCH = 803,
};

// This and all that is global is never destroyed: the thread of the driver outlives `main`.
extern std::recursive_mutex& lock;
// Not SUCCESS once the device is lost: what every call answers from then on.
extern Result sticky;

// True where the call of this kind, counted from 1, is the one that `FAKE_CUDA_FAIL` names.
bool fails(const char* kind);
uint64_t draw();  // the next number of the seeded sequence

// --- memory ---
struct IpcHandle {
  uint64_t magic;
  int32_t pid;
  int32_t fd;
  uint64_t size;
  uint64_t offset;
  char rest[32];
};
static_assert(sizeof(IpcHandle) == 64, "as CUipcMemHandle");

Result device_alloc(uint64_t* at, size_t size);
Result device_free(uint64_t at);
Result host_alloc(void** at, size_t size);
Result host_free(void* at);
Result host_register(void* at, size_t size);
Result host_unregister(void* at);
Result host_device_pointer(uint64_t* at, void* host);
Result address_range(uint64_t* base, size_t* size, uint64_t at);
Result ipc_handle(IpcHandle* handle, uint64_t at);
Result ipc_open(uint64_t* at, const IpcHandle* handle);
Result ipc_close(uint64_t at);
// The whole range is memory that the device may address.
bool is_device(uint64_t at, size_t size);
// The whole range is pinned or registered memory of the host, by its host address.
bool is_pinned(const void* at, size_t size);

// --- streams ---
struct Event {
  bool recorded = false;
  bool done = true;
};
using EventPtr = std::shared_ptr<Event>;

struct Op {
  enum Kind { COPY, LAUNCH, HOST, RECORD, WAIT, CALL } kind;
  char* to = nullptr;
  const char* from = nullptr;
  size_t size = 0;
  std::vector<char> staged;
  std::string kernel;
  unsigned grid[3] = {}, block[3] = {}, shared = 0;
  std::vector<uint64_t> params;
  void (*call)(void*) = nullptr;
  void* data = nullptr;
  EventPtr event;
  std::function<void()> work;
};

struct Stream {
  std::deque<Op> queue;
};

Stream* stream_create();
Result stream_destroy(Stream* stream);
bool stream_exists(Stream* stream);
// Queues; a host function also sets the driver's own thread to work.
Result push(Stream* stream, Op op);
Result run_until_empty(Stream* stream);  // null: all streams
void run_some();                         // a drawn number of operations
