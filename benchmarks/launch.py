"""Run a command and print its cost as JSON: `launch.py COMMAND …`.

The command's output is discarded. This program is a small process of its own because
Linux counts the memory of a parent as its child's: a command that pytest starts would
seem to need as much memory as pytest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def main(command: list[str]) -> None:
    """Run the command, and print seconds, CPU seconds, peak memory and exit code."""
    started_at = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    cost = {
        "wall": time.perf_counter() - started_at,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,  # Linux reports KiB.
        "code": os.waitstatus_to_exitcode(status),
    }
    print(json.dumps(cost))


if __name__ == "__main__":
    main(sys.argv[1:])
