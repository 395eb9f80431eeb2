// Events: marks in streams that other streams and the host can wait for. They come from a pool,
// because creating and destroying one costs more than recording it.
#pragma once
#include <cuda_runtime_api.h>

#include "device/backend.h"

namespace vt::cuda {

struct Event {
  cudaEvent_t handle = nullptr;
  int device = 0;
  bool timing = false;
  bool blocking = false;
  bool recorded = false;
  bool captured = false;  // recorded last in a capture: no moment of the GPU's time
};

// A blocking one lets the thread that waits for it sleep.
Event* create_event(int index, bool timing, bool blocking = false);
void destroy_event(Event* event);
void record_event(Event& event, Stream stream);
void wait_event(Stream stream,
                const Event& event);  // an event never recorded does not hold anybody up
bool query_event(const Event& event);
void synchronize_event(const Event& event);
double elapsed_ms(const Event& start, const Event& end);

using vt::order_streams;

}  // namespace vt::cuda
