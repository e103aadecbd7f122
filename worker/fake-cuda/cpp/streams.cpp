// Streams: queues whose operations run in an order that only streams and events bind.
#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>

#include "fake.h"
#include "shim.h"

std::recursive_mutex& lock = *new std::recursive_mutex;
Result sticky = SUCCESS;

namespace {

std::vector<std::unique_ptr<Stream>>& streams = *new std::vector<std::unique_ptr<Stream>>;
std::condition_variable_any& wanted = *new std::condition_variable_any;
size_t host_functions = 0;
bool has_thread = false;

uint64_t seed() {
  static uint64_t state = [] {
    const char* text = getenv("FAKE_CUDA_SEED");
    return text == nullptr ? 1ull : strtoull(text, nullptr, 10) * 2 + 1;
  }();
  return state = state * 6364136223846793005ull + 1442695040888963407ull;
}

void lose() {
  sticky = ILLEGAL_ADDRESS;
  for (auto& stream : streams) stream->queue.clear();
  host_functions = 0;
}

void run(Op& op) {
  switch (op.kind) {
    case Op::COPY:
      memcpy(op.to, op.staged.empty() ? op.from : op.staged.data(), op.size);
      break;
    case Op::LAUNCH: {
      if (fails("lost")) return lose();
      std::vector<void*> params;
      for (auto& param : op.params) params.push_back(&param);
      char error[256] = "";
      int done = shim_launch(op.kernel.c_str(), op.grid, op.block, op.shared, params.data(),
                             draw(), error, sizeof error);
      if (done != SHIM_OK) {
        fprintf(stderr, "fake driver: %s: %s\n", op.kernel.c_str(), error);
        lose();
      }
      break;
    }
    case Op::HOST:
      op.call(op.data);
      break;
    case Op::RECORD:
      op.event->done = true;
      break;
    case Op::WAIT:
      break;
    case Op::CALL:
      op.work();
      break;
  }
}

// Runs one operation of any stream that can go on; false where none can.
bool run_one() {
  std::vector<Stream*> ready;
  for (auto& stream : streams) {
    if (stream->queue.empty()) continue;
    Op& head = stream->queue.front();
    if (head.kind == Op::WAIT && !head.event->done) continue;
    ready.push_back(stream.get());
  }
  if (ready.empty()) return false;
  Stream* stream = ready[draw() % ready.size()];
  Op op = std::move(stream->queue.front());
  stream->queue.pop_front();
  if (op.kind == Op::HOST) host_functions--;
  run(op);
  return true;
}

// Host functions are called also while nobody else calls the driver.
void serve_host_functions() {
  std::unique_lock<std::recursive_mutex> held(lock);
  for (;;) {
    while (host_functions > 0 && run_one()) {
    }
    wanted.wait(held, [] { return host_functions > 0; });
  }
}

}  // namespace

uint64_t draw() { return seed() >> 33; }

bool fails(const char* kind) {
  static std::map<std::string, uint64_t>& calls = *new std::map<std::string, uint64_t>;
  uint64_t call = ++calls[kind];
  const char* text = getenv("FAKE_CUDA_FAIL");
  if (text == nullptr) return false;
  std::string wish = text;
  if (wish == kind) return true;
  return wish == std::string(kind) + ":" + std::to_string(call);
}

Stream* stream_create() {
  streams.push_back(std::make_unique<Stream>());
  return streams.back().get();
}

bool stream_exists(Stream* stream) {
  return std::any_of(streams.begin(), streams.end(),
                     [&](auto& other) { return other.get() == stream; });
}

Result stream_destroy(Stream* stream) {
  if (!stream_exists(stream)) return INVALID_HANDLE;
  Result done = run_until_empty(stream);
  streams.erase(std::find_if(streams.begin(), streams.end(),
                             [&](auto& other) { return other.get() == stream; }));
  return done;
}

Result push(Stream* stream, Op op) {
  if (sticky != SUCCESS) return sticky;
  if (!stream_exists(stream)) return INVALID_HANDLE;
  if (op.kind == Op::HOST) {
    host_functions++;
    if (!has_thread) {
      has_thread = true;
      std::thread(serve_host_functions).detach();
    }
  }
  stream->queue.push_back(std::move(op));
  wanted.notify_one();
  return SUCCESS;
}

Result run_until_empty(Stream* stream) {
  auto open = [&] {
    return std::any_of(streams.begin(), streams.end(), [&](auto& other) {
      return (stream == nullptr || other.get() == stream) && !other->queue.empty();
    });
  };
  while (sticky == SUCCESS && open()) {
    if (!run_one()) return LAUNCH_FAILED;  // a wait for an event that nobody records
  }
  return sticky;
}

void run_some() {
  uint64_t steps = draw() % 4;
  for (uint64_t step = 0; step < steps && sticky == SUCCESS; step++) run_one();
}
