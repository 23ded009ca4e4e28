"use strict";
// The page of a graph: levels are drawn already, this shows them and what is known of their nodes.
const data = JSON.parse(document.getElementById("data").textContent);
const { nodes, boxes, kernels } = data;
const $ = (id) => document.getElementById(id);
const stage = $("stage"), panel = $("panel"), found = $("found");
const SVG = "http://www.w3.org/2000/svg";
let level = null, lit = new Set(), chosen = null, view = null, texts = null;

const escape = (s) => String(s).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const called = (key) => nodes[key].name || nodes[key].label;
const home = (key) => nodes[key].home || "";
const path = (box) => (box === "" ? [""] : [...path(boxes[box].parent), box]);

// -- levels ---------------------------------------------------------------------------------------
function show(box) {
  if (box === level) return mark();
  level = box;
  const b = boxes[box];
  stage.innerHTML = `<svg class="scene" xmlns="${SVG}" role="group">${b.svg}</svg>`;
  const crumbs = path(box).map((k) => {
    const title = k === "" ? data.title || "graph" : boxes[k].title;
    return k === box ? `<span aria-current="page">${escape(title)}</span>`
      : `<button data-box="${k}">${escape(title)}</button>`;
  });
  const kind = b.kind && b.kind !== b.title ? b.kind : "";
  $("crumbs").innerHTML = `${crumbs.join(" › ")}<span class="kind">${escape(kind)}</span>`;
  fit();
  mark();
}

function mark() {
  const svg = stage.firstChild;
  for (const g of svg.querySelectorAll(".mark")) {
    const key = g.dataset.key;
    const inner = key in boxes ? boxes[key].inside : [key];
    g.classList.toggle("lit", inner.some((k) => lit.has(k)));
    g.classList.toggle("chosen", key === chosen);
  }
  svg.classList.toggle("dimmed", lit.size > 0);
}

// A node may lie in boxes that a level shows open: the level nearest to it that has its mark.
function levelOf(key) {
  for (const box of path(home(key)).reverse())
    if (boxes[box].svg.includes(`data-key="${key}"`)) return box;
  return home(key);
}

// -- zoom -----------------------------------------------------------------------------------------
function apply() {
  stage.firstChild.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
}
function fit() {
  const b = boxes[level], w = stage.clientWidth || 900, h = stage.clientHeight || 600;
  const scale = Math.min(w / b.width, h / b.height, 1.6);
  view = { w: w / scale, h: h / scale };
  view.x = (b.width - view.w) / 2;
  view.y = (b.height - view.h) / 2;
  apply();
}
function zoom(by, cx = 0.5, cy = 0.5) {
  view.x += view.w * cx * (1 - by);
  view.y += view.h * cy * (1 - by);
  view.w *= by;
  view.h *= by;
  apply();
}
let drag = null, moved = false;
stage.addEventListener("pointerdown", (e) => {
  drag = { x: e.clientX, y: e.clientY, vx: view.x, vy: view.y };
  moved = false;
});
addEventListener("pointermove", (e) => {
  if (!drag) return;
  const k = view.w / stage.clientWidth, dx = e.clientX - drag.x, dy = e.clientY - drag.y;
  moved ||= Math.abs(dx) + Math.abs(dy) > 5;
  view.x = drag.vx - dx * k;
  view.y = drag.vy - dy * k;
  apply();
});
addEventListener("pointerup", () => (drag = null));
stage.addEventListener("wheel", (e) => {
  e.preventDefault();
  const r = stage.getBoundingClientRect();
  const by = Math.exp(Math.max(-60, Math.min(60, e.deltaY)) / 300);
  zoom(by, (e.clientX - r.left) / r.width, (e.clientY - r.top) / r.height);
}, { passive: false });

// -- what is known of a node ----------------------------------------------------------------------
const row = (name, value) => (value ? `<tr><th>${name}</th><td>${value}</td></tr>` : "");
const links = (keys) => [...new Set(keys)].map((k) =>
  `<button data-node="${k}">${escape(called(k))}</button>`).join(" ");
const short = (x) => (x === undefined ? "" : Math.abs(x) >= 1e5 || (x && Math.abs(x) < 1e-3)
  ? x.toExponential(3) : String(+x.toPrecision(5)));

function histogram(bins) {
  const most = Math.max(...bins), w = 320 / bins.length;
  const bars = bins.map((n, i) => {
    const h = (n / most) * 56;
    return `<rect x="${i * w}" y="${58 - h}" width="${w - 1}" height="${h}"/>`;
  });
  return `<svg class="histogram" viewBox="0 0 320 60" width="100%" role="img"
    aria-label="histogram">${bars.join("")}</svg>`;
}

