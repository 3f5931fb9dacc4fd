"""Small detection data sets for the parity tests: random ones by seed, and edge cases by name.

A data set is a dict, as JSON: `categories`, `images`, `annotations` and `detections` as in COCO's files, in
file order, and `params`, the settings that differ from the defaults (`iou_thrs`, `rec_thrs`, `max_dets`,
`area_ranges` as [name, min, max], `use_cats`; `ignore_key`: the annotations' `ignore` is honoured; `score_thr`,
`iou_thr` for the practical protocol).
"""

import random

BORDER_AREAS = [0.0, 1024.0, 9216.0, 1e10, 1023.9999999999999, 9216.000000000002, 1e10 + 1]
SIDES = {1024.0: (32.0, 32.0), 9216.0: (96.0, 96.0)}


def ids(rng, count):
    """Distinct ids of one kind: contiguous, with gaps, from 0, negative too, or huge; in file order."""
    kind = rng.randrange(5)
    if kind == 0:
        chosen = list(range(1, count + 1))
    elif kind == 1:
        chosen = list(range(count))
    elif kind == 2:
        chosen = rng.sample(range(1, 100 * count + 1), count)
    elif kind == 3:
        chosen = rng.sample(range(-count, count + 1), count)
    else:
        # Neighbours here are equal as doubles.
        chosen = [2**62 + i for i in rng.sample(range(4 * count), count)]
    rng.shuffle(chosen)
    return chosen


def box(rng, grid):
    """A box of any size COCO distinguishes; on a grid, areas and IoUs are often exactly equal."""
    side = rng.choice([12, 40, 90, 200])
    values = [rng.uniform(0, 300), rng.uniform(0, 300), rng.uniform(1, side), rng.uniform(1, side)]
    if grid:
        values = [float(round(v / 8) * 8) for v in values]
    if rng.random() < 0.05:
        values[rng.choice([2, 3])] = 0.0
    if rng.random() < 0.1:
        values[2:] = SIDES[rng.choice([1024.0, 9216.0])]
    return values


def near(rng, bbox, grid):
    """A detection's idea of `bbox`: exact, shifted, or resized."""
    amount = rng.choice([0, 0, 0.05, 0.1, 0.2, 0.4])
    moved = [v + rng.uniform(-1, 1) * amount * side for v, side in zip(bbox, bbox[2:] + bbox[2:])]
    moved[2:] = [max(0.0, side) for side in moved[2:]]
    return [float(round(v)) for v in moved] if grid else moved


def area_of(rng, bbox):
    """COCO's area is the segmentation's, usually below the box's; sometimes on a range's border."""
    choice = rng.random()
    if choice < 0.15:
        return rng.choice(BORDER_AREAS)
    return bbox[2] * bbox[3] * (1.0 if choice < 0.5 else rng.uniform(0.3, 1.0))


def random_params(rng):
    params = {}
    if rng.random() < 0.2:
        params["max_dets"] = rng.choice([[1, 2, 3], [100, 1, 10], [5, 100, 100], [1, 10, 300], [0, 1, 100]])
    if rng.random() < 0.1:
        params["iou_thrs"] = rng.choice([[0.5], [0.75, 0.5], [0.0, 0.3, 1.0], [0.5, 0.5, 0.6]])
    if rng.random() < 0.1:
        params["rec_thrs"] = rng.choice([[0.0, 0.5, 1.0], [1.0, 0.1, 0.5], [i / 10 for i in range(11)]])
    limits = params.get("max_dets", [])
    # A missing range and equal limits together raise an exception in pycocotools.
    if rng.random() < 0.1 and len(set(limits)) == len(limits):
        params["area_ranges"] = [["all", 0.0, 1e10], ["small", 0.0, 500.0], ["tiny", 0.0, 100.0]]
    if rng.random() < 0.3:
        params["score_thr"] = rng.choice([0.0, 0.25, 0.75])
        params["iou_thr"] = rng.choice([0.3, 0.5, 0.7])
    return params


