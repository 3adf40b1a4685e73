"""A local MEGA API for tests, the demo, benchmarks and manual trials."""

from sandbox.faults import Fault
from sandbox.rate_limits import NO_LIMITS, Limits
from sandbox.received import Received
from sandbox.server import Sandbox

__all__ = ["NO_LIMITS", "Fault", "Limits", "Received", "Sandbox"]
