"""What pycocotools says about a data set: the reference for the COCO protocol."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def load(dataset):
    truth = COCO()
    truth.dataset = {key: dataset[key] for key in ("images", "categories", "annotations")}
    truth.createIndex()
    if dataset["detections"]:
        return truth, truth.loadRes([dict(d) for d in dataset["detections"]])
    results = COCO()  # loadRes cannot take an empty list
    results.dataset = {**truth.dataset, "annotations": []}
    results.createIndex()
    return truth, results


def run(dataset):
    """The finished COCOeval."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(*load(dataset), "bbox")
        params = dataset["params"]
        if "iou_thrs" in params:
            evaluation.params.iouThrs = np.array(params["iou_thrs"])
        if "rec_thrs" in params:
            evaluation.params.recThrs = np.array(params["rec_thrs"])
        if "max_dets" in params:
            evaluation.params.maxDets = list(params["max_dets"])
        if "area_ranges" in params:
            evaluation.params.areaRngLbl = [name for name, _, _ in params["area_ranges"]]
            evaluation.params.areaRng = [[low, high] for _, low, high in params["area_ranges"]]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def class_stats(evaluation, k):
    """The 12 numbers of class `k` alone, by pycocotools' own summary of its slice of the arrays."""
    arrays = evaluation.eval
    evaluation.eval = {
        "precision": arrays["precision"][:, :, k : k + 1], "recall": arrays["recall"][:, k : k + 1],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.summarize()
    evaluation.eval = arrays
    return evaluation.stats


def digest(array):
    """FNV-1a over the 64-bit words of the array in C order, in place of many megabytes of floats."""
    value = 0xCBF29CE484222325
    for word in np.ascontiguousarray(array).view(np.uint64).ravel().tolist():
        value = ((value ^ word) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def bits(values):
    return [f"{word:016x}" for word in np.asarray(values, dtype=np.float64).view(np.uint64).tolist()]


def expectation(dataset):
    """What the parity test compares by bits, and the three arrays themselves."""
    evaluation = run(dataset)
    stats = bits(evaluation.stats)
    arrays = [np.ascontiguousarray(evaluation.eval[key]) for key in ("precision", "scores", "recall")]
    classes = range(arrays[0].shape[2])
    expected = {
        "shape": list(arrays[0].shape),
        "stats": stats,
        "per_class": [bits(class_stats(evaluation, k)) for k in classes],
        "digests": [digest(array) for array in arrays],
    }
    return expected, arrays
