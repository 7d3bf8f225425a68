"""What the fork server does before it makes processes: import and compile all that they need."""

import importlib
import os

from engine.process import ENTRIES
from engine.warm import BOOK_VARIABLE, warm

for _entry in ENTRIES.values():
    importlib.import_module(_entry.partition(":")[0])
warm(os.environ.get(BOOK_VARIABLE, "reference"))
