"""Measurements of CPU time, memory, customers and quota."""
