import os
import platform
import random
import time
import uuid

print("now", time.time_ns(), time.monotonic_ns(), time.strftime("%F %T %Z"))
print("CPUs", os.cpu_count(), len(os.sched_getaffinity(0)))
print("host", platform.node(), platform.release())
print("~ hash", hash("x"))
print("~ random", random.random(), random.SystemRandom().random())
print("~ urandom", os.urandom(16).hex())
print("~ uuid4", uuid.uuid4())
print("~ set", set(map(str, range(20))))
start = time.monotonic_ns()
print("sum", sum(range(5_000_000)), "took", time.monotonic_ns() - start)
start = time.monotonic_ns()
time.sleep(0.025)
print("slept", time.monotonic_ns() - start)
