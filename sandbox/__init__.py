"""A MEGA API on this machine: tests, demo, benchmarks and people talk to it."""

from sandbox.faults import Fault
from sandbox.quota import NO_LIMITS, Limits
from sandbox.server import Received, Sandbox

__all__ = ["NO_LIMITS", "Fault", "Limits", "Received", "Sandbox"]
