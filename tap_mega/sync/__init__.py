"""A run: the customers' requests, waits and events."""
