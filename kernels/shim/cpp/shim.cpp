// One stackful fiber per CUDA thread, and the order in which they run. See shim.h.
//
// A fiber runs until it waits (barrier, warp operation) or reaches a place where it may yield.
// Which fiber is next is drawn from the seed, so that code which leans on an order that CUDA does
// not promise fails at some seed. Besides, the compiler calls a hook at each load and store of a
// kernel: memory.h finds races and bad addresses there, whatever the order. What this cannot show:
// weak memory order, as fibers run one at a time.
#include "shim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

// Before device.h, whose macros the standard library would trip over.
#include "memory.h"

#include "device.h"
#include "table.h"

// The C library's way to change stacks asks the kernel each time; on x86-64 a few lines do better.
#if defined(__x86_64__) && !defined(SHIM_UCONTEXT)
#define SHIM_ASSEMBLY 1
#else
#include <ucontext.h>
#endif

namespace shim {

thread_local Place place;

namespace {

constexpr unsigned THREADS_MAX = 1024;
constexpr unsigned SHARED_MAX = 227 << 10;
constexpr size_t STACK = 64 << 10;
constexpr size_t GUARD = 4 << 10;
constexpr size_t CANARY = 256;
constexpr unsigned char CANARY_BYTE = 0xA5;
constexpr unsigned char POISON = 0xCD;

enum class State { Ready, Barrier, Warp, Done };

struct Fiber {
#if defined(SHIM_ASSEMBLY)
  void* stack_pointer;
#else
  ucontext_t context;
#endif
  Index thread;
  State state;
  // What it waits for, and what it got.
  Vote vote;
  Warp op;
  uint32_t mask, value, result;
  unsigned source;
  const char* file;
  int line;
};

#if defined(SHIM_ASSEMBLY)
// Saves what a function must keep, and goes on where the other stack stopped.
extern "C" void shim_switch(void** save, void* to);
asm(R"(
.text
.hidden shim_switch
.globl shim_switch
.type shim_switch, @function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size shim_switch, .-shim_switch
)");
#endif

// What one host thread needs to run blocks. Reused from launch to launch.
struct Runner {
  std::vector<Fiber> fibers;
  Shadow shadow;
  std::vector<unsigned> ready;  // linear numbers; in order from `head` for seed 0
  size_t head = 0;
  unsigned threads = 0, live = 0, waiting = 0, current = 0;
  unsigned char* stacks = nullptr;
  unsigned char* shared = nullptr;  // between two canaries
  void (*run)(void**) = nullptr;
  void** args = nullptr;
  unsigned long long random = 0;
  bool in_order = true, failed = false;
  Zones zones;
  char message[512];
#if defined(SHIM_ASSEMBLY)
  void* scheduler = nullptr;
#else
  ucontext_t scheduler;
#endif

  ~Runner() {
    if (stacks) munmap(stacks, THREADS_MAX * STACK);
    free(shared ? shared - CANARY : nullptr);
  }

