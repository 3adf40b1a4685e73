"""Run a command, and tell as JSON what it cost: `launch.py COMMAND …`.

Its output goes nowhere. This is a small process of its own because Linux counts the
memory of the process that starts another one as the other one's: beside pytest each
command would seem as big as pytest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main(command: list[str]) -> None:
    """Run it, and print seconds, CPU seconds, the peak memory and the exit code."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    cost = {
        "wall": time.perf_counter() - begun,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,  # Linux tells KiB
        "code": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(cost))


if __name__ == "__main__":
    main(sys.argv[1:])
