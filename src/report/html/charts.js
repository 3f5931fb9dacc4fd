// Charts as SVG: curves, scores, calibration, confusions, kinds of mistakes.

/// The frame of a chart from 0 to 1 both ways, and what places a point in it.
function frame(xName, yName, title) {
  const [left, top, side] = [34, 8, 200];
  const place = (x, y) => [left + side * x, top + side * (1 - y)];
  const picture = svg("svg", { viewBox: "0 0 246 246", class: "chart", role: "img" }, svg("title", {}, title));
  for (let i = 0; i <= 4; i += 1) {
    const [x, y] = place(i / 4, i / 4);
    picture.append(svg("path", { d: `M${x} ${top}v${side}M${left} ${y}h${side}`, class: "grid" }));
    if (i % 2 === 0) {
      picture.append(svg("text", { x, y: top + side + 13, "text-anchor": "middle" }, String(i / 4)));
      picture.append(svg("text", { x: left - 5, y: y + 3, "text-anchor": "end" }, String(i / 4)));
    }
  }
  picture.append(svg("text", { x: left + side / 2, y: top + side + 28, "text-anchor": "middle", class: "axis" }, xName));
  picture.append(svg("text", { transform: `translate(9 ${top + side / 2}) rotate(-90)`, "text-anchor": "middle", class: "axis" }, yName));
  return { picture, place };
}

function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

function curveChart(curve) {
  const { picture, place } = frame("recall", "precision", `Precision and recall of ${curve.class} at IoU 0.5`);
  const line = (values) => {
    const points = values.map((precision, i) => place(i / 100, precision));
    if (points.length && points.length < 101) points.push(place((points.length - 1) / 100, 0));
    return path(points);
  };
  if (curve.baseline) picture.append(svg("path", { d: line(curve.baseline), class: "line baseline" }));
  picture.append(svg("path", { d: line(curve.candidate), class: "line candidate" }));
  const row = data.rows.find((other) => other.metric === "AP50" && other.class === curve.class && !other.slice);
  const told = row ? el("span", { class: "quiet" },
    row.baseline === null ? `AP50 ${fixed(row.candidate, 3)}` : `AP50 ${fixed(row.baseline, 3)} → ${fixed(row.candidate, 3)} `,
    row.baseline === null ? null : change(row.change, signed(row.change, 3))) : null;
  return el("figure", {}, el("figcaption", {}, el("strong", {}, curve.class), " ", told), picture);
}

function drawCurves(section) {
  const shown = data.curves.slice(0, 12);
  const rest = data.curves.slice(12);
  heading(section, data.has_both
    ? "At IoU 0.5, the classes that lost most first. Where the orange line runs below the blue one, the candidate is worse."
    : "At IoU 0.5, the classes with the lowest AP50 first.");
  section.append(sidesLegend());
  const grid = el("div", { class: "charts" }, shown.map(curveChart));
  section.append(grid);
  if (rest.length) {
    const more = el("button", { type: "button", onclick: () => { grid.append(...rest.map(curveChart)); more.remove(); } },
      `Show ${counted(rest.length, "more class", "more classes")}`);
    section.append(more);
  }
}

function sidesLegend() {
  const candidate = ["candidate", "candidate"];
  return data.has_both ? legend(["baseline", "baseline"], candidate) : legend(candidate);
}