function values(s) {
  if (!s) return "";
  return `<h3>values of ${s.count.toLocaleString("en")} element${s.count === 1 ? "" : "s"}</h3>
    <table>${row("min", short(s.min))}${row("mean", short(s.mean))}${row("max", short(s.max))}
    ${row("std", short(s.std))}${row("NaN", String(s.nan))}${row("infinite", s.inf || "")}</table>
    ${s.histogram ? histogram(s.histogram) : ""}`;
}

function showNode(key) {
  const n = nodes[key];
  chosen = key;
  lit = new Set();
  show(levelOf(key));
  const around = path(home(key)).slice(1).map((b) =>
    `<button data-box="${b}">${escape(boxes[b].title)}</button>`).join(" › ");
  const own = n.kernels.map((k) => `<button data-kernel="${k}">${escape(kernels[k].name)}</button>`
    + ` <small>${time(kernels[k].seconds)}</small>`);
  panel.innerHTML = `<h2>${escape(called(key))}</h2><div class="math">${n.math}</div>
    <table>${row("shape", escape(n.shape))}${row("type", n.dtype)}
    ${row("part", n.role === "op" ? n.part : `${n.role}, ${n.part}`)}
    ${row("gate", n.gate && `its cotangent: ${n.gate}`)}
    ${row("in", around)}</table>
    <h3>built at ${escape(n.where)}</h3><pre class="line" id="line">${escape(n.line)}</pre>
    ${values(n.stats)}
    ${n.reads.length ? `<h3>reads</h3><div class="links">${links(n.reads)}</div>` : ""}
    ${n.readers.length ? `<h3>read by</h3><div class="links">${links(n.readers)}</div>` : ""}
    ${own.length ? `<h3>computed by kernel</h3><div class="links">${own.join("<br>")}</div>` : ""}
    <div id="code-of"></div>`;
  if (n.kernels.length) code(n.kernels[n.kernels.length - 1]);
}

// -- kernels --------------------------------------------------------------------------------------
function time(s) {
  if (s === null || s === undefined) return "";
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]])
    if (s >= size) return `${(s / size).toPrecision(3)} ${unit}`;
  return `${(s * 1e9).toFixed(0)} ns`;
}
const rate = (amount, s) => (amount && s ? (amount / s / 1e9).toFixed(1) : "");

