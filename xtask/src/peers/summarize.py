"""One COCO engine, from two JSON files to its 12 lines: `summarize.py ENGINE instances.json results.json`.

Each engine the way its own README shows, with the settings it names as fastest; only what is needed is imported. After
the engine's own lines comes one line of ours with every digit: `exact: v1 ... v12`, -1 for undefined.
"""

import sys


def pycocotools(gt, dt):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return compatible(COCO, COCOeval, gt, dt)


def faster_coco_eval(gt, dt):
    from faster_coco_eval import COCO, COCOeval_faster

    return compatible(COCO, COCOeval_faster, gt, dt)


def ultrafast_pycocotools(gt, dt):
    from ultrafast_pycocotools import COCO, COCOeval

    return compatible(COCO, COCOeval, gt, dt)


def hotcoco(gt, dt):
    from hotcoco import COCO, COCOeval

    truth = COCO(gt)
    evaluation = COCOeval(truth, truth.load_res(dt), "bbox")
    evaluation.run()
    return evaluation.stats


def vernier(gt, dt):
    import os
    from pathlib import Path

    from vernier.instance import Bbox, CocoDataset, Evaluator

    evaluator = Evaluator(iou=Bbox(), parity_mode="strict")
    truth = CocoDataset.from_json(Path(gt).read_bytes())
    summary = evaluator.evaluate(truth, Path(dt).read_bytes(), num_threads=os.cpu_count())
    print("\n".join(summary.pretty_lines()))
    return summary.stats


def compatible(COCO, COCOeval, gt, dt):
    truth = COCO(gt)
    evaluation = COCOeval(truth, truth.loadRes(dt), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def main():
    engine, gt, dt = sys.argv[1:]
    stats = globals()[engine.replace("-", "_")](gt, dt)
    print("exact:", *(repr(float(value)) for value in stats), flush=True)


if __name__ == "__main__":
    main()
