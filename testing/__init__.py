"""The parts that tests and benchmarks share."""
