"""What `tidecv` says about a data set: the reference for TIDE's decomposition.

`tidecv` 1.0.1 imports OpenCV, matplotlib and appdirs for drawing and downloading. None of it is part of the evaluation:
empty stand-ins are imported instead, so that neither has to be installed.
"""

import sys
from unittest.mock import MagicMock

for name in ("cv2", "matplotlib", "matplotlib.pyplot", "appdirs", "tidecv.plotting"):
    sys.modules[name] = MagicMock()
from tidecv import TIDE, Data  # noqa: E402
from tidecv.errors.main_errors import FalsePositiveError  # noqa: E402
from tidecv.errors.qualifiers import Qualifier  # noqa: E402


def load(dataset):
    """As `tidecv.datasets.COCO` and `COCOResult` do for boxes."""
    truth, found = Data("gt", max_dets=100), Data("dt")
    for image in dataset["images"]:
        truth.add_image(image["id"], str(image["id"]))
    for category in dataset["categories"]:
        truth.add_class(category["id"], category["name"])
    for row in dataset["annotations"]:
        add = truth.add_ignore_region if row["iscrowd"] else truth.add_ground_truth
        add(row["image_id"], row["category_id"], row["bbox"])
    for row in dataset["detections"]:
        found.add_detection(row["image_id"], row["category_id"], row["score"], row["bbox"])
    return truth, found


def or_none(value):
    """Its mean over no classes is a division by zero."""
    try:
        return value()
    except ZeroDivisionError:
        return None


def class_aps(ap_data):
    return {k: ap.get_ap() for k, ap in ap_data.objs.items() if not ap.is_empty()}


def expectation(dataset):
    """Values in percent, as the package has them; `None` where it fails for want of data."""
    truth, found = load(dataset)
    run = or_none(lambda: TIDE().evaluate(truth, found))
    if run is None:
        return None
    main = {e.short_name: or_none(lambda: run.fix_main_errors(error_types=[e])[e]) for e in TIDE._error_types}
    kinds = {e.short_name: run.fix_errors(Qualifier("", None)._make_error_func(e)) for e in TIDE._error_types}
    kinds["FalsePos"] = run.fix_errors(transform=FalsePositiveError.fix)
    kinds["FalseNeg"] = run.fix_errors(false_neg_dict=run.false_negatives)
    # `fix_special_errors` has both or, where one fails, neither.
    special = {k: or_none(lambda: kinds[k].get_mAP() - run.ap) for k in ("FalsePos", "FalseNeg")}
    theirs = or_none(run.fix_special_errors)
    assert theirs is None or {e.short_name: v for e, v in theirs.items()} == special
    mended = {kind: class_aps(ap_data) for kind, ap_data in kinds.items()}
    aps = class_aps(run.ap_data)
    ids = [category["id"] for category in dataset["categories"]]
    return {
        "ap": run.ap,
        "dap": {**main, **special},
        "counts": {e.short_name: count for e, count in run.count_errors().items()},
        "per_class": [
            {"id": k, "ap": aps.get(k), "mended": {kind: mended[kind].get(k) for kind in kinds}} for k in sorted(ids)
        ],
    }
