// Device memory: shared files, mapped where the host does not look for them.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "fake.h"

namespace {

constexpr size_t PAGE = 4096;
constexpr size_t ALIGN = 256;
constexpr uint64_t MAGIC = 0x6b6f74657079666aull;
// Fresh memory holds this, up to a length that tests have time for.
constexpr int GARBAGE = 0xA5;
constexpr size_t GARBAGE_MAX = 16u << 20;

struct Block {
  size_t size;
  char* map;
  size_t map_size;
  int fd;
  size_t offset;  // of the block in its file
  bool imported;
};

// By device address.
std::map<uint64_t, Block>& blocks = *new std::map<uint64_t, Block>;
// Pinned and registered memory by host address; `device` is another mapping of it, or 0.
struct Host {
  size_t size;
  uint64_t device;
  bool ours;
};
std::map<uintptr_t, Host>& hosts = *new std::map<uintptr_t, Host>;

size_t up(size_t size, size_t to) { return (size + to - 1) / to * to; }

// Maps a file with a page behind it that nobody may touch; the block ends there.
char* map_file(int fd, size_t size) {
  char* place = static_cast<char*>(
      mmap(nullptr, size + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (place == MAP_FAILED) return nullptr;
  void* done = mmap(place, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  return done == MAP_FAILED ? nullptr : place;
}

template <typename Map, typename Key>
bool within(const Map& map, Key at, size_t size) {
  auto after = map.upper_bound(at);
  if (after == map.begin()) return false;
  auto [start, block] = *std::prev(after);
  return at - start <= block.size && size <= block.size - (at - start);
}

}  // namespace

Result device_alloc(uint64_t* at, size_t size) {
  if (size == 0) return INVALID_VALUE;
  if (fails("alloc")) return OUT_OF_MEMORY;
  int fd = memfd_create("fake-cuda", MFD_CLOEXEC);
  size_t file = up(size, PAGE);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(file)) != 0) return OUT_OF_MEMORY;
  char* map = map_file(fd, file);
  if (map == nullptr) return OUT_OF_MEMORY;
  size_t offset = file - up(size, ALIGN);
  memset(map + offset, GARBAGE, size < GARBAGE_MAX ? size : GARBAGE_MAX);
  *at = reinterpret_cast<uint64_t>(map + offset);
  blocks[*at] = {size, map, file + PAGE, fd, offset, false};
  return SUCCESS;
}

Result device_free(uint64_t at) {
  auto found = blocks.find(at);
  if (found == blocks.end() || found->second.imported) return INVALID_VALUE;
  munmap(found->second.map, found->second.map_size);
  close(found->second.fd);
  blocks.erase(found);
  return SUCCESS;
}

Result host_alloc(void** at, size_t size) {
  if (fails("pin")) return OUT_OF_MEMORY;
  void* place = mmap(nullptr, up(size, PAGE), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return OUT_OF_MEMORY;
  hosts[reinterpret_cast<uintptr_t>(place)] = {size, 0, true};
  *at = place;
  return SUCCESS;
}

Result host_free(void* at) {
  auto found = hosts.find(reinterpret_cast<uintptr_t>(at));
  if (found == hosts.end() || !found->second.ours) return INVALID_VALUE;
  munmap(at, up(found->second.size, PAGE));
  hosts.erase(found);
  return SUCCESS;
}

Result host_register(void* at, size_t size) {
  uintptr_t host = reinterpret_cast<uintptr_t>(at);
  if (host % PAGE != 0 || size == 0) return INVALID_VALUE;
  if (within(hosts, host, 1)) return ALREADY_REGISTERED;
  if (fails("register")) return NOT_SUPPORTED;
  // A length of 0 asks for a second mapping of shared memory.
  void* alias = mremap(at, 0, up(size, PAGE), MREMAP_MAYMOVE);
  if (alias == MAP_FAILED) return NOT_SUPPORTED;
  hosts[host] = {size, reinterpret_cast<uint64_t>(alias), false};
  return SUCCESS;
}

Result host_unregister(void* at) {
  auto found = hosts.find(reinterpret_cast<uintptr_t>(at));
  if (found == hosts.end() || found->second.ours) return NOT_REGISTERED;
  munmap(reinterpret_cast<void*>(found->second.device), up(found->second.size, PAGE));
  hosts.erase(found);
  return SUCCESS;
}

Result host_device_pointer(uint64_t* at, void* host) {
  auto found = hosts.find(reinterpret_cast<uintptr_t>(host));
  if (found == hosts.end() || found->second.device == 0) return INVALID_VALUE;
  *at = found->second.device;
  return SUCCESS;
}

Result address_range(uint64_t* base, size_t* size, uint64_t at) {
  if (!within(blocks, at, 1)) return INVALID_VALUE;
  auto [start, block] = *std::prev(blocks.upper_bound(at));
  if (base != nullptr) *base = start;
  if (size != nullptr) *size = block.size;
  return SUCCESS;
}

Result ipc_handle(IpcHandle* handle, uint64_t at) {
  auto found = blocks.find(at);
  if (found == blocks.end() || found->second.imported) return INVALID_VALUE;
  memset(handle, 0, sizeof *handle);
  handle->magic = MAGIC;
  handle->pid = getpid();
  handle->fd = found->second.fd;
  handle->size = found->second.size;
  handle->offset = found->second.offset;
  return SUCCESS;
}

Result ipc_open(uint64_t* at, const IpcHandle* handle) {
  // A process cannot import what it exported; neither can it here.
  if (handle->magic != MAGIC || handle->pid == getpid()) return INVALID_HANDLE;
  std::string path =
      "/proc/" + std::to_string(handle->pid) + "/fd/" + std::to_string(handle->fd);
  int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return INVALID_HANDLE;
  off_t file = lseek(fd, 0, SEEK_END);
  if (file <= 0 || handle->offset + handle->size > static_cast<size_t>(file)) {
    close(fd);
    return INVALID_HANDLE;
  }
  char* map = map_file(fd, static_cast<size_t>(file));
  if (map == nullptr) return OUT_OF_MEMORY;
  *at = reinterpret_cast<uint64_t>(map + handle->offset);
  blocks[*at] = {handle->size, map, static_cast<size_t>(file) + PAGE, fd, handle->offset, true};
  return SUCCESS;
}

Result ipc_close(uint64_t at) {
  auto found = blocks.find(at);
  if (found == blocks.end() || !found->second.imported) return INVALID_VALUE;
  munmap(found->second.map, found->second.map_size);
  close(found->second.fd);
  blocks.erase(found);
  return SUCCESS;
}

bool is_device(uint64_t at, size_t size) {
  if (within(blocks, at, size)) return true;
  for (auto& [host, known] : hosts) {
    if (known.device != 0 && at >= known.device && at - known.device <= known.size &&
        size <= known.size - (at - known.device)) {
      return true;
    }
  }
  return false;
}

bool is_pinned(const void* at, size_t size) {
  return within(hosts, reinterpret_cast<uintptr_t>(at), size);
}
