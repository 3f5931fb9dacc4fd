"""What the `lvis` package says about a data set: the reference for the rules of LVIS.

`lvis` 0.5.3 is of 2020. Two things are put in its way so that it runs where the tests run, neither of which is part of
the evaluation: its drawing module, which needs matplotlib and OpenCV, is not imported, and `np.float`, which numpy
removed in 1.24, is `float` again, as it was.
"""

import logging
import sys
import tempfile
import types
from copy import deepcopy
import json

import numpy as np

from coco_oracle import bits, digest

np.float = float
sys.modules["lvis.vis"] = types.ModuleType("lvis.vis")
sys.modules["lvis.vis"].LVISVis = None
from lvis import LVIS, LVISEval, LVISResults  # noqa: E402

logging.disable(logging.WARNING)  # that results were given as a list


def run(dataset):
    """The finished LVISEval."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({key: dataset[key] for key in ("images", "categories", "annotations")}, file)
        file.flush()
        truth = LVIS(file.name)
    evaluation = LVISEval(truth, results(truth, dataset["detections"]), "bbox")
    evaluation.run()
    return evaluation


def results(truth, detections):
    if detections:
        return LVISResults(truth, detections)
    empty = LVISResults.__new__(LVISResults)  # its constructor cannot take an empty list
    empty.logger = logging.getLogger("lvis")
    empty.dataset = {**deepcopy(truth.dataset), "annotations": []}
    empty._create_index()
    return empty


def class_stats(evaluation, k):
    """The 13 numbers of class `k` alone, by the package's own summary of its slice of the arrays."""
    arrays, groups = evaluation.eval, evaluation.freq_groups
    evaluation.eval = {
        "precision": arrays["precision"][:, :, k : k + 1], "recall": arrays["recall"][:, k : k + 1],
    }
    evaluation.freq_groups = [[0] if k in group else [] for group in groups]
    evaluation.summarize()
    evaluation.eval, evaluation.freq_groups = arrays, groups
    return list(evaluation.results.values())


def expectation(dataset):
    """What the parity test compares by bits, and the two arrays themselves."""
    evaluation = run(dataset)
    names, stats = list(evaluation.results), bits(list(evaluation.results.values()))
    arrays = [np.ascontiguousarray(evaluation.eval[key]) for key in ("precision", "recall")]
    expected = {
        "shape": list(arrays[0].shape),
        "names": names,
        "stats": stats,
        "per_class": [bits(class_stats(evaluation, k)) for k in range(arrays[0].shape[2])],
        "digests": [digest(array) for array in arrays],
    }
    return expected, arrays
