"""Names for the arrays that detectors pass around."""

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float64]
"""float64 (n, n_features), or (n,) where scores are meant."""
Labels = npt.NDArray[np.bool_]
"""bool (n,), True = anomalous."""
Windows = npt.NDArray[np.int32]
"""int32 (n, n_features), raw features."""
