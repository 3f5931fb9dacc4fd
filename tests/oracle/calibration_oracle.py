"""Calibration error over matched IoU, as a plain program: the reference for `metrics::calibration`.

Written from the definition (Oksuz et al., CVPR 2023), one detection at a time, with fractions instead of running sums.
"""

from fractions import Fraction

IOU_THR, BINS, MAX_DETS = 0.5, 25, 100


def share(inner, outer):
    """Intersection, and the areas, of two boxes, as COCO computes them."""
    w = min(inner[0] + inner[2], outer[0] + outer[2]) - max(inner[0], outer[0])
    h = min(inner[1] + inner[3], outer[1] + outer[3]) - max(inner[1], outer[1])
    return w * h if w > 0 and h > 0 else 0.0


def overlap(dt, gt):
    common, area = share(dt["bbox"], gt["bbox"]), dt["bbox"][2] * dt["bbox"][3]
    if common == 0.0:
        return 0.0
    return common / (area if gt["iscrowd"] else area + gt["bbox"][2] * gt["bbox"][3] - common)


def matched(truth, found):
    """(score, IoU or None) of the detections of one image and class; ignored ones are left out."""
    found = sorted(found, key=lambda dt: (-dt["score"], dt["bbox"]))[:MAX_DETS]
    free, samples = [gt for gt in truth if not gt["iscrowd"]], []
    crowds = [gt for gt in truth if gt["iscrowd"]]
    for dt in found:
        near = [(overlap(dt, gt), i) for i, gt in enumerate(free)]
        near = [pair for pair in near if pair[0] >= IOU_THR]
        if near:
            iou, i = max(near)  # of equal ones the last
            free.pop(i)
            samples.append((dt["score"], iou))
        elif not any(overlap(dt, gt) >= IOU_THR for gt in crowds):
            samples.append((dt["score"], None))
    return samples


def mean(values):
    values = [Fraction(v) for v in values]
    return float(sum(values) / len(values)) if values else None


def reliability(samples):
    bins = [[] for _ in range(BINS)]
    for score, iou in samples:
        # Above i / 25 and at most (i + 1) / 25, with the borders as doubles.
        bins[next(i for i in range(BINS) if i == BINS - 1 or score <= (i + 1) * (1.0 / BINS))].append((score, iou))
    rows = [
        (len(b), mean(s for s, _ in b), mean(int(i is not None) for _, i in b), mean(i for _, i in b if i is not None))
        for b in bins
    ]
    gaps = lambda target: sum(n / len(samples) * abs(score - target(right, iou)) for n, score, right, iou in rows if n)
    la_ece = gaps(lambda right, iou: right * (iou or 0.0)) if samples else None
    ece = gaps(lambda right, iou: right) if samples else None
    return {"detections": len(samples), "la_ece": la_ece, "ece": ece, "bins": rows}


def expectation(dataset):
    per_class, pooled = [], []
    for category in sorted(c["id"] for c in dataset["categories"]):
        truth = [a for a in dataset["annotations"] if a["category_id"] == category]
        samples = []
        for image in dataset["images"]:
            on = [[row for row in rows if row["image_id"] == image["id"]] for rows in (truth, dataset["detections"])]
            samples += matched(on[0], [dt for dt in on[1] if dt["category_id"] == category])
        if all(a["iscrowd"] for a in truth):
            samples = []
        pooled += samples
        per_class.append(reliability(samples))
    return {
        "la_ece": mean(c["la_ece"] for c in per_class if c["la_ece"] is not None),
        "ece": mean(c["ece"] for c in per_class if c["ece"] is not None),
        "pooled": reliability(pooled),
        "per_class": [{**c, "bins": []} for c in per_class],
    }
