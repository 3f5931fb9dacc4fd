// The gallery: pictures with the boxes of both sides, and a closer look at one of them.

const LAYERS = [["truth", "ground truth", "g"], ["baseline", "baseline", "b"], ["candidate", "candidate", "c"]];

const view = {
  score: data.score_thr,
  layers: { truth: true, baseline: data.has_baseline, candidate: true },
  labels: true,
  kind: "worse",
  class: "",
};

function className(place) {
  return data.classes[place] ?? "?";
}

function boxLabel(picture, box, text, kind, side, scale) {
  const size = 12 * scale;
  // On a part of a picture the names of what lies mostly outside would pile up at its edge.
  const inside = box[0] >= picture.left && box[0] < picture.right && box[1] >= picture.top && box[1] < picture.bottom;
  if (picture.isPart && !inside) return null;
  const below = side === "baseline";
  const y = below ? Math.min(picture.bottom - 2 * scale, box[1] + box[3] + size) : Math.max(picture.top + size, box[1] - 3 * scale);
  const x = Math.max(picture.left, Math.min(box[0], picture.right - text.length * size * 0.56));
  return svg("text", { x, y, class: `label ${kind}`, "font-size": size, "stroke-width": size / 3.2 }, text);
}

function rectangle(box, kind) {
  const shape = { x: box[0], y: box[1], width: box[2], height: box[3] };
  return [svg("rect", { ...shape, class: "casing" }), svg("rect", { ...shape, class: `box ${kind}` })];
}

/// Whether this box is what differs between the sides; at another score than that of the comparison, and without
/// a baseline, every mistake is.
function differs(image, box) {
  if (!image.flips.length || view.score !== data.score_thr) return true;
  return image.flips.some((flip) => flip.bbox.every((side, k) => side === box[k]));
}

/// The boxes of the layers that are on. Labels say what is wrong and differs between the sides; all say it where `all`
/// is set.
function overlay(image, layers, all, [left, top, wide, tall], isPart) {
  // Letters are as tall on the screen whatever the picture's size is.
  const scale = Math.max(wide, tall) / (all && !isPart ? Math.min(900, document.documentElement.clientWidth) : 340);
  const size = { isPart, left, top, right: left + wide, bottom: top + tall };
  const shapes = [];
  const labels = [];
  const side = layers.candidate ? "candidate" : "baseline";
  const detections = image[side];
  const judged = detections ? matched(image.truth, detections, view.score) : null;
  if (layers.truth) {
    image.truth.forEach((gt, g) => {
      const missed = judged && (layers.candidate || layers.baseline) && judged.gts[g] === "missed";
      shapes.push(...rectangle(gt, missed ? "truth missed" : "truth"));
      const what = gt[5] & CROWD ? `crowd of ${className(gt[4])}` : className(gt[4]);
      if (missed && (all || differs(image, gt))) labels.push(boxLabel(size, gt, `missed ${what}`, "missed", "truth", scale));
      else if (all && view.labels && !layers.candidate && !layers.baseline) labels.push(boxLabel(size, gt, what, "truth", "truth", scale));
    });
  }
  for (const name of ["baseline", "candidate"]) {
    if (!layers[name] || !image[name]) continue;
    const { dts } = matched(image.truth, image[name], view.score);
    image[name].forEach((dt, d) => {
      if (dts[d] === null) return;
      const wrong = dts[d] === "fp";
      shapes.push(...rectangle(dt, `${name}${wrong ? " wrong" : ""}`));
      const both = layers.baseline && layers.candidate;
      const told = all ? wrong || name === "candidate" || !both : wrong ? (name === "candidate" || !both) && differs(image, dt) : false;
      if (view.labels && told) {
        labels.push(boxLabel(size, dt, `${wrong ? "✕ " : ""}${className(dt[4])} ${dt[5].toFixed(2)}`, name, name, scale));
      }
    });
  }
  return svg("svg", { viewBox: `${left} ${top} ${wide} ${tall}`, class: "overlay", "aria-hidden": "true" }, shapes, labels);
}

/// As large as the picture or, without one, as what is on it.
function extent(image) {
  const far = (k) => Math.max(1, ...[image.truth, image.baseline || [], image.candidate].flat().map((box) => box[k] + box[k + 2]));
  return [image.width || far(0), image.height || far(1)];
}

