"use strict";

// ---- the theme: as the system has it, or light, or dark

(() => {
  const button = document.getElementById("theme");
  const names = ["automatic", "light", "dark"];
  const stored = () => { try { return localStorage.getItem("gradcli-theme"); } catch { return null; } };
  const show = (name) => {
    if (name === "automatic") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
  };
  let now = names.includes(stored()) ? stored() : "automatic";
  show(now);
  button.hidden = false;
  button.addEventListener("click", () => {
    now = names[(names.indexOf(now) + 1) % names.length];
    show(now);
    try { localStorage.setItem("gradcli-theme", now); } catch { /* a page from a file may not store */ }
  });
})();

// ---- tables that are sorted by a heading: up, down, and as they were

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const status = table.closest("section").querySelector("[role=status]");
  headings.forEach((heading, k) => {
    heading.querySelector("button").addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const after = { none: "ascending", ascending: "descending", descending: "none" }[before];
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", after);
      const rows = after === "none" ? original : [...original].sort((a, b) => order(a, b, k, after));
      body.append(...rows);
      const name = heading.textContent.trim();
      status.textContent = after === "none" ? "In the original order." : `Sorted by ${name}, ${after}.`;
    });
  });
}

function order(a, b, k, direction) {
  const [x, y] = [a, b].map((row) => row.cells[k].dataset.key);
  if (x === "" || y === "") return (x === "") - (y === "");
  const numbers = [x, y].map(number);
  const up = numbers.some(Number.isNaN) ? x.localeCompare(y) : numbers[0] - numbers[1];
  return direction === "ascending" ? up : -up;
}

function number(text) {
  return text === "inf" ? Infinity : Number(text);
}

// ---- tabs

for (const list of document.querySelectorAll("[role=tablist]")) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const choose = (chosen) => {
    for (const tab of tabs) {
      const on = tab === chosen;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !on;
    }
  };
  tabs.forEach((tab, k) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = tabs[(to + tabs.length) % tabs.length];
      choose(next);
      next.focus();
    });
  });
  list.hidden = false;
  list.parentElement.classList.add("tabbed");
  choose(tabs[0]);
}

// ---- heat maps: the number under the pointer, or under a cursor that arrow keys move

const SVG = "http://www.w3.org/2000/svg";

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
}

function shown(x, digits) {
  if (!Number.isFinite(x)) return "–";
  return x === 0 ? "0" : x.toPrecision(digits).replace(/e\+?/, "e");
}

function unravel(place, shape) {
  const index = [];
  for (const n of [...shape].reverse()) { index.unshift(place % n); place = Math.floor(place / n); }
  return `[${index.join(", ")}]`;
}

const maps = JSON.parse(document.getElementById("maps").textContent);
for (const figure of document.querySelectorAll("[data-map]")) {
  const map = maps[Number(figure.dataset.map)];
  const image = figure.querySelector("image");
  const svg = figure.querySelector("svg");
  const reading = figure.querySelector(".reading");
  if (!image) continue;
  const values = new Float32Array(bytes(map.values));
  const [high, wide] = map.cell;
  const marks = ["halo", "cursor"].map((name) => {
    const mark = document.createElementNS(SVG, "rect");
    mark.setAttribute("class", name);
    mark.setAttribute("visibility", "hidden");
    svg.append(mark);
    return mark;
  });
  let at = null;
  const show = (row, column) => {
    at = [row, column];
    const k = row * map.columns + column;
    const place = map.first + row * high * map.down + column * wide * map.across;
    const text = map.what === "value" ? shown(values[k], 6) : `off by ${shown(values[k], 2)}`;
    const many = high * wide > 1 ? `, the largest of ${high} × ${wide} from here` : "";
    reading.textContent = `${unravel(place, map.shape)}: ${text}${many}`;
    const box = image.getBoundingClientRect();
    const back = svg.getScreenCTM().inverse();
    const corner = new DOMPoint(
      box.left + (column / map.columns) * box.width, box.top + (row / map.rows) * box.height,
    ).matrixTransform(back);
    const size = { width: (box.width / map.columns) * back.a, height: (box.height / map.rows) * back.d };
    for (const mark of marks) {
      mark.setAttribute("x", corner.x);
      mark.setAttribute("y", corner.y);
      mark.setAttribute("width", size.width);
      mark.setAttribute("height", size.height);
      mark.setAttribute("visibility", "visible");
    }
  };
  svg.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * map.columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * map.rows);
    if (row >= 0 && row < map.rows && column >= 0 && column < map.columns) show(row, column);
  });
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const clamp = (x, n) => Math.min(n - 1, Math.max(0, x));
    if (at) show(clamp(at[0] + step[0], map.rows), clamp(at[1] + step[1], map.columns));
    else show(0, 0);
    if (figure.closest("dialog")) marks[0].scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

