"""Shared memory: mappings, and what lies in them for anyone to read."""
