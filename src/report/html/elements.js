// Elements, and numbers as text. Text from data becomes text nodes and attributes, never markup.

const data = JSON.parse(document.getElementById("data").textContent);

const NAMESPACE = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(NAMESPACE, tag), attributes, children);
}

function fixed(value, digits = 4) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

function signed(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return (value < 0 ? "−" : "+") + text;
}

function interval(row) {
  return row.interval ? `[${signed(row.interval[0])}, ${signed(row.interval[1])}]` : "";
}

function counted(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

/// A change as a person sees it at once, and not by its colour alone.
function change(value, text) {
  const shown = (text || signed(value)).replace(/^-/, "−");
  if (value === null || value === undefined || !/[1-9]/.test(shown)) return el("span", {}, shown);
  const worse = value < 0;
  return el("span", { class: worse ? "worse" : "better" }, `${shown} ${worse ? "▼" : "▲"}`);
}

/// Whether chance explains a change: an interval that does not hold 0 is more than chance.
function isSure(row) {
  return row.interval && (row.interval[0] > 0 || row.interval[1] < 0);
}

function heading(section, ...sentences) {
  section.append(el("h2", {}, section.dataset.title));
  for (const sentence of sentences) if (sentence) section.append(el("p", { class: "told" }, sentence));
}

function legend(...entries) {
  const item = ([kind, text]) =>
    el("span", { class: "entry" }, svg("svg", { viewBox: "0 0 24 10", class: "swatch" },
      svg("line", { x1: 1, y1: 5, x2: 23, y2: 5, class: `line ${kind}` })), text);
  return el("p", { class: "legend" }, entries.map(item));
}
