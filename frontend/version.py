"""Which version of the product this is."""

from importlib.metadata import PackageNotFoundError, version


def product_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("shardbook")
    except PackageNotFoundError:
        return "0+source"