/// The picture, or the part of it that `region` tells, and the boxes on it.
function canvas(image, layers, all, region) {
  const [wide, tall] = extent(image);
  const part = region || [0, 0, wide, tall];
  const frame = el("div", { class: image.picture ? "canvas" : "canvas plain" });
  frame.style.aspectRatio = `${part[2]} / ${part[3]}`;
  const boxes = overlay(image, layers, all, part, Boolean(region));
  if (image.picture && region) boxes.prepend(svg("image", { href: image.picture, x: 0, y: 0, width: wide, height: tall, preserveAspectRatio: "none" }));
  else if (image.picture) frame.append(el("img", { src: image.picture, alt: "", decoding: "async", draggable: "false" }));
  frame.append(boxes);
  return frame;
}

/// A box with what is around it: at least half of the picture's shorter side.
function around(image, box) {
  const [wide, tall] = extent(image);
  const side = Math.min(wide, tall, Math.max(0.5 * Math.min(wide, tall), 1.7 * Math.max(box[2], box[3])));
  const from = (start, length, whole) => Math.max(0, Math.min(whole - side, start + length / 2 - side / 2));
  return [from(box[0], box[2], wide), from(box[1], box[3], tall), side, side];
}

function counts(image) {
  const side = (name) => {
    if (!image[name]) return null;
    const { tp, fp, fn } = matched(image.truth, image[name], view.score);
    return el("tr", { "data-side": name, "data-tp": tp, "data-fp": fp, "data-fn": fn }, el("th", { scope: "row" }, name), number(String(tp)), number(String(fp)), number(String(fn)));
  };
  return el("table", { class: "counts" }, el("thead", {}, el("tr", {}, [["", ""], ["TP", "found"], ["FP", "wrong"], ["FN", "missed"]].map(([short, long]) =>
    el("th", { scope: "col", class: "number", title: long }, short)))), el("tbody", {}, side("baseline"), side("candidate")));
}

function flipList(image, most) {
  const items = image.flips.slice(0, most).map((flip) => el("li", { class: flip.worse ? "worse" : "better" }, flip.worse ? "▼ " : "▲ ", el("span", {}, flip.text)));
  const rest = image.flips.length - items.length;
  if (rest > 0) items.push(el("li", { class: "quiet" }, `and ${rest} more`));
  return el("ul", { class: "flips" }, items);
}

function card(image, index) {
  return el("figure", { class: "card" },
    el("button", { type: "button", class: "open", "data-index": index, "aria-label": `Look closer at ${image.name}`, onclick: () => look(index) }, canvas(image, view.layers, false)),
    el("figcaption", {}, el("strong", { class: "file" }, image.name), image.change ? el("span", { class: "quiet" }, ` ${image.change}`) : null,
      image.missing ? el("p", { class: "quiet" }, `No picture: ${image.missing}.`) : null),
    counts(image), flipList(image, 4));
}

function chosen() {
  const place = data.classes.indexOf(view.class);
  const has = (image) => !view.class || image.flips.some((flip) => flip.class === place) ||
    (!image.flips.length && image.truth.some((gt) => gt[4] === place));
  return [...data.images.entries()].filter(([, image]) => image.kind === view.kind && has(image));
}

const redraws = [];

function redraw() {
  for (const draw of redraws) draw();
}

function layerSwitches() {
  return LAYERS.filter(([name]) => name !== "baseline" || data.has_baseline).map(([name, title, key]) => {
    const input = el("input", { type: "checkbox", "data-layer": name, onchange: (event) => { view.layers[name] = event.target.checked; redraw(); } });
    redraws.push(() => { input.checked = view.layers[name]; });
    return el("label", { class: "switch", title: `key ${key}` }, input, svg("svg", { viewBox: "0 0 24 10", class: "swatch" }, svg("line", { x1: 1, x2: 23, y1: 5, y2: 5, class: `line ${name}` })), title);
  });
}

function scoreSlider() {
  const slider = el("input", { type: "range", min: "0.05", max: "1", step: "0.01", "data-slider": "score", oninput: (event) => { view.score = Number(event.target.value); redraw(); } });
  const output = el("output", { class: "number" });
  redraws.push(() => { slider.value = view.score; output.textContent = view.score.toFixed(2); });
  return el("label", { class: "slider" }, "score at least ", slider, output);
}

