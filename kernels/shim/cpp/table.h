// The table of kernels, and how one is called with the argument list of a launch.
#pragma once
#include <stddef.h>

#include <utility>

namespace shim {

struct Entry {
  const char* name;
  void (*run)(void** args);
  int arguments;
};

struct List {
  const Entry* entries;
  unsigned count;
};

// One list per file of kernels: made by build.rs.
extern const List lists[];
extern const unsigned list_count;

template <class... A, size_t... I>
void unpack(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
  kernel(*static_cast<A*>(args[I])...);
}

template <class... A>
void invoke(void (*kernel)(A...), void** args) {
  unpack(kernel, args, std::index_sequence_for<A...>());
}

template <class... A>
constexpr int arguments(void (*)(A...)) {
  return static_cast<int>(sizeof...(A));
}

}  // namespace shim

#define SHIM_KERNEL(name) \
  { #name, [](void** args) { shim::invoke(name, args); }, shim::arguments(name) }
