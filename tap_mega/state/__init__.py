"""The state: parsed, owned and written here alone."""
