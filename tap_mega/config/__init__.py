"""The settings: what they are, how they are read, and which values they accept."""