  bool prepare() {
    if (stacks) return true;
    void* map = mmap(nullptr, THREADS_MAX * STACK, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void* block = aligned_alloc(256, 2 * CANARY + SHARED_MAX);
    if (map == MAP_FAILED || !block) return false;
    stacks = static_cast<unsigned char*>(map);
    shared = static_cast<unsigned char*>(block) + CANARY;
    for (unsigned i = 0; i < THREADS_MAX; i++) mprotect(stacks + i * STACK, GUARD, PROT_NONE);
    fibers.resize(THREADS_MAX);
    shadow.bytes.resize(SHARED_MAX);
    return true;
  }

  unsigned long long draw() {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
  }

  void fail(const char* format, ...) __attribute__((format(printf, 2, 3))) {
    if (failed) return;
    failed = true;
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
  }

  void make_ready(unsigned fiber) {
    fibers[fiber].state = State::Ready;
    ready.push_back(fiber);
  }

  bool take(unsigned* next) {
    if (head == ready.size()) return false;
    if (in_order) {
      *next = ready[head++];
      if (head == ready.size()) ready.clear(), head = 0;
    } else {
      size_t at = draw() % ready.size();
      *next = ready[at];
      ready[at] = ready.back();
      ready.pop_back();
    }
    return true;
  }

  void resume(unsigned fiber);
  void suspend();
  void start(unsigned fiber);
  bool block(unsigned shared_bytes);
  void finish_barrier();
  void try_warp(unsigned fiber);
  void explain_deadlock();
};

thread_local Runner runner;

void body() {
  Runner& r = runner;
  r.run(r.args);
  r.fibers[r.current].state = State::Done;
  r.suspend();
  abort();  // a fiber that is done is never resumed
}

void Runner::resume(unsigned fiber) {
  current = fiber;
  place.thread = fibers[fiber].thread;
#if defined(SHIM_ASSEMBLY)
  shim_switch(&scheduler, fibers[fiber].stack_pointer);
#else
  swapcontext(&scheduler, &fibers[fiber].context);
#endif
}

void Runner::suspend() {
  Fiber& fiber = fibers[current];
#if defined(SHIM_ASSEMBLY)
  shim_switch(&fiber.stack_pointer, scheduler);
#else
  swapcontext(&fiber.context, &scheduler);
#endif
}

void Runner::start(unsigned number) {
  Fiber& fiber = fibers[number];
  unsigned char* stack = stacks + number * STACK;
#if defined(SHIM_ASSEMBLY)
  // A function finds its return address at the top, 8 bytes off a multiple of 16.
  void** top = reinterpret_cast<void**>(stack + STACK);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&body);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack + GUARD;
  fiber.context.uc_stack.ss_size = STACK - GUARD;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, body, 0);
#endif
  unsigned x = place.block_dim.x, y = place.block_dim.y;
  fiber.thread = {number % x, number / x % y, number / x / y};
  make_ready(number);
}

// Lets the waiting threads of a barrier go once every live thread waits there.
void Runner::finish_barrier() {
  const Fiber& first = fibers[current];
  if (live != threads) {
    fail("divergent barrier: %u of %u threads have left, others wait at %s:%d", threads - live,
         threads, first.file, first.line);
    return;
  }
  unsigned count = 0;
  for (unsigned i = 0; i < threads; i++) {
    const Fiber& fiber = fibers[i];
    if (fiber.line != first.line || fiber.vote != first.vote) {
      fail("divergent barrier: threads wait at %s:%d and at %s:%d", first.file, first.line,
           fiber.file, fiber.line);
      return;
    }
    count += fiber.value != 0;
  }
  uint32_t result = first.vote == Vote::Or ? count > 0
                    : first.vote == Vote::And ? count == threads
                                              : count;
  waiting = 0;
  shadow.epoch++;
  for (unsigned i = 0; i < threads; i++) {
    fibers[i].result = result;
    make_ready(i);
  }
}

// Completes a warp operation once every lane of its mask waits for it.
void Runner::try_warp(unsigned number) {
  const Fiber& me = fibers[number];
  unsigned first = number / 32 * 32;
  if (!(me.mask >> (number - first) & 1)) {
    fail("a lane outside its own mask at %s:%d", me.file, me.line);
    return;
  }
  uint32_t ballot = 0, sum = 0, most = 0, least = ~0u;
  for (unsigned lane = 0; lane < 32; lane++) {
    if (!(me.mask >> lane & 1)) continue;
    if (first + lane >= threads || fibers[first + lane].state == State::Done) {
      fail("a mask with a lane that is not there at %s:%d", me.file, me.line);
      return;
    }
    const Fiber& other = fibers[first + lane];
    if (other.state != State::Warp) return;
    if (other.op != me.op || other.mask != me.mask) {
      fail("warp operations that do not match at %s:%d and %s:%d", me.file, me.line, other.file,
           other.line);
      return;
    }
    ballot |= (other.value != 0 ? 1u : 0u) << lane;
    sum += other.value;
    most = other.value > most ? other.value : most;
    least = other.value < least ? other.value : least;
  }
  uint32_t mask = me.mask;
  for (unsigned lane = 0; lane < 32; lane++) {
    if (!(mask >> lane & 1)) continue;
    Fiber& fiber = fibers[first + lane];
    switch (fiber.op) {
      case Warp::Sync: fiber.result = 0; break;
      case Warp::Ballot: fiber.result = ballot; break;
      case Warp::Add: fiber.result = sum; break;
      case Warp::Max: fiber.result = most; break;
      case Warp::Min: fiber.result = least; break;
      case Warp::Shuffle:
        // From a lane that takes no part the value is undefined.
        fiber.result = mask >> fiber.source & 1 ? fibers[first + fiber.source].value : 0xCDCDCDCDu;
        break;
    }
    make_ready(first + lane);
  }
}

void Runner::explain_deadlock() {
  for (unsigned i = 0; i < threads; i++) {
    const Fiber& fiber = fibers[i];
    if (fiber.state == State::Done) continue;
    fail("deadlock: %u of %u threads have left; thread %u waits at %s %s:%d", threads - live,
         threads, i, fiber.state == State::Barrier ? "the barrier" : "the warp operation",
         fiber.file, fiber.line);
  }
}

bool Runner::block(unsigned shared_bytes) {
  memset(shared - CANARY, CANARY_BYTE, CANARY);
  memset(shared, POISON, shared_bytes);
  memset(shared + shared_bytes, CANARY_BYTE, CANARY);
  place.shared = shared;
  shadow.begin(shared_bytes);
  ready.clear();
  head = 0;
  live = threads;
  waiting = 0;
  for (unsigned i = 0; i < threads; i++) start(i);
  unsigned next;
  while (!failed && take(&next)) {
    resume(next);
    Fiber& fiber = fibers[next];
    if (fiber.state == State::Done) {
      live--;
    } else if (fiber.state == State::Warp) {
      try_warp(next);
    } else if (fiber.state == State::Ready) {
      ready.push_back(next);
    }
    if (waiting > 0 && waiting == live) {
      for (current = 0; fibers[current].state != State::Barrier;) current++;
      finish_barrier();
    }
  }
  if (!failed && live > 0) explain_deadlock();
  for (size_t i = 0; i < CANARY; i++) {
    if (shared[shared_bytes + i] != CANARY_BYTE || shared[-1 - (long)i] != CANARY_BYTE) {
      fail("written outside the %u bytes of shared memory", shared_bytes);
    }
  }
  return !failed;
}

const Entry* find(const char* kernel) {
  for (unsigned list = 0; list < list_count; list++) {
    for (unsigned i = 0; i < lists[list].count; i++) {
      if (strcmp(lists[list].entries[i].name, kernel) == 0) return &lists[list].entries[i];
    }
  }
  return nullptr;
}

}  // namespace

