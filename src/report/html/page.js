// The page from top to bottom.

const SIGNS = { passed: "✓", regressed: "✕", inconclusive: "?", cannot: "!" };
const TITLES = { passed: "Passed", regressed: "Regressed", inconclusive: "Inconclusive", cannot: "Cannot be compared" };

const ENDS = { passed: "", regressed: " do not hold", inconclusive: " cannot be told on these images", cannot: "" };

function drawVerdict(place) {
  const { kind, sum, reasons, asides } = data.verdict;
  document.body.dataset.verdict = kind;
  const { checkpoint, images, ground_truth: boxes, skipped } = data.subject;
  place.append(
    el("p", { class: "brand" }, "detgate · ", el("span", { class: "file" }, checkpoint), ` on ${counted(images, "image", "images")} with ${counted(boxes, "box", "boxes")}`),
    el("h1", {}, el("span", { class: `badge ${kind}`, "aria-hidden": "true" }, SIGNS[kind]), TITLES[kind]),
    el("p", { class: "sum" }, `${sum}${ENDS[kind]}.`));
  const shown = reasons.slice(0, 6).map((reason) => el("li", {}, reason));
  place.append(el("ul", { class: "reasons" }, shown));
  if (reasons.length > 6) {
    place.append(el("details", {}, el("summary", {}, `and ${reasons.length - 6} more`), el("ul", { class: "reasons" }, reasons.slice(6).map((reason) => el("li", {}, reason)))));
  }
  const hardest = hardestHit();
  if (hardest) place.append(el("p", { class: "hardest" }, hardest));
  if (skipped.length) {
    place.append(el("details", {}, el("summary", {}, `${counted(skipped.length, "image", "images")} could not be read and is in no number`),
      el("ul", {}, skipped.map(([name, reason]) => el("li", {}, `${name}: ${reason}`)))));
  }
  for (const aside of asides) place.append(el("p", { class: "aside-note" }, aside));
}

/// The class whose AP50 fell most.
function lowestClass() {
  const rows = data.rows.filter((row) => row.metric === "AP50" && row.class && !row.slice && row.change !== null);
  rows.sort((a, b) => a.change - b.change);
  return rows[0] && rows[0].change < 0 ? rows[0] : null;
}

function hardestHit() {
  const row = lowestClass();
  if (!row || data.verdict.kind === "passed") return null;
  const sure = row.interval ? (isSure(row)
    ? `; with ${Math.round(data.confidence * 100)} % confidence the change is in ${interval(row)}, so it is more than chance`
    : `; with ${Math.round(data.confidence * 100)} % confidence the change is in ${interval(row)}, so it may be chance`) : "";
  return [el("span", {}, "The class that lost most is "), el("strong", {}, row.class),
    `: its AP50 went from ${fixed(row.baseline, 3)} to ${fixed(row.candidate, 3)} (`, change(row.change, signed(row.change, 3)), `)${sure}.`];
}

/// The loss that shows best: an object of the class that lost most, which the baseline found with the highest score.
function tellingLoss() {
  const row = lowestClass();
  const place = row ? data.classes.indexOf(row.class) : -1;
  const losses = data.images.filter((image) => image.kind === "worse" && image.baseline)
    .flatMap((image) => image.flips.filter((flip) => flip.worse).map((flip) => ({ image, flip })));
  // On a picture with few other mistakes it is seen at once.
  const weight = ({ image, flip }) => 4 * (flip.class === place) + 2 * flip.of_object + flip.score -
    0.15 * image.candidate.filter((dt) => dt[5] >= view.score).length;
  return losses.reduce((best, other) => (best && weight(best) >= weight(other) ? best : other), null);
}

function drawLead(place) {
  const loss = data.verdict.kind === "passed" ? null : tellingLoss();
  if (!loss) { place.remove(); return; }
  const { image, flip } = loss;
  const region = around(image, flip.bbox);
  const pane = (side, title) => {
    const layers = { truth: true, baseline: side === "baseline", candidate: side === "candidate" };
    const { tp, fp, fn } = matched(image.truth, image[side], view.score);
    return el("figure", {}, el("figcaption", {}, el("strong", {}, title), el("br"), el("span", { class: "quiet" }, `${tp} found, ${fp} wrong, ${fn} missed`)), canvas(image, layers, true, region));
  };
  const index = data.images.indexOf(image);
  place.append(el("p", { class: "told" }, "What it looks like, on a part of ", el("strong", { class: "file" }, image.name), ": ", el("strong", { class: "worse" }, flip.text)),
    el("div", { class: "panes" }, pane("baseline", "Baseline"), pane("candidate", "Candidate")),
    legend(["truth", "ground truth"], ["missed", "missed"], ["baseline", "baseline"], ["candidate", "candidate"]),
    el("p", { class: "quiet" }, image.missing ? `No picture: ${image.missing}.` : ""),
    el("p", {}, el("button", { type: "button", onclick: () => look(index) }, "Look closer"), "  ", el("a", { href: "#pictures" }, "All pictures")));
}

function drawNext(section) {
  heading(section);
  const steps = data.next.map(({ text, command }) => {
    if (!command) return el("li", {}, text);
    const copy = el("button", { type: "button", onclick: () => navigator.clipboard?.writeText(command).then(() => { copy.textContent = "copied"; }, () => {}) }, "copy");
    return el("li", {}, text, el("div", { class: "command" }, el("code", {}, command), copy));
  });
  section.append(el("ul", { class: "steps" }, steps));
}

function drawProvenance(section) {
  heading(section);
  section.append(el("div", { class: "scroll" }, el("table", { class: "facts" }, el("tbody", {}, data.provenance.map(([name, fact]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, fact)))))));
}

/// A section is there only if there is something in it.
function drawAll() {
  const classes = data.rows.filter((row) => row.class && !row.slice);
  const slices = data.rows.filter((row) => row.slice);
  const left = data.rows_left_out ? "There are too many classes and slices for a page: only what is judged and not fine is listed; the JSON report has all." : "";
  const sections = {
    metrics: (section) => { heading(section, data.has_intervals || data.has_baseline ? data.method : ""); section.append(judgedTable()); },
    next: drawNext,
    curves: data.curves.length && drawCurves,
    scores: data.calibration && drawScores,
    confusion: data.confusion && drawConfusion,
    errors: data.tide.length && drawErrors,
    classes: classes.length && ((section) => { heading(section, left); explorer(section, classes, [["class", (row) => row.class]], "Class"); }),
    slices: slices.length && ((section) => {
      heading(section, left || "The same metrics on parts of the images.");
      explorer(section, slices, [["slice", (row) => row.slice], ["class", (row) => row.class || ""]], "Slice or class");
    }),
    pictures: data.images.length && drawPictures,
    provenance: drawProvenance,
  };
  drawVerdict(document.getElementById("verdict"));
  const contents = document.getElementById("contents");
  for (const [name, draw] of Object.entries(sections)) {
    const section = document.getElementById(name);
    if (!draw) { section.remove(); continue; }
    draw(section);
    contents.append(el("a", { href: `#${name}` }, section.dataset.title));
  }
  drawLead(document.getElementById("lead"));
  redraw();
}

drawAll();
