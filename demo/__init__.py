"""The demo: a sandbox API, Meltano and PostgreSQL on one machine."""
