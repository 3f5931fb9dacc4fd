"""Records what the references say about generated data sets, in one process.

    python tests/oracle/record.py FOLDER FIRST_SEED COUNT [--edge-cases] [--arrays]

writes FOLDER/random_<seed>.json for COUNT seeds, with --edge-cases also the hand-made sets, and with --arrays
beside each FOLDER/<name>.f64: precision, scores and recall, little-endian, in C order.
"""

import argparse
import json
import pathlib

import coco_oracle
import datasets
import practical_oracle


def write(folder, name, dataset, arrays_too):
    practical = practical_oracle.expectation(dataset)
    coco, arrays = coco_oracle.expectation(json.loads(json.dumps(dataset)))
    record = {"dataset": dataset, "coco": coco, "practical": practical}
    rows = ("annotations", "detections", "images", "categories")
    text = json.dumps(record, separators=(",", ":"))
    for key in rows:
        text = text.replace(f'"{key}":[', f'\n"{key}":[')
    (folder / f"{name}.json").write_text(text.replace('},"coco"', '},\n"coco"').replace(',"practical":', ',\n"practical":') + "\n")
    if arrays_too:
        (folder / f"{name}.f64").write_bytes(b"".join(a.astype("<f8").tobytes() for a in arrays))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("first_seed", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--edge-cases", action="store_true")
    parser.add_argument("--arrays", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    sets = {f"random_{s}": datasets.random_dataset(s) for s in range(args.first_seed, args.first_seed + args.count)}
    if args.edge_cases:
        sets.update(datasets.edge_cases())
    for name, dataset in sets.items():
        write(args.folder, name, dataset, args.arrays)


if __name__ == "__main__":
    main()
