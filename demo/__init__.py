"""The whole way on one machine: a sandbox API, Meltano, and a real PostgreSQL."""
