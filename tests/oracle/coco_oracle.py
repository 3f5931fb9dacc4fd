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
    images = {image["id"] for image in dataset["images"]}
    rows = [dict(d) for d in dataset["detections"]]
    if rows and all(row["image_id"] in images for row in rows):
        return truth, truth.loadRes(rows)
    # loadRes refuses an empty list, and detections on images that the ground truth does not have; the evaluation
    # itself takes both.
    for i, row in enumerate(rows):
        row.update(id=i + 1, area=row["bbox"][2] * row["bbox"][3], iscrowd=0)
    results = COCO()
    results.dataset = {**truth.dataset, "annotations": rows}
    results.createIndex()
    return truth, results


class IgnoreKey(COCOeval):
    """COCOeval that honours the `ignore` key of annotations, which `_prepare` overwrites with `iscrowd`."""

    def _prepare(self):
        ignored = {ann["id"]: ann.get("ignore", 0) for ann in self.cocoGt.dataset["annotations"]}
        super()._prepare()
        for gt in (gt for gts in self._gts.values() for gt in gts):
            gt["ignore"] = gt["ignore"] or ignored[gt["id"]]


def run(dataset):
    """The finished COCOeval."""
    params = dataset["params"]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = (IgnoreKey if params.get("ignore_key") else COCOeval)(*load(dataset), "bbox")
        evaluation.params.useCats = params.get("use_cats", 1)
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
    # Where classes do not matter there is one, which is not a class of the data set.
    classes = range(arrays[0].shape[2]) if dataset["params"].get("use_cats", 1) else []
    expected = {
        "shape": list(arrays[0].shape),
        "stats": stats,
        "per_class": [bits(class_stats(evaluation, k)) for k in classes],
        "digests": [digest(array) for array in arrays],
    }
    return expected, arrays
