"""`torch.profiler`: what a program does on its threads and its GPUs, as a table and as a trace.

with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as prof:
    step()
print(prof.key_averages().table(sort_by="cuda_time_total", row_limit=10))
prof.export_chrome_trace("trace.json")  # opens in ui.perfetto.dev and chrome://tracing
"""

from vibetensor.profiler.averages import EventAverages, EventList
from vibetensor.profiler.events import ProfilerEvent
from vibetensor.profiler.ranges import emit_nvtx
from vibetensor.profiler.session import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)

__all__ = [
    "EventAverages",
    "EventList",
    "ProfilerAction",
    "ProfilerActivity",
    "ProfilerEvent",
    "emit_nvtx",
    "profile",
    "record_function",
    "schedule",
    "supported_activities",
    "tensorboard_trace_handler",
]
