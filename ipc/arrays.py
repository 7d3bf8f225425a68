"""What numpy arrays hold, for types: each name once."""

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]
"""Records of one layout of ``ipc.records``, or of another that the text names."""
Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
