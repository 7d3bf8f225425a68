"""What the fork server does before it makes processes: import and compile all that they need."""

import gc
import importlib

from engine.roles import told_to_load
from engine.warm import warm

_told = told_to_load()
for _module in _told.modules:
    importlib.import_module(_module)
warm(_told.book, _told.steps)
gc.collect()
gc.freeze()  # shared with all processes made from here: a collection would copy what it looks at