/// How many detections have which score: all of them, and in full colour those that found an object.
function histogram(side, name, most) {
  const [left, top, width, height] = [40, 8, 340, 110];
  const picture = svg("svg", { viewBox: "0 0 392 150", class: "chart wide", role: "img" }, svg("title", {}, `Scores of the ${name}`));
  // Low scores are many: the root lets the high ones be seen.
  const tall = (count) => height * Math.sqrt(count / most);
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    picture.append(svg("text", { x: left + width * tick, y: top + height + 14, "text-anchor": "middle" }, String(tick)));
  }
  for (const part of [0.25, 1]) {
    const y = top + height - tall(most * part);
    picture.append(svg("path", { d: `M${left} ${y}h${width}`, class: "grid" }));
    picture.append(svg("text", { x: left - 4, y: y + 3, "text-anchor": "end" }, String(Math.round(most * part))));
  }
  for (const [lower, upper, count, found] of side.bins) {
    const x = left + width * lower;
    const wide = Math.max(1, width * (upper - lower) - 1.5);
    const bar = (n, kind) => svg("rect", { x, y: top + height - tall(n), width: wide, height: tall(n), class: kind });
    const group = svg("g", {}, svg("title", {}, `score ${lower.toFixed(2)} to ${upper.toFixed(2)}: ${count} detections, ${found} of them right`),
      bar(count, `bar all ${name}`), bar(found, `bar ${name}`));
    picture.append(group);
  }
  picture.append(svg("path", { d: `M${left} ${top + height}h${width}`, class: "zero" }));
  picture.append(svg("text", { x: left + width / 2, y: top + height + 28, "text-anchor": "middle", class: "axis" }, "score"));
  return el("figure", {}, el("figcaption", {}, el("strong", {}, name), ` ${counted(side.detections, "detection", "detections")}`), picture);
}

function reliability(sides) {
  const { picture, place } = frame("score", "share that is right", "How often detections of a score are right");
  picture.append(svg("path", { d: path([place(0, 0), place(1, 1)]), class: "line ideal" }));
  for (const [name, side] of sides) {
    const points = side.bins.filter((bin) => bin[2] > 0).map((bin) => place(bin[4], bin[5]));
    picture.append(svg("path", { d: path(points), class: `line ${name}` }));
    for (const [x, y] of points) picture.append(svg("circle", { cx: x, cy: y, r: 2.2, class: `point ${name}` }));
  }
  return el("figure", {}, el("figcaption", {}, el("strong", {}, "Calibration"), " on the diagonal a score is the chance of being right"), picture);
}

/// A number of both sides, or of the candidate alone.
function beside(was, is, digits = 3) {
  return data.has_both ? `${fixed(was, digits)} → ${fixed(is, digits)}` : fixed(is, digits);
}

function drawScores(section) {
  const { baseline, candidate } = data.calibration;
  heading(section, `Calibration error (ECE) ${beside(baseline?.ece, candidate.ece)}, with the quality of boxes (LaECE) ` +
    `${beside(baseline?.la_ece, candidate.la_ece)}; 0 is best. The full part of a bar are detections that found an object.`);
  const sides = [["baseline", baseline], ["candidate", candidate]].filter(([, side]) => side);
  const most = Math.max(1, ...sides.flatMap(([, side]) => side.bins.map((bin) => bin[2])));
  section.append(sidesLegend(), el("div", { class: "charts scores" }, reliability(sides),
    el("div", { class: "stack" }, sides.map(([name, side]) => histogram(side, name, most)))));
  const has = (point) => point && point[0] !== null;
  const rows = data.thresholds.filter(({ baseline: was, candidate: is }) => has(is) && (!data.has_both || has(was)));
  if (rows.length) section.append(thresholdTable(rows));
}

/// Those that moved most come first; without a baseline those of the lowest F1.
function thresholdTable(rows) {
  const first = ({ baseline: was, candidate: is }) => (was ? -Math.abs(is[0] - was[0]) : is[1]);
  rows.sort((a, b) => first(a) - first(b));
  const line = ({ class: name, baseline: was, candidate: is }) => el("tr", {}, el("th", { scope: "row" }, name),
    number(beside(was?.[0], is[0])), number(beside(was?.[1], is[1])));
  return el("details", {}, el("summary", {}, "Score of the best F1 of each class"), el("div", { class: "scroll" },
    el("table", { class: "small" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "class"),
      el("th", { scope: "col", class: "number" }, "score"), el("th", { scope: "col", class: "number" }, "F1"))), el("tbody", {}, rows.map(line)))));
}

