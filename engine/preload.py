"""What the fork server does before it makes processes: import and compile all that they need."""

import gc
import importlib
import os

from engine.children import BOOK_VARIABLE
from engine.process import ENTRIES
from engine.warm import warm

for _entry in ENTRIES.values():
    importlib.import_module(_entry.partition(":")[0])
warm(os.environ.get(BOOK_VARIABLE, "reference"))
gc.collect()
gc.freeze()  # shared with all processes made from here: a collection would copy what it looks at
