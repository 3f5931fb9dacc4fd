// Tables: what was judged, and all classes and slices, sorted and filtered by the reader.

const STATES = {
  broken: ["✕", "does not hold"],
  undecided: ["?", "cannot be told"],
  warned: ["!", "only warns"],
  fine: ["✓", "holds"],
};

function stateMark(state, text) {
  if (!state) return el("span", { class: "quiet" }, text || "not judged");
  const [sign, title] = STATES[state];
  return el("span", { class: `state ${state}`, title },
    el("span", { "aria-hidden": "true", class: "sign" }, sign), text || title);
}

/// The change as a dot, its interval as a line, what is allowed as a mark, all on one scale.
function whisker(row, scale) {
  const x = (value) => 60 + 56 * Math.max(-1, Math.min(1, value / scale));
  const picture = svg("svg", { viewBox: "0 0 120 18", class: "whisker", role: "img" });
  const limit = row.judged && row.judged.max_drop;
  const said = limit === null || limit === undefined ? "" : `; a drop of ${limit} is allowed`;
  picture.append(svg("title", {}, `${signed(row.change)} ${interval(row)}${said}`));
  picture.append(svg("line", { x1: 60, x2: 60, y1: 1, y2: 17, class: "zero" }));
  if (said && limit <= scale) {
    picture.append(svg("line", { x1: x(-limit), x2: x(-limit), y1: 3, y2: 15, class: "limit" }));
  }
  if (row.change === null) return picture;
  if (row.interval) {
    const [low, high] = row.interval.map(x);
    picture.append(svg("line", { x1: low, x2: high, y1: 9, y2: 9, class: "span" }));
    picture.append(svg("path", { d: `M${low} 5v8M${high} 5v8`, class: "span" }));
  }
  picture.append(svg("circle", { cx: x(row.change), cy: 9, r: 3.5, class: "dot" }));
  return picture;
}

function scaleOf(rows) {
  const ends = rows.flatMap((row) => [row.change || 0, ...(row.interval || [])]).map(Math.abs);
  return Math.max(0.01, ...ends);
}

