"""Tests of the tap, the sandbox and the demo: one behaviour per test."""
