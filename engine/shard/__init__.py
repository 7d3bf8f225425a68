"""One shard: its matcher, what the matcher writes to, and who recovers or follows it."""