function drawPictures(section) {
  const kinds = [["worse", "got worse"], ["better", "improved"], ["alone", "most mistakes"]].filter(([kind]) => data.images.some((image) => image.kind === kind));
  view.kind = kinds[0][0];
  heading(section, "Boxes are matched again at IoU 0.5 by COCO's rule for the score that you choose. Click on a picture to look closer.");
  const grid = el("div", { class: "gallery" });
  const told = el("p", { class: "quiet", "aria-live": "polite" });
  const tabs = kinds.map(([kind, title]) => {
    const count = data.images.filter((image) => image.kind === kind).length;
    const button = el("button", { type: "button", "data-kind": kind, onclick: () => { view.kind = kind; redraw(); } }, `${title} (${count})`);
    redraws.push(() => button.setAttribute("aria-pressed", String(view.kind === kind)));
    return button;
  });
  const classes = el("select", { "data-filter": "class", onchange: (event) => { view.class = event.target.value; redraw(); } },
    el("option", { value: "" }, "all classes"), data.classes.map((name) => el("option", { value: name }, name)));
  redraws.push(() => {
    const shown = chosen();
    grid.replaceChildren(...shown.map(([index, image]) => card(image, index)));
    const floor = Math.max(0, ...shown.map(([, image]) => image.floor));
    told.textContent = counted(shown.length, "image", "images") +
      (view.score < floor ? `; boxes that score less than ${floor.toFixed(2)} are not all on this page` : "");
  });
  section.append(el("div", { class: "tools sticky" }, el("div", { class: "tabs", role: "group", "aria-label": "Which images" }, tabs), layerSwitches(), scoreSlider(), el("label", {}, "Class ", classes)), told, grid);
}

/// One picture as large as the window, to zoom and move.
const near = { index: 0, zoom: 1, x: 0, y: 0 };
const viewer = document.getElementById("viewer");

function look(index) {
  Object.assign(near, { index, zoom: 1, x: 0, y: 0 });
  if (!viewer.firstChild) buildViewer();
  redraw();
  if (!viewer.open) viewer.showModal();
}

function step(by) {
  const shown = chosen().map(([index]) => index);
  if (!shown.length) return;
  const place = Math.max(0, shown.indexOf(near.index));
  look(shown[(place + by + shown.length) % shown.length]);
}

function zoom(by) {
  near.zoom = Math.max(1, Math.min(12, near.zoom * by));
  if (near.zoom === 1) Object.assign(near, { x: 0, y: 0 });
  place();
}

function place() {
  const canvas = viewer.querySelector(".canvas");
  if (canvas) canvas.style.transform = `translate(${near.x}px, ${near.y}px) scale(${near.zoom})`;
  viewer.dataset.zoom = near.zoom.toFixed(2);
}

function toggle(name) {
  if (name === "baseline" && !data.has_baseline) return;
  view.layers[name] = !view.layers[name];
  redraw();
}

function buildViewer() {
  const button = (text, title, action) => el("button", { type: "button", title, "aria-label": title, onclick: action }, text);
  const title = el("strong", { class: "file" });
  const stage = el("div", { class: "stage" });
  const side = el("div", { class: "aside" });
  const labels = el("input", { type: "checkbox", checked: true, onchange: (event) => { view.labels = event.target.checked; redraw(); } });
  viewer.append(
    el("div", { class: "bar" }, title, el("span", { class: "grow" }), button("←", "previous picture", () => step(-1)), button("→", "next picture", () => step(1)),
      button("−", "smaller", () => zoom(1 / 1.5)), button("+", "larger", () => zoom(1.5)), button("1:1", "whole picture", () => zoom(0)), button("✕", "close", () => viewer.close())),
    el("div", { class: "tools" }, layerSwitches(), el("label", { class: "switch" }, labels, "labels"), scoreSlider()), stage, side);
  redraws.push(() => {
    const image = data.images[near.index];
    title.textContent = image.name;
    stage.replaceChildren(canvas(image, view.layers, true));
    const [wide, tall] = extent(image);
    stage.firstChild.style.maxWidth = `calc(62vh * ${(wide / tall).toFixed(4)})`;
    side.replaceChildren(counts(image), flipList(image, 30));
    place();
  });
  stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
  stage.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    Object.assign(near, { x: near.x + event.movementX, y: near.y + event.movementY });
    place();
  });
  const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: () => zoom(0),
    g: () => toggle("truth"), b: () => toggle("baseline"), c: () => toggle("candidate") };
  viewer.addEventListener("keydown", (event) => {
    // The slider keeps its arrows.
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  });
}
