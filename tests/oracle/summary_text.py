"""Prints what pycocotools prints about recorded data sets: {name: text} as JSON.

    python tests/oracle/summary_text.py FOLDER
"""

import contextlib
import io
import json
import pathlib
import sys

import coco_oracle


def main():
    texts = {}
    for file in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
        evaluation = coco_oracle.run(json.loads(file.read_text())["dataset"])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            evaluation.summarize()
        texts[file.stem] = printed.getvalue()
    json.dump(texts, sys.stdout)


if __name__ == "__main__":
    main()