function drawConfusion(section) {
  const { cells, is_whole: isWhole, iou_thr: iou, score_thr: score } = data.confusion;
  heading(section, `At IoU ${iou} and score ${score}. ` + (isWhole
    ? "Rows are what is there, columns what was said; the diagonal is right. " : "The largest confusions. ") +
    (data.has_both ? "The small number is the change from the baseline." : ""));
  const name = (place) => (place === null ? "background" : data.classes[place]);
  const moved = ([, , was, is]) => (was === null ? null : is - was);
  const small = (cell, good) => {
    const by = moved(cell);
    if (!by) return null;
    return el("small", { class: by > 0 === good ? "better" : "worse" }, by > 0 ? `+${by}` : `−${-by}`);
  };
  if (!isWhole) {
    const line = (cell) => el("tr", {}, el("th", { scope: "row" }, name(cell[0])), el("td", {}, name(cell[1])), number(String(cell[3])),
      el("td", { class: "number" }, small(cell, false) || "0"));
    section.append(el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["is", "taken for", "how often", "change"].map((head) =>
      el("th", { scope: "col" }, head)))), el("tbody", {}, cells.map(line)))));
    return;
  }
  const places = [...data.classes.keys(), null];
  const rowSum = (row) => cells.filter((cell) => cell[0] === row).reduce((sum, cell) => sum + cell[3], 0);
  const line = (row) => el("tr", {}, el("th", { scope: "row" }, row === null ? "nothing" : name(row)), places.map((column) => {
    if (row === null && column === null) return el("td", { class: "cell empty" });
    const cell = cells.find(([truth, said]) => truth === row && said === column) || [row, column, data.has_both ? 0 : null, 0];
    const right = row === column;
    const strength = Math.round(100 * cell[3] / Math.max(1, rowSum(row)));
    const td = el("td", { class: `cell ${right ? "right" : "wrong"}` }, el("b", {}, String(cell[3])), " ", small(cell, right));
    td.style.setProperty("--strength", `${strength}%`);
    return td;
  }));
  section.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    el("table", { class: "matrix" }, el("thead", {}, el("tr", {}, el("th", {}, "is \\ said"), places.map((place) =>
      el("th", { scope: "col" }, place === null ? "missed" : name(place))))), el("tbody", {}, places.map(line)))));
}

function drawErrors(section) {
  heading(section, "By how much AP50 would rise if one kind of mistake were mended (TIDE): the longer the bar, the more it costs.");
  section.append(sidesLegend());
  const most = Math.max(0.001, ...data.tide.flatMap((row) => [row.baseline || 0, row.candidate || 0]));
  const bar = (value, kind) => svg("svg", { class: "tide", viewBox: "0 0 200 9", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { x: 0, y: 1, width: 200 * (value || 0) / most, height: 7, class: `bar ${kind}` }));
  const moved = (row) => {
    const by = row.baseline === null || row.candidate === null ? null : row.candidate - row.baseline;
    const isNone = !by || signed(by, 3) === "0.000";
    // More of a mistake is worse.
    return el("td", { class: "number" }, el("span", { class: isNone ? null : by > 0 ? "worse" : "better" },
      signed(by, 3), isNone ? "" : by > 0 ? " ▲" : " ▼"));
  };
  const line = (row) => el("tr", { class: row.special ? "special" : null }, el("th", { scope: "row" }, row.kind),
    el("td", { class: "bars" }, data.has_both ? bar(row.baseline, "baseline") : null, bar(row.candidate, "candidate")),
    number(beside(row.baseline, row.candidate)), data.has_both ? moved(row) : null, number(beside(...row.counts, 0)));
  const heads = ["mistake", "", "costs AP50", ...(data.has_both ? ["change"] : []), "how many"];
  section.append(el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, heads.map((head, i) =>
    el("th", { scope: "col", class: i > 1 ? "number" : null }, head)))), el("tbody", {}, data.tide.map(line)))));
}
