// The driver's calls that this project makes, by their names in the driver's library.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <set>

#include "fake.h"
#include "shim.h"

#define API extern "C" __attribute__((visibility("default"))) Result
#define ENTER std::lock_guard<std::recursive_mutex> held(lock)
// Every call but the few that work on a lost device.
#define LIVE \
  ENTER;     \
  if (sticky != SUCCESS) return sticky

namespace {

using Function = const char*;

struct Module {
  std::string text;
};

std::set<Module*>& modules = *new std::set<Module*>;
// Names live as long as the process, as functions do here.
std::set<std::string>& functions = *new std::set<std::string>;
std::map<void*, std::pair<EventPtr, double>>& events = *new std::map<void*, std::pair<EventPtr, double>>;
bool initialized = false;
int retained = 0;
thread_local void* current = nullptr;
char context;  // its address stands for the one primary context

int devices() {
  const char* text = getenv("FAKE_CUDA_DEVICES");
  return text == nullptr ? 1 : atoi(text);
}

double now_ms() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

}  // namespace

// --- device and context ---

API cuInit(unsigned) {
  ENTER;
  if (fails("init")) return DRIVER_MISMATCH;
  initialized = true;
  return SUCCESS;
}

API cuDriverGetVersion(int* version) {
  *version = 12000;
  return SUCCESS;
}

API cuDeviceGetCount(int* count) {
  ENTER;
  if (!initialized) return NOT_INITIALIZED;
  *count = devices();
  return SUCCESS;
}

API cuDeviceGet(int* device, int ordinal) {
  ENTER;
  if (!initialized) return NOT_INITIALIZED;
  if (ordinal < 0 || ordinal >= devices()) return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}

API cuDeviceGetName(char* name, int len, int device) {
  snprintf(name, static_cast<size_t>(len), "Fake %d", device);
  return SUCCESS;
}

API cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = 4ull << 30;
  return SUCCESS;
}

API cuDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 16: *value = 4; break;   // multiprocessors
    case 75: *value = 9; break;   // compute capability, major
    case 76: *value = 0; break;   // minor
    default: *value = 0; break;
  }
  return SUCCESS;
}

API cuDevicePrimaryCtxRetain(void** out, int device) {
  LIVE;
  if (device < 0 || device >= devices()) return INVALID_DEVICE;
  retained++;
  *out = &context;
  return SUCCESS;
}

API cuDevicePrimaryCtxRelease_v2(int) {
  ENTER;
  if (retained == 0) return INVALID_CONTEXT;
  retained--;
  return SUCCESS;
}

API cuCtxSetCurrent(void* to) {
  current = to;
  return SUCCESS;
}

API cuCtxGetCurrent(void** out) {
  *out = current;
  return SUCCESS;
}

API cuCtxSynchronize() {
  LIVE;
  return current == nullptr ? INVALID_CONTEXT : run_until_empty(nullptr);
}

API cuMemGetInfo_v2(size_t* free, size_t* total) {
  LIVE;
  *total = 4ull << 30;
  *free = *total / 2;
  return SUCCESS;
}

// --- memory ---

API cuMemAlloc_v2(uint64_t* at, size_t size) {
  LIVE;
  return current == nullptr ? INVALID_CONTEXT : device_alloc(at, size);
}

API cuMemFree_v2(uint64_t at) {
  LIVE;
  Result done = run_until_empty(nullptr);
  return done == SUCCESS ? device_free(at) : done;
}

API cuMemHostAlloc(void** at, size_t size, unsigned) {
  LIVE;
  return host_alloc(at, size);
}

API cuMemFreeHost(void* at) {
  LIVE;
  Result done = run_until_empty(nullptr);
  return done == SUCCESS ? host_free(at) : done;
}

API cuMemHostRegister_v2(void* at, size_t size, unsigned flags) {
  LIVE;
  return (flags & 2) == 0 ? INVALID_VALUE : host_register(at, size);
}

API cuMemHostGetDevicePointer_v2(uint64_t* at, void* host, unsigned) {
  LIVE;
  return host_device_pointer(at, host);
}

API cuMemHostUnregister(void* at) {
  LIVE;
  Result done = run_until_empty(nullptr);
  return done == SUCCESS ? host_unregister(at) : done;
}

API cuMemGetAddressRange_v2(uint64_t* base, size_t* size, uint64_t at) {
  LIVE;
  return address_range(base, size, at);
}

API cuIpcGetMemHandle(IpcHandle* handle, uint64_t at) {
  LIVE;
  return ipc_handle(handle, at);
}

API cuIpcOpenMemHandle_v2(uint64_t* at, IpcHandle handle, unsigned) {
  LIVE;
  return ipc_open(at, &handle);
}

API cuIpcCloseMemHandle(uint64_t at) {
  LIVE;
  Result done = run_until_empty(nullptr);
  return done == SUCCESS ? ipc_close(at) : done;
}

// --- copies ---

namespace {

Result copy(Stream* stream, char* to, const char* from, size_t size, const void* host, bool in) {
  Op op{};
  op.kind = Op::COPY;
  op.to = to;
  op.from = from;
  op.size = size;
  bool pinned = is_pinned(host, size);
  // From pageable memory a copy is staged before the call returns.
  if (in && !pinned) op.staged.assign(from, from + size);
  Result done = push(stream, std::move(op));
  // To pageable memory it is done before the call returns.
  return done != SUCCESS || in || pinned ? done : run_until_empty(stream);
}

}  // namespace

API cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t size, Stream* stream) {
  LIVE;
  uint64_t host = reinterpret_cast<uint64_t>(from);
  if (!is_device(to, size) || is_device(host, 1)) return INVALID_VALUE;
  return copy(stream, reinterpret_cast<char*>(to), static_cast<const char*>(from), size, from,
              true);
}

API cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t size, Stream* stream) {
  LIVE;
  uint64_t host = reinterpret_cast<uint64_t>(to);
  if (!is_device(from, size) || is_device(host, 1)) return INVALID_VALUE;
  return copy(stream, static_cast<char*>(to), reinterpret_cast<const char*>(from), size, to, false);
}

API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, Stream* stream) {
  LIVE;
  if (!is_device(from, size) || !is_device(to, size)) return INVALID_VALUE;
  Op op{};
  op.kind = Op::COPY;
  op.to = reinterpret_cast<char*>(to);
  op.from = reinterpret_cast<const char*>(from);
  op.size = size;
  return push(stream, std::move(op));
}

API cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t size) {
  LIVE;
  if (!is_device(to, size)) return INVALID_VALUE;
  memcpy(reinterpret_cast<void*>(to), from, size);
  return SUCCESS;
}

API cuMemcpyDtoH_v2(void* to, uint64_t from, size_t size) {
  LIVE;
  if (!is_device(from, size)) return INVALID_VALUE;
  memcpy(to, reinterpret_cast<const void*>(from), size);
  return SUCCESS;
}

// --- streams and events ---

API cuStreamCreate(Stream** stream, unsigned) {
  LIVE;
  *stream = stream_create();
  return SUCCESS;
}

API cuStreamDestroy_v2(Stream* stream) {
  ENTER;
  return stream_destroy(stream);
}

API cuStreamSynchronize(Stream* stream) {
  LIVE;
  return stream_exists(stream) ? run_until_empty(stream) : INVALID_HANDLE;
}

API cuStreamWaitEvent(Stream* stream, void* event, unsigned) {
  LIVE;
  if (events.count(event) == 0) return INVALID_HANDLE;
  Op op{};
  op.kind = Op::WAIT;
  op.event = events[event].first;
  return push(stream, std::move(op));
}

API cuLaunchHostFunc(Stream* stream, void (*call)(void*), void* data) {
  LIVE;
  Op op{};
  op.kind = Op::HOST;
  op.call = call;
  op.data = data;
  return push(stream, std::move(op));
}

API cuEventCreate(void** event, unsigned) {
  LIVE;
  *event = new char;
  events[*event] = {std::make_shared<Event>(), 0};
  return SUCCESS;
}

API cuEventDestroy_v2(void* event) {
  ENTER;
  if (events.erase(event) == 0) return INVALID_HANDLE;
  delete static_cast<char*>(event);
  return SUCCESS;
}

API cuEventRecord(void* event, Stream* stream) {
  LIVE;
  auto found = events.find(event);
  if (found == events.end()) return INVALID_HANDLE;
  // A new one for each recording: who waits for the old one is not kept.
  found->second = {std::make_shared<Event>(), now_ms()};
  found->second.first->done = false;
  Op op{};
  op.kind = Op::RECORD;
  op.event = found->second.first;
  return push(stream, std::move(op));
}

API cuEventQuery(void* event) {
  LIVE;
  auto found = events.find(event);
  if (found == events.end()) return INVALID_HANDLE;
  if (!found->second.first->done) run_some();
  if (sticky != SUCCESS) return sticky;
  return found->second.first->done ? SUCCESS : NOT_READY;
}

API cuEventSynchronize(void* event) {
  LIVE;
  auto found = events.find(event);
  if (found == events.end()) return INVALID_HANDLE;
  while (!found->second.first->done && sticky == SUCCESS) run_some();
  return sticky;
}

API cuEventElapsedTime(float* ms, void* start, void* end) {
  LIVE;
  if (events.count(start) == 0 || events.count(end) == 0) return INVALID_HANDLE;
  *ms = static_cast<float>(events[end].second - events[start].second);
  return SUCCESS;
}

// --- modules and launches ---

API cuModuleLoadData(Module** module, const void* image) {
  LIVE;
  if (fails("ptx")) return UNSUPPORTED_PTX;
  *module = new Module{static_cast<const char*>(image)};
  modules.insert(*module);
  return SUCCESS;
}

API cuModuleUnload(Module* module) {
  ENTER;
  if (modules.erase(module) == 0) return INVALID_HANDLE;
  delete module;
  return SUCCESS;
}

API cuModuleGetFunction(Function* function, Module* module, const char* name) {
  LIVE;
  if (modules.count(module) == 0) return INVALID_HANDLE;
  if (module->text.find(std::string(".entry ") + name + "(") == std::string::npos ||
      shim_find(name) == 0) {
    return NOT_FOUND;
  }
  *function = functions.insert(name).first->c_str();
  return SUCCESS;
}

API cuLaunchKernel(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                   Stream* stream, void** params, void** extra) {
  LIVE;
  if (fails("launch")) return LAUNCH_OUT_OF_RESOURCES;
  int count = shim_arguments(function);
  if (count < 0 || extra != nullptr) return INVALID_VALUE;
  Op op{};
  op.kind = Op::LAUNCH;
  op.kernel = function;
  unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
  memcpy(op.grid, grid, sizeof grid);
  memcpy(op.block, block, sizeof block);
  op.shared = shared;
  // Parameters are taken over now. The worker keeps each in eight bytes, whatever its width.
  for (int at = 0; at < count; at++) {
    uint64_t value;
    memcpy(&value, params[at], sizeof value);
    op.params.push_back(value);
  }
  return push(stream, std::move(op));
}

API cuGetErrorName(Result, const char** text) {
  *text = "FAKE";
  return SUCCESS;
}

API cuGetErrorString(Result, const char** text) {
  *text = "an error of the fake driver";
  return SUCCESS;
}
