"""Which pipeline a matcher uses: compiled where its book is."""

from engine.shard.pipeline import Pipeline, PipelineParts
from engine.shard.plain_pipeline import PlainPipeline


def make_pipeline(parts: PipelineParts) -> Pipeline:
    """Return the pipeline for a book; numba is imported only for a compiled one."""
    if not hasattr(parts.book, "address"):
        return PlainPipeline(parts)
    from engine.shard.compiled_pipeline import CompiledPipeline

    return CompiledPipeline(parts)
