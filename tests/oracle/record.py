"""Records what the references say about generated data sets, in one process.

    python tests/oracle/record.py FOLDER FIRST_SEED COUNT [--lvis | --tide] [--edge-cases] [--arrays]

writes FOLDER/random_<seed>.json for COUNT seeds, with --edge-cases also the hand-made sets, and with --arrays
beside each FOLDER/<name>.f64: precision, scores and recall (LVIS: precision and recall), little-endian, in C order.
The data sets are COCO's and the references pycocotools and practical_oracle.py; with --lvis LVIS's and lvis; with
--tide made of TIDE's mistakes, and the references are tidecv and calibration_oracle.py.
"""

import argparse
import json
import pathlib

import calibration_oracle
import coco_oracle
import datasets
import lvis_datasets
import practical_oracle
import tide_datasets


def copy(dataset):
    """The references write into what they are given."""
    return json.loads(json.dumps(dataset))


def coco_record(dataset):
    practical = practical_oracle.expectation(dataset)
    coco, arrays = coco_oracle.expectation(copy(dataset))
    return {"dataset": dataset, "coco": coco, "practical": practical}, arrays


def lvis_record(dataset):
    import lvis_oracle

    expected, arrays = lvis_oracle.expectation(copy(dataset))
    return {"dataset": dataset, "lvis": expected}, arrays


def tide_record(dataset):
    import tide_oracle

    tide, calibration = tide_oracle.expectation(copy(dataset)), calibration_oracle.expectation(dataset)
    return {"dataset": dataset, "tide": tide, "calibration": calibration}, []


def write(folder, name, record, arrays):
    rows = ("annotations", "detections", "images", "categories")
    text = json.dumps(record, separators=(",", ":"))
    for key in rows:
        text = text.replace(f'"{key}":[', f'\n"{key}":[')
    for key in list(record)[1:]:
        text = text.replace(f',"{key}":', f',\n"{key}":')
    (folder / f"{name}.json").write_text(text + "\n")
    if arrays:
        (folder / f"{name}.f64").write_bytes(b"".join(a.astype("<f8").tobytes() for a in arrays))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("first_seed", type=int)
    parser.add_argument("count", type=int)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--lvis", action="store_true")
    kinds.add_argument("--tide", action="store_true")
    parser.add_argument("--edge-cases", action="store_true")
    parser.add_argument("--arrays", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    source, reference = datasets, coco_record
    if args.lvis:
        source, reference = lvis_datasets, lvis_record
    if args.tide:
        source, reference = tide_datasets, tide_record
    seeds = range(args.first_seed, args.first_seed + args.count)
    sets = {f"random_{seed}": source.random_dataset(seed) for seed in seeds}
    if args.edge_cases:
        sets.update(source.edge_cases())
    for name, dataset in sets.items():
        record, arrays = reference(dataset)
        write(args.folder, name, record, arrays if args.arrays else [])


if __name__ == "__main__":
    main()
