"""Small detection data sets for the parity test with `tidecv`: random ones by seed, and edge cases by name.

In the format of `datasets.py`, without settings. Every class is listed, none is -1, which `tidecv` takes for any class.
"""

import random

from datasets import A, B, FAR, LEFT, MIDDLE, RIGHT, area_of, box, dataset, dt, gt, near


def detect_object(rng, bbox, category_id, others, grid, sure):
    """What a detector says about an object: boxes and classes, right or with one of TIDE's mistakes."""
    x, y, w, h = bbox
    side = rng.choice([-1, 1])
    wrong = rng.choice(others) if others else category_id
    # IoU 1 - s over 1 + s: from about 0.1 to 0.5; on the grid sometimes exactly so.
    shift = rng.choice([0.5, 1 / 3, 9 / 11, rng.uniform(0.35, 0.8)])
    off = [x + side * shift * w, y, w, h]
    half = [x, y, w, h / 2]
    right = near(rng, bbox, grid)
    mistakes = [
        [], [(right, category_id)], [(right, category_id)] * 2,
        [(bbox, category_id), (right, category_id), (right, category_id)],
        [(right, wrong)], [(off, category_id)], [(off, wrong)], [(half, category_id), (bbox, category_id)],
        [(off, wrong)] * 2, [(off, wrong), (right, category_id)],
        [(off, category_id), (right, wrong)], [(half, category_id), (half, wrong)],
    ]
    return [(right, category_id)] if rng.random() < sure else rng.choice(mistakes)


def random_dataset(seed):
    rng = random.Random(seed)
    classes, images = rng.randint(1, 5), rng.randint(1, 12)
    category_ids = rng.sample(range(0, 40), classes)
    image_ids = rng.sample(range(0, 1000), images)
    grid, tied = rng.random() < 0.4, rng.random() < 0.4
    crowd, sure = rng.choice([0.0, 0.1, 0.4]), rng.choice([0.0, 0.5, 0.8])
    crowded = rng.random() < 0.3  # one image with more detections than the limit
    annotations, detections = [], []

    def category():
        # Some classes stay without ground truth, some without anything.
        return category_ids[min(rng.randrange(classes + 1), classes - 1)]

    def detect(image, bbox, category_id):
        bbox = [*bbox[:2], max(bbox[2], 0.0), max(bbox[3], 0.0)]
        score = rng.choice([0.0, 0.25, 0.5, 0.5, 0.75, 1.0]) if tied else rng.random()
        detections.append({"image_id": image, "category_id": category_id, "bbox": bbox, "score": score})

    for image in image_ids:
        boxes = []
        for _ in range(rng.choice([0, 1, 3, 8])):
            bbox, category_id = box(rng, grid), category_ids[rng.randrange(max(1, classes - 1))]
            if boxes and rng.random() < 0.15:
                bbox = rng.choice(boxes)  # two objects in one place
            boxes.append(bbox)
            is_crowd = int(rng.random() < crowd)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": category_id, "bbox": bbox,
                "area": area_of(rng, bbox), "iscrowd": is_crowd,
            })
            others = [c for c in category_ids if c != category_id]
            for found, its_class in detect_object(rng, bbox, category_id, others, grid, sure):
                detect(image, found, its_class)
        for _ in range(rng.choice([0, 0, 1, 5])):
            detect(image, box(rng, grid), category())
    if crowded:
        image = rng.choice(image_ids)
        targets = [a["bbox"] for a in annotations if a["image_id"] == image] or [box(rng, grid)]
        for _ in range(130):
            detect(image, near(rng, rng.choice(targets), grid), category())
    rng.shuffle(annotations)
    rng.shuffle(detections)
    return dataset(annotations, detections, images=image_ids, categories=category_ids)