// ---- a closer look: a picture in a dialog, larger and larger, while dots and letters stay as they are

(() => {
  const [dialog, title, stage, size, smaller, larger, close] = [
    "closer", "closer-title", "closer-stage", "closer-size", "closer-out", "closer-in", "closer-close",
  ].map((id) => document.getElementById(id));
  const most = 16;
  let zoom = 1;
  let seen = null;
  const fit = (next) => {
    const svg = [...stage.querySelectorAll("svg")].find((one) => one.getClientRects().length);
    const { width, height } = svg.viewBox.baseVal;
    const place = (at, shown, all) => (at + shown / 2) / Math.max(all, 1);
    const across = place(stage.scrollLeft, stage.clientWidth, stage.scrollWidth);
    const down = place(stage.scrollTop, stage.clientHeight, stage.scrollHeight);
    const room = stage.clientHeight - (stage.querySelector(".reading")?.offsetHeight ?? 0) - 16;
    const wide = next * Math.min(stage.clientWidth, (room * width) / height);
    zoom = next;
    stage.style.setProperty("--wide", `${wide}px`);
    stage.style.setProperty("--scale", String(wide / width));
    stage.scrollTo({
      left: across * stage.scrollWidth - stage.clientWidth / 2,
      top: down * stage.scrollHeight - stage.clientHeight / 2,
    });
    size.textContent = `${100 * zoom} %`;
    // A button that is disabled would lose the focus.
    smaller.setAttribute("aria-disabled", String(zoom <= 1));
    larger.setAttribute("aria-disabled", String(zoom >= most));
  };
  const scale = (factor) => fit(Math.min(most, Math.max(1, zoom * factor)));
  const open = (figure, button) => {
    const stand = figure.cloneNode(false);
    stand.removeAttribute("data-map");
    stand.style.height = `${figure.offsetHeight}px`;
    seen = { figure, button, stand, left: scrollX, top: scrollY };
    title.textContent = figure.dataset.title;
    figure.replaceWith(stand);
    stage.replaceChildren(figure);
    dialog.showModal();
    fit(1);
    (figure.dataset.map ? figure : stage).focus();
  };
  dialog.addEventListener("close", () => {
    seen.stand.replaceWith(seen.figure);
    scrollTo({ left: seen.left, top: seen.top, behavior: "instant" });
    seen.button.focus({ preventScroll: true });
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const factor = { "+": 2, "=": 2, "-": 0.5 }[event.key];
    if (factor && !event.ctrlKey && !event.metaKey && !event.altKey) scale(factor);
  });
  smaller.addEventListener("click", () => scale(0.5));
  larger.addEventListener("click", () => scale(2));
  close.addEventListener("click", () => dialog.close());
  addEventListener("resize", () => { if (dialog.open) fit(zoom); });
  for (const figure of document.querySelectorAll("figure:has(svg)")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.textContent = "Enlarge";
    button.setAttribute("aria-label", `Enlarge ${figure.dataset.title}`);
    button.addEventListener("click", () => open(figure, button));
    (figure.querySelector("figcaption") ?? figure).append(" ", button);
  }
})();

// ---- the command

(() => {
  const button = document.getElementById("copy");
  const command = document.getElementById("command");
  if (!button || !navigator.clipboard) return;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
      button.textContent = "Selected";
    }
  });
})();
