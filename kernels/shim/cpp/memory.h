// What is known of memory while kernels run: races and unwritten bytes in shared memory; races in
// watched pieces of global memory, and accesses just outside of them.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

namespace shim {

enum class Access { Read, Write, Volatile, Atomic };

// Of each byte of shared memory: who touched it last, and after which barrier. Two threads that
// touch a byte between the same two barriers, one of them writing, race; not if both are atomic. A
// volatile read may race with an atomic operation: that is how a kernel peeks at a counter.
struct Shadow {
  static constexpr uint16_t MANY = 0xffff, ATOMIC = 0xfffe;
  struct Byte {
    uint32_t write_epoch = 0, read_epoch = 0;
    uint16_t writer = 0, reader = 0;
  };
  std::vector<Byte> bytes;
  uint32_t epoch = 0, first = 0;
  size_t size = 0;

  // A new block: nothing is written.
  void begin(size_t shared_bytes) {
    first = ++epoch;
    size = shared_bytes;
  }

  bool check(size_t at, size_t len, unsigned thread, Access kind, char* text, size_t text_len) {
    if (at + len > size) {
      snprintf(text, text_len, "byte %zu of %zu bytes of shared memory", at + len - 1, size);
      return false;
    }
    for (size_t i = at; i < at + len; i++) {
      Byte& byte = bytes[i];
      bool written_now = byte.write_epoch == epoch && byte.writer != thread;
      if (written_now && byte.writer == ATOMIC) {
        written_now = kind != Access::Atomic && kind != Access::Volatile;
      }
      bool writes = kind == Access::Write || kind == Access::Atomic;
      bool read_now = writes && byte.read_epoch == epoch && byte.reader != thread;
      if (written_now || read_now) {
        uint16_t other = written_now ? byte.writer : byte.reader;
        char who[32] = "other threads";
        if (other < ATOMIC) snprintf(who, sizeof who, "thread %u", (unsigned)other);
        snprintf(text, text_len, "races with %s at byte %zu of shared memory", who, i);
        return false;
      }
      if (kind != Access::Write && byte.write_epoch < first) {
        snprintf(text, text_len, "reads byte %zu of shared memory, which is not written yet", i);
        return false;
      }
      if (writes) {
        byte.write_epoch = epoch;
        byte.writer = kind == Access::Atomic ? ATOMIC : (uint16_t)thread;
      } else if (kind == Access::Read) {
        bool first_reader = byte.read_epoch != epoch || byte.reader == thread;
        byte.reader = first_reader ? (uint16_t)thread : MANY;
        byte.read_epoch = epoch;
      }
    }
    return true;
  }
};

// Watched pieces of memory, by address.
struct Zone {
  uintptr_t start, end, guard;
};
using ZoneList = std::vector<Zone>;

inline std::mutex zones_mutex;
inline std::shared_ptr<const ZoneList> zones_shared = std::make_shared<const ZoneList>();

// Changes a copy, so that launches under way keep theirs.
template <class Change>
void change_zones(Change change) {
  std::lock_guard<std::mutex> lock(zones_mutex);
  auto copy = std::make_shared<ZoneList>(*zones_shared);
  change(*copy);
  zones_shared = copy;
}

// Of each byte that a launch wrote: who did, and after which barrier. Epochs count on from block to
// block, so they tell blocks apart too. Another thread may touch the byte only in the same block
// and after a later barrier.
struct Mark {
  uint32_t epoch = 0;
  uint16_t thread = 0;
};

struct Zones {
  std::shared_ptr<const ZoneList> list;
  std::vector<std::vector<Mark>> marks;  // per zone; empty until it is written

  void renew() {
    std::lock_guard<std::mutex> lock(zones_mutex);
    list = zones_shared;
    marks.assign(list->size(), {});
  }

  bool is_race(size_t zone, size_t at, size_t len, Access kind, unsigned thread,
               const Shadow& shadow) {
    std::vector<Mark>& of = marks[zone];
    bool writes = kind == Access::Write || kind == Access::Atomic;
    if (of.empty() && !writes) return false;
    if (of.empty()) of.resize((*list)[zone].end - (*list)[zone].start);
    for (size_t i = at; i < at + len; i++) {
      Mark& mark = of[i];
      bool same_block = mark.epoch >= shadow.first;
      bool ordered = same_block && (mark.thread == thread || mark.epoch < shadow.epoch);
      if (mark.epoch != 0 && !ordered && kind != Access::Atomic) return true;
      if (writes) mark.epoch = shadow.epoch, mark.thread = (uint16_t)thread;
    }
    return false;
  }

  bool check(const void* address, size_t len, Access kind, unsigned thread, const Shadow& shadow,
             char* text, size_t text_len) {
    uintptr_t at = (uintptr_t)address;
    if (list->empty() || at >= list->back().end + list->back().guard) return true;
    // The first zone that ends, guard included, behind the address.
    auto zone = std::upper_bound(list->begin(), list->end(), at, [](uintptr_t at, const Zone& z) {
      return at < z.end + z.guard;
    });
    if (at + len <= zone->start - zone->guard) return true;
    if (zone->start <= at && at + len <= zone->end) {
      size_t offset = at - zone->start;
      if (!is_race((size_t)(zone - list->begin()), offset, len, kind, thread, shadow)) return true;
      snprintf(text, text_len, "races with another thread at byte %zu of a piece of %zu bytes",
               offset, (size_t)(zone->end - zone->start));
      return false;
    }
    const char* what = kind == Access::Read || kind == Access::Volatile ? "reads" : "writes";
    if (at < zone->start) {
      snprintf(text, text_len, "%s %zu bytes before a piece of memory", what,
               (size_t)(zone->start - at));
    } else {
      snprintf(text, text_len, "%s up to byte %zu of a piece of %zu bytes", what,
               (size_t)(at + len - zone->start), (size_t)(zone->end - zone->start));
    }
    return false;
  }
};

}  // namespace shim
