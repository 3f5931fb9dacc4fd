"""One COCO engine, from two JSON files to its 12 lines: `summarize.py ENGINE instances.json results.json`.

Each engine as its own README shows it, on as many threads as it can use; only what is needed is imported. After the
engine's own lines comes one of ours with every digit: `exact: v1 ... v12`, -1 for undefined.
"""

import sys


def pycocotools(gt, dt):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(gt)
    return three_steps(COCOeval(truth, truth.loadRes(dt), "bbox"))


def faster_coco_eval(gt, dt):
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(gt)
    # It logs its 12 lines, which nobody sees who has not set up logging.
    return three_steps(COCOeval_faster(truth, truth.loadRes(dt), "bbox", print_function=print))


def ultrafast_pycocotools(gt, dt):
    from ultrafast_pycocotools import COCO, COCOeval

    truth = COCO(gt)
    return three_steps(COCOeval(truth, truth.loadRes(dt), "bbox"))


def hotcoco(gt, dt):
    from hotcoco import COCO, COCOeval

    truth = COCO(gt)
    return three_steps(COCOeval(truth, truth.load_res(dt), "bbox"))


def vernier(gt, dt):
    import os
    from pathlib import Path

    from vernier.instance import Bbox, CocoDataset, Evaluator

    truth = CocoDataset.from_json(Path(gt).read_bytes())
    evaluator = Evaluator(iou=Bbox(), parity_mode="strict")
    summary = evaluator.evaluate(truth, Path(dt).read_bytes(), num_threads=os.cpu_count())
    print("\n".join(summary.pretty_lines()))
    return summary.stats


def three_steps(evaluation):
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
