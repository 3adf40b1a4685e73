"""Measurements of CPU time, memory, load time and quota."""
