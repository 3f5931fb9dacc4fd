"""The peers of `cargo xtask bench-inference`, and what they and detgate run on.

`make FOLDER PICTURES COUNT`   a project with seeded weights and COUNT photographs of 640x480
`onnx FOLDER`                  the same weights as an ONNX graph for that size
`run ENGINE FOLDER COUNT THREADS OUT`   one engine on the first COUNT photographs; COCO results to OUT
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

WIDTH, HEIGHT = 640, 480
CLASSES = ["person", "car", "airplane"]
CATEGORY_IDS = [1, 3, 5]


def project(folder):
    return {
        "images": Path(folder) / "data/val",
        "truth": Path(folder) / "data/processed/coco_person_car_airplane_val.json",
        "checkpoint": Path(folder) / "models/local_checkpoints/best_seeded.pt",
        "graph": Path(folder) / "seeded.onnx",
    }


def pictures(folder, count):
    import numpy as np
    from PIL import Image

    files = sorted(project(folder)["images"].iterdir())[:count]
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"))
        yield int(file.stem), np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / 255.0


def load(folder):
    import torch
    import torchvision

    build = torchvision.models.detection.fasterrcnn_resnet50_fpn
    model = build(weights=None, weights_backbone=None, num_classes=len(CLASSES) + 1).eval()
    path = project(folder)["checkpoint"]
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True)["model_state_dict"])
    return model


def condition(model, image):
    """Random weights whose activations stay sane: normalised by what a picture gives, every residual branch halved."""
    import torch

    norms = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    for module in model.backbone.body.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    for name, norm in norms.items():
        norm.momentum = None
        norm.reset_running_stats()
        if name.endswith("bn3"):
            torch.nn.init.constant_(norm.weight, 0.5)
        norm.train()
    spread = {"cls_score.weight": 0.03, "bbox_pred.weight": 0.01, "rpn.head.cls_logits.weight": 0.02}
    with torch.no_grad():
        model([image])
        for name, parameter in model.named_parameters():
            for ending, std in spread.items():
                if name.endswith(ending):
                    torch.nn.init.normal_(parameter, std=std)
    return model.eval()


def make(folder, sources, count):
    import torch
    from PIL import Image

    paths = project(folder)
    for key in ("images", "truth", "checkpoint"):
        (paths[key] if key == "images" else paths[key].parent).mkdir(parents=True, exist_ok=True)
    files = sorted(Path(sources).iterdir())
    images, annotations = [], []
    for i in range(count):
        picture = Image.open(files[i % len(files)]).convert("RGB").resize((WIDTH, HEIGHT))
        picture.save(paths["images"] / f"{i + 1:06}.jpg", quality=90)
        images.append({"id": i + 1, "file_name": f"{i + 1:06}.jpg", "width": WIDTH, "height": HEIGHT})
        annotations.append({"id": i + 1, "image_id": i + 1, "category_id": CATEGORY_IDS[i % 3], "iscrowd": 0,
                            "bbox": [100, 100, 200, 200], "area": 40000})
    categories = [{"id": id, "name": name} for id, name in zip(CATEGORY_IDS, CLASSES)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    paths["truth"].write_text(json.dumps(truth))
    named = {"train_dir": "data/val", "val_dir": "data/val", "target_classes": CLASSES}
    (paths["truth"].parent / "project_config.json").write_text(json.dumps(named))
    to_label = {id: label for label, id in enumerate(CATEGORY_IDS, 1)}
    names = dict(enumerate(CLASSES, 1))
    labels = {"target_category_ids": CATEGORY_IDS, "coco_to_internal": to_label, "internal_to_name": names}
    (paths["truth"].parent / "labelmap.json").write_text(json.dumps(labels))
    # No rule can be broken: time is the question.
    (Path(folder) / "detgate.toml").write_text("[gate]\nreplicates = 0\n[gate.metrics]\nAP50 = { min = 0.0 }\n")
    torch.manual_seed(7)
    _, pixels = next(pictures(folder, 1))
    model = condition(load(folder), torch.from_numpy(pixels))
    torch.save({
        "model_state_dict": model.state_dict(),
        "target_classes": CLASSES,
        "coco_to_internal": to_label,
        "internal_to_name": names,
    }, paths["checkpoint"])


def export(folder):
    import torch

    _, pixels = next(pictures(folder, 1))
    graph = project(folder)["graph"]
    torch.onnx.export(load(folder), ([torch.from_numpy(pixels)],), graph, opset_version=17, dynamo=False,
                      input_names=["image"], output_names=["boxes", "labels", "scores"])


def torchvision_engine(folder, threads, channels_last):
    import torch

    torch.set_num_threads(threads)
    model = load(folder)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)

    def detect(pixels):
        with torch.inference_mode():
            found = model([torch.from_numpy(pixels)])[0]
        return [found[name].numpy() for name in ("boxes", "labels", "scores")]

    return lambda images: [(id, detect(pixels)) for id, pixels in images]


def onnxruntime_engine(folder, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    graph = str(project(folder)["graph"])
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    outputs = ["boxes", "labels", "scores"]
    return lambda images: [(id, session.run(outputs, {"image": pixels})) for id, pixels in images]


def openvino_engine(folder, threads, streams):
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(str(project(folder)["graph"]), "CPU", hints)

    # A request for each stream, each on a thread of its own: `AsyncInferQueue` hangs on this model.
    requests = Queue()
    for _ in range(streams):
        requests.put(model.create_infer_request())

    def detect(image):
        id, pixels = image
        request = requests.get()
        found = request.infer([pixels])
        copied = [found[k].copy() for k in range(3)]
        requests.put(request)
        return id, copied

    def run(images):
        with ThreadPoolExecutor(streams) as pool:
            return list(pool.map(detect, images))

    return run


ENGINES = {
    "eager": lambda folder, threads: torchvision_engine(folder, threads, False),
    "channels-last": lambda folder, threads: torchvision_engine(folder, threads, True),
    "onnxruntime": onnxruntime_engine,
    "openvino": lambda folder, threads: openvino_engine(folder, threads, 1),
    "openvino-streams": lambda folder, threads: openvino_engine(folder, threads, threads),
}


def run(engine, folder, count, threads, out):
    results = []
    for id, (boxes, labels, scores) in ENGINES[engine](folder, threads)(pictures(folder, count)):
        for (x1, y1, x2, y2), label, score in zip(boxes.tolist(), labels.tolist(), scores.tolist()):
            results.append({"image_id": id, "category_id": CATEGORY_IDS[label - 1], "score": score,
                            "bbox": [x1, y1, x2 - x1, y2 - y1]})
    Path(out).write_text(json.dumps(results))


def peak(threads):
    """GFLOP/s of a product of two 2048x2048 matrices."""
    import time
    import torch

    torch.set_num_threads(threads)
    a = torch.rand(2048, 2048)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    print(2 * 2048**3 / best / 1e9)


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "make":
        make(rest[0], rest[1], int(rest[2]))
    elif command == "onnx":
        export(rest[0])
    elif command == "run":
        run(rest[0], rest[1], int(rest[2]), int(rest[3]), rest[4])
    elif command == "peak":
        peak(int(rest[0]))
