"""Faults: scripted failures of the API."""

from sandbox.faults.fault import NO_FAULT, Fault, Script

__all__ = ["NO_FAULT", "Fault", "Script"]