async function unpack() {
  if (texts) return texts;
  const bytes = Uint8Array.from(atob($("code").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return (texts = JSON.parse(await new Response(stream).text()));
}

async function code(k) {
  const all = await unpack(), place = $("code-of");
  if (!place) return;
  place.innerHTML = [["loops", "loops"], ["llvm", "LLVM"], ["assembly", "assembly"]]
    .filter(([what]) => all[k][what])
    .map(([what, title], i) => `<details${i ? "" : " open"}><summary>${title} of
      ${escape(kernels[k].name)}</summary><pre>${escape(all[k][what])}</pre></details>`).join("");
}

function showKernel(k) {
  const kernel = kernels[k];
  lit = new Set(kernel.nodes);
  chosen = null;
  const paths = kernel.nodes.map((key) => path(levelOf(key)));
  let at = 0;  // the deepest level that shows all of it
  while (paths.length && paths.every((p) => p[at] !== undefined && p[at] === paths[0][at])) at++;
  show(paths.length ? paths[0][at - 1] : "");
  mark();
  const maths = kernel.nodes.map((key) => `<div class="term"><button data-node="${key}">show</button>
    <div class="math">${nodes[key].math}</div></div>`).join("");
  panel.innerHTML = `<h2>${escape(kernel.name)}</h2><table>
    ${row("time", time(kernel.seconds))}${row("calls", String(kernel.calls))}
    ${row("work", kernel.flops ? `${kernel.flops.toLocaleString("en")} flop` : "")}
    ${row("GFLOP/s", rate(kernel.flops, kernel.seconds))}
    ${row("data", kernel.bytes ? `${kernel.bytes.toLocaleString("en")} bytes` : "")}
    ${row("GB/s", rate(kernel.bytes, kernel.seconds))}</table>
    <h3>computes</h3>${maths}
    <h3>from</h3><pre class="line">${kernel.sources.map(escape).join("\n")}</pre>
    <div id="code-of"></div>`;
  code(k);
}

function overview() {
  lit = new Set();
  chosen = null;
  mark();
  const b = boxes[level], inside = new Set(b.inside);
  const mine = kernels.map((kernel, k) => [kernel, k]).filter(([kernel]) =>
    level === "" || kernel.nodes.some((key) => inside.has(key)));
  mine.sort((a, c) => (c[0].seconds || 0) - (a[0].seconds || 0));
  const all = mine.reduce((sum, [kernel]) => sum + (kernel.seconds || 0), 0);
  const list = mine.map(([kernel, k]) => `<tr><td><button data-kernel="${k}">
    ${escape(kernel.name)}</button>${all ? `<div class="bar"
    style="width:${(100 * (kernel.seconds || 0)) / all}%"></div>` : ""}</td>
    <td class="number">${time(kernel.seconds)}</td></tr>`).join("");
  panel.innerHTML = `<h2>${escape(level === "" ? data.title || "graph" : b.title)}</h2>
    <small>${escape(b.says)}</small><p><small>${escape(level === "" ? data.note : "")}</small></p>
    <p>Click a box to open it, a node to see its mathematics, its line${kernels.length
      ? ", its kernel" : ""}.</p>
    ${list ? `<h3>${mine.length} kernels${all ? `, ${time(all)}` : ""}</h3>
    <table>${list}</table>` : ""}`;
}

// -- where we are: the fragment of the address ----------------------------------------------------
function follow() {
  const [what, value = ""] = decodeURIComponent(location.hash.slice(1)).split("=");
  if (what === "node" && nodes[value]) showNode(value);
  else if (what === "kernel") {
    const k = kernels.findIndex((kernel) => kernel.name === value);
    if (k >= 0) showKernel(k);
  } else {
    show(what === "box" && boxes[value] ? value : "");
    overview();
  }
}
function go(what, value) {
  const hash = value === "" ? "#" : `#${what}=${encodeURIComponent(value)}`;
  if (location.hash === hash) follow();
  else location.hash = hash;
}
addEventListener("hashchange", follow);

document.addEventListener("click", (e) => {
  const b = e.target.closest("button[data-box], button[data-node], button[data-kernel]");
  if (b) {
    found.hidden = true;
    if (b.dataset.box !== undefined) go("box", b.dataset.box);
    else if (b.dataset.node) go("node", b.dataset.node);
    else go("kernel", kernels[b.dataset.kernel].name);
    return;
  }
  if (!found.contains(e.target) && e.target !== $("search")) found.hidden = true;
  const g = e.target.closest(".mark");
  if (g && !moved) enter(g);
});
function enter(g) {
  const key = g.dataset.key;
  go(key in boxes ? "box" : "node", key);
}
stage.addEventListener("pointerover", (e) => near(e.target.closest(".mark"), true));
stage.addEventListener("pointerout", (e) => near(e.target.closest(".mark"), false));
function near(g, on) {
  if (!g) return;
  const key = g.dataset.key;
  for (const a of stage.querySelectorAll(".arrow"))
    if (a.dataset.from === key || a.dataset.to === key) a.classList.toggle("near", on);
}

// -- search, keys, theme --------------------------------------------------------------------------
$("search").addEventListener("input", (e) => {
  const words = e.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  const hits = words.length ? Object.keys(nodes).filter((key) => {
    const n = nodes[key];
    const text = `${n.label} ${n.name} ${n.where} ${n.line} ${n.role} ${n.part}`.toLowerCase();
    return n.home !== undefined && words.every((w) => text.includes(w));
  }) : [];
  found.hidden = !words.length;
  found.innerHTML = hits.slice(0, 60).map((key) => {
    const n = nodes[key];
    const box = n.home ? boxes[n.home].title : "";
    return `<button data-node="${key}">${escape(n.label)} ${escape(n.name)}
      <small>${escape(n.shape)} ${escape(box)} ${escape(n.where)}</small></button>`;
  }).join("") + `<small>&nbsp;${hits.length} found</small>`;
});
$("search").addEventListener("keydown", (e) => {
  if (e.key === "Enter") found.querySelector("button")?.click();
});
document.addEventListener("keydown", (e) => {
  if (e.target.tagName === "INPUT") {
    if (e.key === "Escape") { found.hidden = true; e.target.blur(); }
    return;
  }
  const g = e.target.closest?.(".mark");
  if (g && (e.key === "Enter" || e.key === " ")) { e.preventDefault(); enter(g); }
  else if (e.key === "Escape" || e.key === "Backspace") up();
  else if (e.key === "+" || e.key === "=") zoom(0.8);
  else if (e.key === "-") zoom(1.25);
  else if (e.key === "0") fit();
  else if (e.key === "k") list();
  else if (e.key === "/") { e.preventDefault(); $("search").focus(); }
});
function up() {
  go("box", chosen || lit.size ? level : boxes[level].parent ?? "");
}
function list() {
  if (location.hash.length > 1) go("box", "");
  else overview();
}
$("in").onclick = () => zoom(0.8);
$("out").onclick = () => zoom(1.25);
$("fit").onclick = fit;
$("kernels").onclick = list;
$("kernels").hidden = !kernels.length;
$("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
addEventListener("resize", () => fit());
follow();
document.documentElement.dataset.ready = Math.round(performance.now());
