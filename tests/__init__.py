"""What the tap, the sandbox and the demo do, a behaviour a test."""
