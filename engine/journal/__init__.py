"""What a shard keeps on disk: its journal and its snapshots, written, synced, read and checked."""
