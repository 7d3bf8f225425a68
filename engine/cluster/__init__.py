"""Several machines: a shard's commands come from a log that every node carries out."""