int barrier(Vote vote, int value, const char* file, int line) {
  Fiber& fiber = runner.fibers[runner.current];
  fiber.state = State::Barrier;
  fiber.vote = vote;
  fiber.value = value;
  fiber.file = file;
  fiber.line = line;
  runner.waiting++;
  runner.suspend();
  return (int)fiber.result;
}

uint32_t warp(Warp op, uint32_t mask, uint32_t value, unsigned source, const char* file, int line) {
  Fiber& fiber = runner.fibers[runner.current];
  fiber.state = State::Warp;
  fiber.op = op;
  fiber.mask = mask;
  fiber.value = value;
  fiber.source = source;
  fiber.file = file;
  fiber.line = line;
  runner.suspend();
  return fiber.result;
}

void may_yield() {
  if (!runner.in_order && runner.draw() % 4 == 0) runner.suspend();
}

// What the compiler's checks call with a bad address: see -fsanitize in build.rs.
struct Checked {
  const char* file;
  unsigned line, column;
  const void* type;
  unsigned char log_alignment, kind;
};

static void bad_address(const Checked* place, void* address) {
  if (address == nullptr) {
    runner.fail("null address at %s:%u", place->file, place->line);
  } else {
    runner.fail("address %p is not a multiple of %u at %s:%u", address,
                1u << place->log_alignment, place->file, place->line);
  }
  runner.suspend();  // for good: the block ends with the failure
}

// One access of a kernel to memory, told by the compiler's hooks.
static void access(const void* at, size_t size, Access kind) {
  Runner& r = runner;
  size_t offset = (size_t)((const unsigned char*)at - r.shared);
  char text[256];
  bool fine = offset < SHARED_MAX
                  ? r.shadow.check(offset, size, r.current, kind, text, sizeof text)
                  : r.zones.check(at, size, kind, r.current, r.shadow, text, sizeof text);
  if (fine || r.failed) return;
  r.fail("thread %u of block %u,%u: %s", r.current, place.block.x, place.block.y, text);
  r.suspend();
}

void note_atomic(void* at) { access(at, 4, Access::Atomic); }

}  // namespace shim