def random_dataset(seed):
    rng = random.Random(seed)
    classes, images = rng.randint(1, 5), rng.randint(1, 9)
    category_ids, image_ids = ids(rng, classes), ids(rng, images)
    grid, tied = rng.random() < 0.4, rng.random() < 0.5
    crowd = rng.choice([0.0, 0.1, 0.4])
    crowded = rng.random() < 0.15  # one image with more detections than any limit
    strangers = rng.random() < 0.2  # a category that the file does not list
    annotations, detections = [], []

    def category():
        if strangers and rng.random() < 0.1:
            return max(category_ids) + 1000
        # Some classes stay without ground truth, some without anything.
        return category_ids[min(rng.randrange(classes + 1), classes - 1)]

    def score():
        return rng.choice([0.1, 0.25, 0.5, 0.5, 0.75, 1.0, 0.0]) if tied else rng.random()

    def detect(image, category_id, bbox):
        detections.append({"image_id": image, "category_id": category_id, "bbox": bbox, "score": score()})

    for image in image_ids:
        boxes = []
        for _ in range(rng.choice([0, 1, 3, 8])):
            bbox, category_id = box(rng, grid), category()
            if boxes and rng.random() < 0.15:
                bbox = rng.choice(boxes)[0]  # two objects in one place
            boxes.append((bbox, category_id))
            annotations.append({
                "image_id": image, "category_id": category_id, "bbox": bbox,
                "area": area_of(rng, bbox), "iscrowd": int(rng.random() < crowd),
            })
        for bbox, category_id in boxes:
            for _ in range(rng.choice([0, 1, 1, 2, 4])):
                detect(image, category_id, near(rng, bbox, grid))
        for _ in range(rng.choice([0, 1, 5])):
            detect(image, category(), box(rng, grid))
    if crowded:
        image, category_id = rng.choice(image_ids), rng.choice(category_ids)
        targets = [a["bbox"] for a in annotations if a["image_id"] == image] or [box(rng, grid)]
        for _ in range(130):
            detect(image, category_id, near(rng, rng.choice(targets), grid))
    rng.shuffle(annotations)
    rng.shuffle(detections)
    for annotation, identity in zip(annotations, ids(rng, len(annotations))):
        annotation["id"] = identity
    params = random_params(rng)
    if rng.random() < 0.2:
        params["use_cats"] = 0
    if rng.random() < 0.1:
        for row in rng.sample(detections, len(detections) // 3):
            detections.append({**row, "image_id": max(image_ids) + rng.randint(1, 3)})
    if rng.random() < 0.15:
        for annotation in annotations:
            annotation["ignore"] = int(rng.random() < 0.3)
        if rng.random() < 0.7:
            params["ignore_key"] = True
    return {
        "categories": [{"id": c, "name": f"class{i}"} for i, c in enumerate(category_ids)],
        "images": [{"id": i} for i in image_ids],
        "annotations": annotations, "detections": detections, "params": params,
    }


def gt(bbox, id=1, image=1, category=1, area=None, crowd=0):
    area = bbox[2] * bbox[3] if area is None else area
    return {"id": id, "image_id": image, "category_id": category, "bbox": bbox, "area": area, "iscrowd": crowd}


def dt(bbox, score=0.9, image=1, category=1):
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score}


def dataset(annotations, detections, images=(1,), categories=(1,), **params):
    return {
        "categories": [{"id": c, "name": f"class{c}"} for c in categories],
        "images": [{"id": i} for i in images],
        "annotations": annotations, "detections": detections, "params": params,
    }


A = [10.0, 10.0, 50.0, 50.0]
B = [200.0, 10.0, 50.0, 50.0]
FAR = [500.0, 500.0, 50.0, 50.0]
# MIDDLE overlaps both others alike, and LEFT does not find RIGHT at the higher thresholds: what MIDDLE takes shows.
LEFT, MIDDLE, RIGHT = [0.0, 0.0, 100.0, 100.0], [10.0, 0.0, 100.0, 100.0], [20.0, 0.0, 100.0, 100.0]


