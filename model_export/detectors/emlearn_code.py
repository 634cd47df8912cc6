"""The only importer of emlearn: C that it generates.

Importing emlearn makes numpy raise at every underflow, for the whole process (emlearn/bayes.py); here that is undone.
"""

import warnings
from contextlib import chdir
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

with np.errstate(), warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports distutils
    import emlearn
    from emlearn.trees import generate_c_inlined


def envelope(fitted: Any, name: str) -> str:
    """C of `float <name>_predict(const float *features, int n)`, the squared distance of an elliptic envelope.

    fitted: what emlearn reads of an EllipticEnvelope: location_, offset_ and get_precision().
    """
    # It compiles a test program with distutils, in a folder `tmp` of wherever the process happens to be.
    with TemporaryDirectory() as folder, chdir(folder), np.errstate(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return emlearn.convert(fitted, kind="EllipticEnvelope", method="inline").save(name=name)


def trees(nodes: list[list[int]], roots: list[int], leaves: list[int], n_features: int, name: str) -> str:
    """C of `int32_t <name>_tree_<i>(const int32_t *features, int32_t n)`, one per root: the number of the leaf reached.

    nodes: [feature, cut, left, right] each, x[feature] < cut goes left; a child below 0 is leaf -1 - child; leaves: the
    number of each, int32. emlearn is told that trees are classifiers and leaves classes, and adds a majority vote over
    them, `<name>_predict`.
    """
    return generate_c_inlined(
        (nodes, roots, leaves),
        name,
        n_features=n_features,
        n_classes=len(leaves),
        leaf_bits=0,
        dtype="int32_t",
        include_proba=False,
    )
