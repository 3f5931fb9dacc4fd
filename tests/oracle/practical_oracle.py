"""The practical protocol in plain Python, as a notebook computes it: one list and one loop at a time.

Written from the protocol's description, with none of the library's structure, to be an independent witness.
"""


def corners(bbox):
    x, y, w, h = bbox
    return x, y, x + w, y + h


def iou(a, b):
    ax1, ay1, ax2, ay2 = corners(a)
    bx1, by1, bx2, by2 = corners(b)
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    if width <= 0 or height <= 0 or width * height == 0:
        return 0.0
    return width * height / (a[2] * a[3] + b[2] * b[3] - width * height)


def safe(a, b):
    return a / b if b > 0 else 0.0


def counts(tp, fp, fn):
    precision, recall = safe(tp, tp + fp), safe(tp, tp + fn)
    f1 = safe(2 * precision * recall, precision + recall)
    return {"tp": tp, "fp": fp, "fn": fn, "precision": precision, "recall": recall, "f1": f1}


def evaluate_class(dataset, category_id, score_thr, iou_thr):
    of_class = lambda rows, image: [r for r in rows if r["image_id"] == image and r["category_id"] == category_id]
    outcomes, total = [], 0
    for image in dataset["images"]:
        truth = [a["bbox"] for a in of_class(dataset["annotations"], image["id"])]
        total += len(truth)
        found = [d for d in of_class(dataset["detections"], image["id"]) if d["score"] >= score_thr]
        free = [True] * len(truth)
        for d in sorted(found, key=lambda d: -d["score"]):
            best, best_iou = None, 0.0
            for i, bbox in enumerate(truth):
                overlap = iou(d["bbox"], bbox)
                if free[i] and overlap > best_iou:
                    best, best_iou = i, overlap
            hit = best is not None and best_iou >= iou_thr
            if hit:
                free[best] = False
            outcomes.append((d["score"], hit))
    tp = sum(hit for _, hit in outcomes)
    result = counts(tp, len(outcomes) - tp, total - tp)
    result.update(ground_truths=total, detections=len(outcomes), ap50_approx=average_precision(outcomes, total))
    return result


def average_precision(outcomes, total):
    if total == 0:
        return 0.0
    area, tp, fp, last = 0.0, 0, 0, 0.0
    for _, hit in sorted(outcomes, key=lambda outcome: -outcome[0]):
        tp, fp = tp + hit, fp + (not hit)
        precision, recall = tp / (tp + fp), tp / total
        area += precision * (recall - last)
        last = recall
    return area


def expectation(dataset):
    params = dataset["params"]
    thresholds = params.get("score_thr", 0.5), params.get("iou_thr", 0.5)
    classes = [evaluate_class(dataset, c["id"], *thresholds) for c in dataset["categories"]]
    return {
        "global": counts(*(sum(c[key] for c in classes) for key in ("tp", "fp", "fn"))),
        "per_class": classes,
        "mAP50_approx": sum(c["ap50_approx"] for c in classes) / len(classes) if classes else 0.0,
    }