def edge_cases():
    """Each named after the behaviour of pycocotools that it pins."""
    return {
        "annotation_id_0_is_found_but_counts_as_a_false_positive": dataset(
            [gt(A, 0), gt(B, 1)], [dt(A), dt(A, 0.8), dt(B, 0.7)]),
        "annotation_id_0_out_of_range_detection_is_ignored": dataset(
            [gt(A, 0, area=500.0), gt(B, 1, area=500.0)], [dt(A), dt(B, 0.7)]),
        "negative_annotation_id_is_an_ordinary_one": dataset([gt(A, -1)], [dt(A)]),
        "perfect_detector_has_precision_just_below_1": dataset([gt(A)], [dt(A)]),
        "max_dets_without_100_leaves_ap_undefined": dataset([gt(A)], [dt(A)], max_dets=[1, 10, 50]),
        "max_dets_are_sorted_first": dataset([gt(A), gt(B, 2)], [dt(A), dt(B)], max_dets=[100, 2, 1]),
        "max_dets_equal_limits_are_averaged": dataset([gt(A), gt(B, 2)], [dt(A), dt(B)], max_dets=[1, 100, 100]),
        "max_dets_of_0_finds_nothing": dataset([gt(A)], [dt(A)], max_dets=[0, 0, 100]),
        "detections_beyond_the_limit_are_cut_per_class": dataset(
            [gt(A), gt(A, 2, category=2)],
            [dt(FAR, 0.9) for _ in range(100)] + [dt(A, 0.8), dt(A, 0.1, category=2)], categories=(1, 2)),
        "class_without_ground_truth_is_absent": dataset(
            [gt(A)], [dt(A), dt(A, category=2), dt(B, category=2)], categories=(1, 2, 3)),
        "class_with_crowds_only_is_absent": dataset([gt(A, crowd=1)], [dt(A)]),
        "ground_truth_without_detections_has_recall_0": dataset([gt(A)], []),
        "no_ground_truth_and_no_detections": dataset([], []),
        "image_without_anything": dataset([gt(A, image=2)], [dt(A, image=2)], images=(3, 2, 1)),
        "crowd_overlap_is_the_share_of_the_detection": dataset(
            [gt([0.0, 0.0, 100.0, 100.0], crowd=1), gt(B, 2)], [dt([90.0, 0.0, 20.0, 20.0]), dt(B, 0.5)]),
        "crowd_is_found_many_times": dataset(
            [gt(A, crowd=1), gt(B, 2)], [dt(A), dt(A, 0.8), dt(A, 0.7), dt(B, 0.6)]),
        "ignored_box_that_is_no_crowd_is_found_once": dataset(
            [gt(A, area=2e10), gt(B, 2)], [dt(A), dt(A, 0.8), dt(B, 0.7)]),
        "ordinary_box_is_preferred_to_a_better_ignored_one": dataset(
            [gt(A, crowd=1), gt([10.0, 10.0, 50.0, 30.0], 2)], [dt(A)]),
        "of_equal_ious_the_last_ground_truth_is_taken": dataset(
            [gt(LEFT, 1), gt(RIGHT, 2)], [dt(MIDDLE), dt(LEFT, 0.8)]),
        "equal_scores_keep_file_order": dataset([gt(A)], [dt(FAR, 0.5), dt(A, 0.5)]),
        "equal_scores_rank_by_ascending_image_id": dataset(
            [gt(A, image=9), gt(B, 2, image=2)], [dt(A, 0.5, image=9), dt(FAR, 0.5, image=2)], images=(9, 2)),
        "negative_zero_ties_with_zero": dataset([gt(A)], [dt(FAR, -0.0), dt(A, 0.0)]),
        "iou_of_exactly_a_threshold_matches": dataset([gt([0.0, 0.0, 10.0, 10.0])], [dt([0.0, 0.0, 10.0, 5.0])]),
        "iou_threshold_of_1_is_lowered": dataset([gt(A)], [dt(A)], iou_thrs=[0.5, 1.0]),
        "iou_threshold_of_0_matches_boxes_far_apart": dataset([gt(A)], [dt(FAR)], iou_thrs=[0.0, 0.5]),
        "area_on_the_border_is_in_both_ranges": dataset(
            [gt([0.0, 0.0, 32.0, 32.0]), gt([100.0, 0.0, 96.0, 96.0], 2)],
            [dt([0.0, 0.0, 32.0, 32.0]), dt([100.0, 0.0, 96.0, 96.0]), dt([500.0, 0.0, 32.0, 32.0], 0.95)]),
        "area_is_the_annotations_not_the_boxs": dataset([gt(A, area=100.0)], [dt(A), dt(B, 0.95)]),
        "box_without_area_matches_nothing": dataset(
            [gt([10.0, 10.0, 0.0, 50.0]), gt(A, 2)], [dt([10.0, 10.0, 0.0, 50.0]), dt(A, 0.5)]),
        "areas_that_round_to_0_overlap_as_nan": dataset(
            [gt([0.0, 0.0, 1e-200, 1e-200]), gt(A, 2)], [dt([0.0, 0.0, 1e-200, 1e-200]), dt(A, 0.5)]),
        "first_detection_is_ignored_but_gives_the_score_at_recall_0": dataset(
            [gt(A), gt(B, 2, crowd=1)], [dt(B, 0.99), dt(A, 0.5)]),
        "recall_thresholds_stop_at_the_first_not_reached": dataset(
            [gt(A), gt(B, 2)], [dt(A)], rec_thrs=[0.0, 1.0, 0.5]),
        "huge_ids_that_are_equal_as_doubles": dataset(
            [gt(A, 2**62, 2**62, 2**62), gt(B, 2**62 + 1, 2**62 + 1, 2**62 + 1)],
            [dt(A, 0.9, 2**62, 2**62), dt(B, 0.8, 2**62 + 1, 2**62 + 1), dt(B, 0.7, 2**62 + 1, 2**62)],
            images=(2**62 + 1, 2**62), categories=(2**62 + 1, 2**62)),
        "unlisted_category_is_not_evaluated": dataset(
            [gt(A), gt(B, 2, category=7)], [dt(A), dt(B, category=7), dt(FAR, category=8)]),
        "detections_on_unknown_images_are_not_looked_at": dataset(
            [gt(A)], [dt(A, 0.9, image=7), dt(FAR, 0.8, image=7), dt(A, 0.5)]),
        "ignore_key_is_overwritten_by_iscrowd": dataset(
            [gt(A) | {"ignore": 1}, gt(B, 2)], [dt(FAR, 0.95), dt(A), dt(B, 0.8)]),
        "ignore_key_honoured_is_found_once_and_no_mistake": dataset(
            [gt(A) | {"ignore": 1}, gt(B, 2)], [dt(A), dt(A, 0.85), dt(B, 0.8)], ignore_key=True),
        "without_classes_any_detection_finds_any_object": dataset(
            [gt(A), gt(B, 2, category=2)], [dt(A, category=2), dt(B, category=3)], categories=(1, 2, 3), use_cats=0),
        "without_classes_equal_scores_rank_by_class_then_file": dataset(
            [gt(A)], [dt(FAR, 0.5, category=2), dt(A, 0.5, category=1), dt(B, 0.5, category=1)],
            categories=(2, 1), use_cats=0),
        "without_classes_of_equal_ious_the_highest_class_is_taken": dataset(
            [gt(RIGHT, 1, category=2), gt(LEFT, 2, category=1)], [dt(MIDDLE), dt(LEFT, 0.8)],
            categories=(1, 2), use_cats=0),
        "without_classes_limits_hold_for_the_image": dataset(
            [gt(A), gt(B, 2, category=2)], [dt(A), dt(B, 0.8, category=2)], categories=(1, 2), use_cats=0),
        "without_classes_unlisted_categories_are_not_evaluated": dataset(
            [gt(A), gt(B, 2, category=7)], [dt(A), dt(B, category=7), dt(B, 0.95, category=8)], use_cats=0),
        "without_classes_and_categories_nothing_is_evaluated": dataset([gt(A)], [dt(A)], categories=(), use_cats=0),
    }
