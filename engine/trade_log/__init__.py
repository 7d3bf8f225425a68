"""The trade log: every trade once, as NDJSON in segments, written by one and read by anyone."""
