// Charts, newer tables, and the explain box. The tables come from the server as HTML: the page is fetched anew and its
// parts marked data-live are put in place of the old ones.
"use strict";
(() => {
  const TABLES_MS = 3000, CHARTS_MS = 1000, SECONDS = 600, HEIGHT = 170;
  const SVG = "http://www.w3.org/2000/svg";
  document.documentElement.classList.add("js");

  // ---- the last ten minutes -----------------------------------------------------------------------------------
  const samples = new Map(); // time -> {column: value}

  async function fetchTraffic() {
    const seconds = samples.size === 0 ? SECONDS : 10;
    const page = await getJson(`api/v1/traffic?seconds=${seconds}`);
    const columns = Object.keys(page).filter((name) => Array.isArray(page[name]) && name !== "time");
    page.time.forEach((time, i) => samples.set(time, Object.fromEntries(columns.map((name) => [name, page[name][i]]))));
    const newest = Math.max(...samples.keys());
    for (const time of samples.keys()) if (time <= newest - SECONDS) samples.delete(time);
    if (samples.size !== 0) showNow(samples.get(newest));
  }

  function showNow(sample) {
    for (const cell of document.querySelectorAll("[data-now]")) {
      const name = cell.dataset.now, value = sample[name];
      const digits = name === "connections" || name === "in_flight" ? 0 : 1;
      cell.firstChild.data = value === null || value === undefined ? "–" : value.toFixed(digits);
      if (name === "responses_5xx") cell.parentElement.classList.toggle("bad", value > 0);
    }
  }

  // ---- charts -------------------------------------------------------------------------------------------------
  const CHARTS = {
    requests: [["answers below 400", "c1", (s) => s.responses_1xx + s.responses_2xx + s.responses_3xx, true], ["4xx", "c3", (s) => s.responses_4xx], ["5xx", "c4", (s) => s.responses_5xx]],
    errors: [["4xx", "c3", (s) => s.responses_4xx], ["5xx", "c4", (s) => s.responses_5xx, true], ["made by weir", "c2", (s) => s.local_errors]],
    latency: [["median", "c1", (s) => s.p50_ms, true], ["99th percentile", "c2", (s) => s.p99_ms]],
    connections: [["open", "c1", (s) => s.connections, true], ["requests in flight", "c2", (s) => s.in_flight]],
  };

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const html = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // 1, 2 or 5 times a power of ten, so that the lines of the grid have round numbers.
  function roundUp(value) {
    if (!(value > 0)) return 1;
    const power = 10 ** Math.floor(Math.log10(value));
    for (const factor of [1, 2, 2.5, 5, 10]) if (value <= factor * power) return factor * power;
    return 10 * power;
  }
  const short = (value) => value === null || value === undefined || Number.isNaN(value) ? "–"
    : value >= 1e6 ? `${+(value / 1e6).toFixed(1)}M` : value >= 1e4 ? `${+(value / 1e3).toFixed(1)}k` : `${+value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)}`;

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.series = CHARTS[figure.dataset.chart];
      this.legend = html("span", "legend");
      this.labels = this.series.map(([, color]) => this.legend.appendChild(html("span", color)));
      figure.querySelector("figcaption").append(this.legend);
      this.svg = figure.appendChild(element("svg", { role: "img", "aria-label": figure.textContent.trim() }));
      this.svg.addEventListener("pointermove", (event) => { this.pointer = event.offsetX; this.draw(); });
      this.svg.addEventListener("pointerleave", () => { this.pointer = undefined; this.draw(); });
      new ResizeObserver(() => this.draw()).observe(figure);
    }

    draw() {
      const width = this.svg.clientWidth || 300, left = 40, right = 6, top = 8, bottom = 20;
      const newest = samples.size ? Math.max(...samples.keys()) : Math.floor(Date.now() / 1000);
      const times = [...samples.keys()].sort((a, b) => a - b);
      const values = this.series.map(([, , value]) => times.map((time) => value(samples.get(time)) ?? null));
      const highest = roundUp(Math.max(0, ...values.flat().filter((value) => value !== null)));
      const span = Math.min(SECONDS, Math.max(120, Math.ceil((newest - Math.min(newest, ...times)) / 60) * 60)); // a young process shows less
      const x = (time) => left + (width - left - right) * (1 - (newest - time) / span);
      const y = (value) => top + (HEIGHT - top - bottom) * (1 - value / highest);
      const parts = [];
      for (const share of [0, 0.5, 1]) {
        parts.push(element("line", { class: "grid", x1: left, x2: width - right, y1: y(share * highest), y2: y(share * highest) }),
          element("text", { x: left - 6, y: y(share * highest) + 4, "text-anchor": "end" }, short(share * highest)));
      }
      for (const [share, anchor] of [[1, "start"], [0.5, "middle"], [0, "end"]]) {
        const minutes = +(span * share / 60).toFixed(1);
        parts.push(element("text", { x: x(newest - span * share), y: HEIGHT - 4, "text-anchor": anchor }, minutes ? `${minutes} min ago` : "now"));
      }
      this.series.forEach(([, color, , hasArea], i) => {
        const { line, area } = this.paths(times, values[i], x, y);
        if (hasArea && area) parts.push(element("path", { class: `area ${color}`, d: area }));
        if (line) parts.push(element("path", { class: `curve ${color}`, d: line }));
      });
      const at = this.sampleAt(times, x);
      if (this.pointer !== undefined && at !== undefined) parts.push(element("line", { class: "cursor", x1: x(times[at]), x2: x(times[at]), y1: top, y2: HEIGHT - bottom }));
      this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
      this.svg.replaceChildren(...parts);
      this.series.forEach(([name], i) => { this.labels[i].textContent = `${name} ${at === undefined ? "–" : short(values[i][at])}`; });
    }

    // A gap in time, or in values, is a gap in the line.
    paths(times, values, x, y) {
      let line = "", area = "", begin = null, last = null;
      const close = () => { if (begin !== null) area += `L${x(last).toFixed(1)} ${y(0).toFixed(1)}L${x(begin).toFixed(1)} ${y(0).toFixed(1)}Z`; begin = null; };
      times.forEach((time, i) => {
        if (values[i] === null) { close(); last = null; return; }
        const joins = last !== null && time - last <= 3, point = `${x(time).toFixed(1)} ${y(values[i]).toFixed(1)}`;
        if (!joins) { close(); begin = time; }
        line += (joins ? "L" : "M") + point + (joins ? "" : `h.01`);
        area += (joins ? "L" : "M") + point;
        last = time;
      });
      close();
      return { line, area };
    }

    sampleAt(times, x) {
      if (times.length === 0) return undefined;
      if (this.pointer === undefined) return times.length - 1;
      let best = 0;
      times.forEach((time, i) => { if (Math.abs(x(time) - this.pointer) < Math.abs(x(times[best]) - this.pointer)) best = i; });
      return best;
    }
  }

  // ---- tables -------------------------------------------------------------------------------------------------
  let totals = new Map(), totalsAt = 0;

  // How fast the first total of each row has grown since the last look.
  function showRates(root, now) {
    const seen = new Map();
    for (const row of root.querySelectorAll("tr[data-key]")) {
      const cell = row.querySelector("[data-total]"); // a listener of requests has none: its routes do
      if (cell === null) continue;
      const total = Number(cell.dataset.total), before = totals.get(row.dataset.key);
      seen.set(row.dataset.key, total);
      if (before !== undefined && total >= before) row.querySelector("td.rate").textContent = short((total - before) / ((now - totalsAt) / 1000));
    }
    totals = seen;
    totalsAt = now;
  }

  async function fetchTables() {
    const response = await fetch(location.pathname, { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    showRates(fresh, performance.now());
    for (const part of document.querySelectorAll("[data-live]")) {
      const newer = fresh.getElementById(part.id);
      if (newer === null || hasSelection(part)) continue;
      const focused = part.contains(document.activeElement) ? document.activeElement.closest("details")?.id : undefined;
      const open = [...part.querySelectorAll("details[open]")].map((details) => details.id);
      const offsets = [...part.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
      part.replaceChildren(...newer.childNodes);
      for (const details of part.querySelectorAll("details")) details.open = open.includes(details.id);
      if (focused) document.getElementById(focused)?.firstChild.focus({ preventScroll: true });
      part.querySelectorAll(".scroll").forEach((box, i) => { if (offsets[i]) [box.scrollLeft, box.scrollTop] = offsets[i]; });
    }
  }

  // Nobody likes text to vanish from under the pointer.
  function hasSelection(part) {
    const selection = getSelection();
    return selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  // ---- explain ------------------------------------------------------------------------------------------------
  function readHeaders(text) {
    const headers = {};
    for (const line of text.split("\n").map((each) => each.trim()).filter(Boolean)) {
      const colon = line.indexOf(":");
      if (colon < 1) throw new Error(`“${line}” is no header line (expected name: value)`);
      (headers[line.slice(0, colon).trim()] ??= []).push(line.slice(colon + 1).trim());
    }
    return headers;
  }

  function showDecision(result, decision) {
    const verdict = html("p", "verdict");
    const facts = [["listener", decision.listener], ["certificate", decision.certificate], ["route", decision.route], ["target group", decision.target_group],
      ["target", decision.target], ["status", decision.status], ["reason", decision.reason === "-" ? null : decision.reason]];
    for (const [name, value] of facts) {
      if (value === null) continue;
      const fact = verdict.appendChild(html("span", "", `${name} `));
      fact.append(html("b", "", String(value)));
    }
    const steps = html("ol", "steps");
    for (const step of decision.steps) {
      const item = steps.appendChild(html("li", / lost: /.test(step.text) ? "lost" : ""));
      const text = html("span", "", step.text);
      if (step.file !== null) text.append(" ", html("small", "", `${step.file}:${step.line}`));
      item.append(html("span", "stage", step.stage), text);
    }
    result.replaceChildren(verdict, steps);
  }

  async function explain(event) {
    event.preventDefault();
    const form = event.target, result = document.getElementById("explain-result");
    try {
      const question = { url: form.url.value.trim(), method: form.method.value, headers: readHeaders(form.headers.value) };
      if (form.ip.value.trim()) question.ip = form.ip.value.trim();
      const response = await fetch("api/v1/explain", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(question) });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.message);
      showDecision(result, answer);
    } catch (error) {
      result.replaceChildren(html("p", "problem", error.message));
    }
  }

  // ---- the clock ----------------------------------------------------------------------------------------------
  async function getJson(path) {
    const response = await fetch(path, { cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    return response.json();
  }

  const charts = [...document.querySelectorAll("[data-chart]")].map((figure) => new Chart(figure));
  const drawAll = () => charts.forEach((chart) => chart.draw());

  // One look after the other, none while nobody is looking.
  function repeat(look, everyMs) {
    const again = async () => {
      if (!document.hidden) {
        try {
          await look();
          document.getElementById("connection").hidden = true;
        } catch {
          document.getElementById("connection").hidden = false;
        }
      }
      setTimeout(again, everyMs);
    };
    return again();
  }
  showRates(document, performance.now());
  repeat(async () => { await fetchTraffic(); drawAll(); }, CHARTS_MS);
  setTimeout(() => repeat(fetchTables, TABLES_MS), 1000);
  document.getElementById("explain-form").addEventListener("submit", explain);
})();