/// How sure a change is, in words.
function sureness(row) {
  const p = row.judged && row.judged.p;
  if (row.state === "broken" && p !== null && p !== undefined) return p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`;
  if (!row.interval) return "";
  if (row.interval[0] === 0 && row.interval[1] === 0) return "no change";
  return isSure(row) ? "beyond chance" : "may be chance";
}

function judgedTable() {
  const order = ["broken", "undecided", "warned", "fine"];
  const rows = data.rows.filter((row) => row.judged)
    .sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || (a.change ?? -9) - (b.change ?? -9));
  const others = data.rows.filter((row) => !row.judged && !row.class && !row.slice);
  const scale = scaleOf([...rows, ...others]);
  // Without a baseline there is no column for what is not known.
  const heads = data.has_baseline ? ["metric", "baseline", "candidate", "change"] : ["metric", "candidate"];
  if (data.has_intervals) heads.push(`${Math.round(data.confidence * 100)} % interval`, "");
  const line = (row) => {
    const judged = row.judged || {
      baseline: fixed(row.baseline), candidate: fixed(row.candidate), interval: interval(row), allowed: "", finding: "",
    };
    const cells = [el("th", { scope: "row" }, row.name), data.has_baseline ? number(judged.baseline) : null,
      number(judged.candidate), data.has_baseline ? el("td", { class: "number" }, change(row.change, judged.change)) : null];
    if (data.has_intervals) {
      cells.push(number(judged.interval.replaceAll("-", "−")), el("td", {}, whisker(row, scale)));
    }
    cells.push(number(judged.allowed.replaceAll("-", "−")), data.has_baseline ? number(sureness(row)) : null,
      el("td", {}, stateMark(row.state, judged.finding)));
    return el("tr", { class: row.state || "unjudged" }, cells);
  };
  heads.push("allowed", ...(data.has_baseline ? ["how sure"] : []), "verdict");
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Metrics" },
    el("table", {}, el("thead", {}, el("tr", {}, heads.map((head, i) =>
      el("th", { scope: "col", class: i > 0 && i < heads.length - 1 && head ? "number" : null }, head)))),
    el("tbody", {}, rows.map(line)),
    others.length ? el("tbody", { class: "others" }, others.map(line)) : null));
}

function number(text) {
  return el("td", { class: "number" }, text);
}

/// A table of one metric at a time, for every class or slice.
function explorer(section, rows, columns, filterName) {
  const metrics = [...new Set(rows.map((row) => row.metric))];
  const first = ["AP50", "AP"].find((metric) => metrics.includes(metric)) || metrics[0];
  const state = { metric: first, text: "", key: data.has_baseline ? "change" : "candidate", up: true };
  const select = el("select", { onchange: (event) => { state.metric = event.target.value; draw(); } },
    metrics.map((metric) => el("option", { value: metric, selected: metric === first }, metric)));
  const filter = el("input", { type: "search", placeholder: "part of a name",
    oninput: (event) => { state.text = event.target.value.toLowerCase(); draw(); } });
  const heads = [...columns, ["candidate", (row) => row.candidate]];
  if (data.has_baseline) {
    heads.splice(columns.length, 0, ["baseline", (row) => row.baseline]);
    heads.push(["change", (row) => row.change]);
  }
  if (data.has_intervals) heads.push(["interval", (row) => (row.interval ? row.interval[0] : null)]);
  heads.push(["verdict", (row) => row.state || ""]);
  const body = el("tbody");
  const told = el("p", { class: "quiet", "aria-live": "polite" });
  const numbers = ["baseline", "candidate", "change"];
  const headCells = heads.map(([name]) => el("th", { scope: "col", class: numbers.includes(name) ? "number" : null },
    el("button", { type: "button", onclick: () => sort(name) }, name, el("span", { class: "arrow", "aria-hidden": "true" }))));

  function sort(name) {
    if (state.key === name) state.up = !state.up;
    else Object.assign(state, { key: name, up: true });
    draw();
  }
  function compare(a, b) {
    const key = heads.find(([name]) => name === state.key)[1];
    const [left, right] = [key(a), key(b)];
    // What has no value is last, either way.
    if (left === null || right === null) return (left === null) - (right === null);
    const order = typeof left === "string" ? left.localeCompare(right) : left - right;
    return state.up ? order : -order;
  }
  function draw() {
    const shown = rows.filter((row) => row.metric === state.metric &&
      columns.some(([, key]) => String(key(row) ?? "").toLowerCase().includes(state.text)));
    shown.sort(compare);
    const scale = scaleOf(shown);
    body.replaceChildren(...shown.map((row) => el("tr", { class: row.state || "unjudged" },
      columns.map(([, key], i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, key(row) || "all")),
      data.has_baseline ? number(fixed(row.baseline)) : null, number(fixed(row.candidate)),
      data.has_baseline ? el("td", { class: "number" }, change(row.change)) : null,
      data.has_intervals ? el("td", { class: "wide" }, whisker(row, scale), el("small", {}, interval(row))) : null,
      el("td", {}, stateMark(row.state, row.judged && row.judged.finding)))));
    told.textContent = counted(shown.length, "row", "rows");
    headCells.forEach((cell, i) => {
      const sorted = heads[i][0] === state.key;
      cell.setAttribute("aria-sort", sorted ? (state.up ? "ascending" : "descending") : "none");
      cell.querySelector(".arrow").textContent = sorted ? (state.up ? " ↑" : " ↓") : "";
    });
  }
  section.append(el("div", { class: "tools" }, el("label", {}, "Metric ", select), el("label", {}, `${filterName} `, filter), told),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": section.dataset.title },
      el("table", { class: "explorer" }, el("thead", {}, el("tr", {}, headCells)), body)));
  draw();
}