def edge_cases():
    """Each named after the behaviour of tidecv that it pins."""
    both = (1, 2)
    return {
        "each_main_error_once": dataset(
            [gt(A), gt(B, 2), gt([0.0, 300.0, 60.0, 60.0], 3), gt([300.0, 300.0, 60.0, 60.0], 4), gt(FAR, 5)],
            [dt(A), dt(A, 0.8), dt(B, 0.7, category=2), dt([30.0, 300.0, 60.0, 60.0], 0.6),
             dt([330.0, 300.0, 60.0, 60.0], 0.5, category=2), dt([0.0, 600.0, 9.0, 9.0], 0.4)], categories=both),
        "class_without_ground_truth_counts_as_0_until_it_is_mended_away": dataset(
            [gt(A)], [dt(A), dt(FAR, 0.8, category=2)], categories=both),
        "without_ground_truth_mending_the_background_leaves_nothing": dataset([], [dt(A)]),
        "nothing_at_all": dataset([], []),
        "image_without_detections_is_missed": dataset([gt(A), gt(B, 2, image=2)], [dt(A)], images=both),
        "limit_of_100_is_for_the_image": dataset(
            [gt(A), gt(B, 2, category=2)],
            [dt(FAR, 0.9) for _ in range(99)] + [dt(A, 0.8), dt(B, 0.7, category=2)], categories=both),
        "mistakes_rank_before_equal_scores_once_anything_is_mended": dataset(
            [gt(A), gt(B, 2)], [dt(A, 0.5), dt(FAR, 0.5), dt(B, 0.5), dt(FAR, 0.5)]),
        "of_equal_ious_the_first_ground_truth_is_taken": dataset(
            [gt(LEFT, 1), gt(RIGHT, 2)], [dt(MIDDLE), dt(LEFT, 0.8), dt(RIGHT, 0.7)]),
        "duplicate_with_an_iou_of_exactly_half_is_poorly_localised": dataset(
            [gt([0.0, 0.0, 10.0, 10.0])], [dt([0.0, 0.0, 10.0, 10.0]), dt([0.0, 0.0, 10.0, 5.0], 0.8)]),
        "background_threshold_is_poorly_localised_or_background": dataset(
            [gt([0.0, 0.0, 10.0, 10.0]), gt([100.0, 0.0, 10.0, 10.0], 2, category=2)],
            [dt([0.0, 0.0, 10.0, 1.0]), dt([100.0, 0.0, 10.0, 1.0], 0.8)], categories=both),
        "object_is_mended_by_the_highest_score_of_any_kind": dataset(
            [gt(A), gt(B, 2)],
            [dt(A, 0.9, category=2), dt([10.0, 10.0, 50.0, 20.0], 0.8), dt(B, 0.7), dt(FAR, 0.6)], categories=both),
        "crowd_must_hold_more_than_half": dataset(
            [gt([0.0, 0.0, 100.0, 100.0], crowd=1), gt(FAR, 2)],
            [dt([95.0, 0.0, 10.0, 10.0]), dt([94.0, 0.0, 10.0, 10.0], 0.8), dt(FAR, 0.5)]),
        "crowd_of_another_class_is_nothing": dataset(
            [gt(A, crowd=1), gt(B, 2, category=2)], [dt(A, 0.9, category=2), dt(A, 0.8), dt(B, 0.7, category=2)],
            categories=both),
        "ignored_detection_counts_and_can_be_mended": dataset(
            [gt([0.0, 0.0, 100.0, 100.0], crowd=1), gt([0.0, 0.0, 50.0, 50.0], 2), gt(B, 3)],
            [dt([0.0, 0.0, 50.0, 20.0]), dt([60.0, 60.0, 20.0, 20.0], 0.8), dt(B, 0.3)]),
        "wrong_class_moves_to_the_class_of_the_object": dataset(
            [gt(A), gt(B, 2), gt(FAR, 3, category=2)],
            [dt(A, 0.9, category=2), dt(B, 0.8), dt(FAR, 0.7, category=2)], categories=both),
        "mended_ignored_wrong_class_adds_a_true_positive": dataset(
            [gt(A, 1, category=2, crowd=1), gt(A, 2), gt(B, 3)], [dt(A, 0.9, category=2), dt(B, 0.8)], categories=both),
    }
