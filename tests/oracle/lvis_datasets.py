"""Small federated data sets for the parity with `lvis`: random ones by seed, and edge cases by name.

As in datasets.py, and as in LVIS's files: images have `neg_category_ids` and `not_exhaustive_category_ids`, categories
a `frequency`. `params` is empty: the rules of LVIS have no settings.
"""

import random

from datasets import A, B, FAR, area_of, box, dt, gt, ids, near


def random_dataset(seed):
    rng = random.Random(f"lvis {seed}")
    classes, images = rng.randint(1, 7), rng.randint(1, 6)
    category_ids, image_ids = ids(rng, classes), ids(rng, images)
    grid, tied = rng.random() < 0.4, rng.random() < 0.5
    crowd, ignore = rng.choice([0.0, 0.2]), rng.choice([0.0, 0.0, 0.2])
    looked_for = rng.choice([0.1, 0.4, 0.8])
    strangers = [max(category_ids) + 1000] if rng.random() < 0.2 else []
    annotations, detections, image_rows = [], [], []

    def some(share):
        return [c for c in category_ids + strangers if rng.random() < share]

    def category():
        return rng.choice(category_ids + strangers)

    def score():
        return rng.choice([0.1, 0.25, 0.5, 0.5, 0.75, 1.0, 0.0]) if tied else rng.random()

    def detect(image, category_id, bbox):
        detections.append({"image_id": image, "category_id": category_id, "bbox": bbox, "score": score()})

    for image in image_ids:
        image_rows.append({
            "id": image, "neg_category_ids": some(looked_for), "not_exhaustive_category_ids": some(0.25),
        })
        boxes = []
        for _ in range(rng.choice([0, 1, 3, 8])):
            bbox, category_id = box(rng, grid), category()
            boxes.append((bbox, category_id))
            annotation = {
                "image_id": image, "category_id": category_id, "bbox": bbox,
                "area": area_of(rng, bbox), "iscrowd": int(rng.random() < crowd),
            }
            if rng.random() < ignore:
                annotation["ignore"] = rng.randint(0, 1)
            annotations.append(annotation)
        for bbox, category_id in boxes:
            for _ in range(rng.choice([0, 1, 1, 2, 4])):
                detect(image, category_id, near(rng, bbox, grid))
        for _ in range(rng.choice([0, 2, 10])):
            detect(image, category(), box(rng, grid))
    if rng.random() < 0.25:  # more than an image's 300
        image = rng.choice(image_ids)
        targets = [(a["bbox"], a["category_id"]) for a in annotations if a["image_id"] == image]
        for _ in range(rng.choice([290, 310, 350])):
            bbox, category_id = rng.choice(targets) if targets else (box(rng, grid), category())
            detect(image, category_id, near(rng, bbox, grid))
    rng.shuffle(annotations)
    rng.shuffle(detections)
    for annotation, identity in zip(annotations, ids(rng, len(annotations))):
        annotation["id"] = identity
    return {
        "categories": [
            {"id": c, "name": f"class{i}", "frequency": rng.choice("rcf")} for i, c in enumerate(category_ids)
        ],
        "images": image_rows, "annotations": annotations, "detections": detections, "params": {},
    }


def image(id=1, negative=(), not_exhaustive=()):
    return {"id": id, "neg_category_ids": list(negative), "not_exhaustive_category_ids": list(not_exhaustive)}


def dataset(annotations, detections, images=None, frequencies="f"):
    return {
        "categories": [{"id": c, "name": f"class{c}", "frequency": f} for c, f in enumerate(frequencies, 1)],
        "images": images or [image()],
        "annotations": annotations, "detections": detections, "params": {},
    }


def edge_cases():
    """Each named after the rule or behaviour of `lvis` that it pins."""
    return {
        "class_that_was_not_looked_for_makes_no_mistakes": dataset(
            [gt(A), gt(A, 2, image=2, category=2)], [dt(A), dt(A, 0.95, category=2), dt(A, image=2, category=2)],
            [image(1), image(2)], "ff"),
        "negative_class_makes_mistakes": dataset(
            [gt(A), gt(A, 2, image=2, category=2)], [dt(A), dt(A, 0.95, category=2), dt(A, image=2, category=2)],
            [image(1, [2]), image(2)], "ff"),
        "not_exhaustive_class_can_be_found_but_makes_no_mistakes": dataset(
            [gt(A), gt(B, 2)], [dt(FAR, 0.95), dt(A), dt(FAR, 0.85), dt(B, 0.8)], [image(1, [], [1])]),
        "detections_are_cut_at_300_over_all_classes": dataset(
            [gt(A), gt(B, 2, category=2)],
            [dt(FAR, 0.9) for _ in range(299)] + [dt(A, 0.8), dt(B, 0.7, category=2)], frequencies="fr"),
        "equal_scores_are_cut_in_file_order": dataset(
            [gt(A), gt(B, 2)], [dt(FAR, 0.5)] * 299 + [dt(B, 0.5), dt(A, 0.5)]),
        "detections_of_unlisted_classes_use_up_the_limit": dataset(
            [gt(A)], [dt(FAR, 0.9, category=9) for _ in range(300)] + [dt(A, 0.8)]),
        "crowd_is_an_ordinary_box": dataset([gt(A, crowd=1), gt(B, 2)], [dt(A), dt(A, 0.8), dt(B, 0.7)]),
        "ignore_key_is_honoured": dataset([gt(A) | {"ignore": 1}, gt(B, 2)], [dt(A), dt(A, 0.8), dt(B, 0.7)]),
        "annotation_without_area_is_dropped_and_its_class_not_looked_for": dataset(
            [gt(A, area=0.0), gt(B, 2, image=2)], [dt(A), dt(FAR, 0.95), dt(B, image=2)], [image(1), image(2)]),
        "detection_without_area_is_dropped": dataset(
            [gt(A)], [dt([10.0, 10.0, 0.0, 50.0], 0.95), dt(A)]),
        "annotation_id_0_is_found_but_counts_as_a_false_positive": dataset(
            [gt(A, 0), gt(B, 1)], [dt(A), dt(A, 0.8), dt(B, 0.7)]),
        "annotation_id_0_of_a_not_exhaustive_class_is_ignored": dataset(
            [gt(A, 0), gt(B, 1)], [dt(A), dt(B, 0.7)], [image(1, [], [1])]),
        "frequency_groups_are_means_over_their_classes": dataset(
            [gt(A), gt(A, 2, category=2), gt(A, 3, category=3)],
            [dt(A), dt(FAR, 0.95, category=2), dt(A, category=2), dt(A, 0.5, category=4)], frequencies="rrcf"),
        "no_detections": dataset([gt(A)], []),
    }