// What -fsanitize=thread makes of each load and store: see build.rs. Its library is not used.
#define SHIM_HOOK(size)                                                                          \
  extern "C" void __tsan_read##size(void* at) { shim::access(at, size, shim::Access::Read); }    \
  extern "C" void __tsan_write##size(void* at) { shim::access(at, size, shim::Access::Write); }  \
  extern "C" void __tsan_unaligned_read##size(void* at) {                                        \
    shim::access(at, size, shim::Access::Read);                                                  \
  }                                                                                              \
  extern "C" void __tsan_unaligned_write##size(void* at) {                                       \
    shim::access(at, size, shim::Access::Write);                                                 \
  }                                                                                              \
  extern "C" void __tsan_volatile_read##size(void* at) {                                         \
    shim::access(at, size, shim::Access::Volatile);                                              \
  }                                                                                              \
  extern "C" void __tsan_volatile_write##size(void* at) {                                        \
    shim::access(at, size, shim::Access::Write);                                                 \
  }
SHIM_HOOK(1)
SHIM_HOOK(2)
SHIM_HOOK(4)
SHIM_HOOK(8)
SHIM_HOOK(16)
extern "C" void __tsan_read_range(void* at, size_t size) {
  shim::access(at, size, shim::Access::Read);
}
extern "C" void __tsan_write_range(void* at, size_t size) {
  shim::access(at, size, shim::Access::Write);
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit(void*) {}

extern "C" void __ubsan_handle_type_mismatch_v1(void* place, void* address) {
  shim::bad_address(static_cast<const shim::Checked*>(place), address);
}

int shim_find(const char* kernel) { return shim::find(kernel) != nullptr; }

int shim_arguments(const char* kernel) {
  const shim::Entry* entry = shim::find(kernel);
  return entry ? entry->arguments : -1;
}

int shim_launch(const char* kernel, const unsigned grid[3], const unsigned block[3],
                unsigned shared, void** args, unsigned long long seed, char* error,
                size_t error_len) {
  auto say = [&](const char* text) {
    if (error && error_len) snprintf(error, error_len, "%s: %s", kernel, text);
  };
  const shim::Entry* entry = shim::find(kernel);
  if (!entry) return say("no such kernel"), SHIM_UNKNOWN;
  unsigned long long threads = (unsigned long long)block[0] * block[1] * block[2];
  unsigned long long blocks = (unsigned long long)grid[0] * grid[1] * grid[2];
  bool small = block[0] <= 1024 && block[1] <= 1024 && block[2] <= 64;
  if (!small || threads == 0 || threads > shim::THREADS_MAX || shared > shim::SHARED_MAX ||
      grid[0] > 0x7fffffff || grid[1] > 65535 || grid[2] > 65535 || blocks == 0) {
    return say("a grid, block or shared memory that no device takes"), SHIM_SHAPE;
  }
  shim::Runner& r = shim::runner;
  if (!r.prepare()) return say("no memory for fibers"), SHIM_SHAPE;
  r.threads = (unsigned)threads;
  r.run = entry->run;
  r.args = args;
  r.in_order = seed == 0;
  r.random = seed * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull;
  r.failed = false;
  r.zones.renew();
  shim::place.block_dim = {block[0], block[1], block[2]};
  shim::place.grid_dim = {grid[0], grid[1], grid[2]};
  // Blocks in an order of their own: a step that has no factor in common with their number.
  unsigned long long step = 1, at = 0;
  if (!r.in_order) {
    at = r.draw() % blocks;
    for (step = r.draw() % blocks;; step++) {
      unsigned long long a = blocks, b = step;
      while (b) std::swap(a %= b, b);
      if (a == 1) break;
    }
  }
  for (unsigned long long i = 0; i < blocks; i++, at = (at + step) % blocks) {
    shim::place.block = {(unsigned)(at % grid[0]), (unsigned)(at / grid[0] % grid[1]),
                         (unsigned)(at / grid[0] / grid[1])};
    if (!r.block(shared)) return say(r.message), SHIM_FAULT;
  }
  return SHIM_OK;
}

void shim_watch(const void* start, size_t len, size_t guard) {
  uintptr_t at = (uintptr_t)start;
  shim::change_zones([&](shim::ZoneList& list) {
    auto before = [](const shim::Zone& a, uintptr_t at) { return a.start < at; };
    auto place = std::lower_bound(list.begin(), list.end(), at, before);
    list.insert(place, shim::Zone{at, at + len, guard});
  });
}

void shim_unwatch(const void* start) {
  uintptr_t at = (uintptr_t)start;
  shim::change_zones([&](shim::ZoneList& list) {
    auto same = [&](const shim::Zone& zone) { return zone.start == at; };
    list.erase(std::remove_if(list.begin(), list.end(), same), list.end());
  });
}
