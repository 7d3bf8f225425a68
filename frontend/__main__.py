"""The program ``shardbook``, also as ``python -m frontend``."""

import frontend.at_once  # noqa: F401
from frontend.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
