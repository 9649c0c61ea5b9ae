// What the pages do besides htmx: charts that follow, and a chat that stays at its newest message.
"use strict";

const charts = [];
const colours = { held: "--accent", waiting: "--warn", limit: "--soft", acknowledged: "--second", answered: "--accent", failed: "--bad" };

// A canvas knows neither variables nor light-dark(): an element says what they come to.
function style(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function draw(node, points) {
  const names = JSON.parse(node.dataset.names);
  const keys = Object.keys(names);
  const data = [points.at, ...keys.map((key) => points[key])];
  if (node.plot) {
    node.plot.setData(data);
    return;
  }
  const axis = { stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, font: "12px system-ui" };
  node.plot = new uPlot(
    {
      width: node.clientWidth,
      height: 180,
      cursor: { drag: { x: false, y: false } },
      scales: { x: { range: () => [Date.now() / 1000 - 3600, Date.now() / 1000] }, y: { range: (u, low, high) => [0, Math.max(high || 0, 4)] } },
      axes: [axis, { ...axis, size: 36 }],
      series: [
        { value: (u, at) => (at === null ? "" : new Date(at * 1000).toLocaleTimeString()) },
        ...keys.map((key) => ({ label: names[key], stroke: style(colours[key]), width: 2, points: { show: false } })),
      ],
    },
    data,
    node,
  );
  charts.push(node);
}

async function follow() {
  const nodes = document.querySelectorAll("[data-chart]");
  if (!nodes.length || typeof uPlot === "undefined") return;
  try {
    const answer = await fetch("/now/points");
    if (answer.ok) {
      const points = await answer.json();
      nodes.forEach((node) => draw(node, points[node.dataset.chart]));
    }
  } finally {
    setTimeout(follow, 4000);
  }
}

addEventListener("resize", () => {
  charts.forEach((node) => node.plot.setSize({ width: node.clientWidth, height: 180 }));
});

document.addEventListener("DOMContentLoaded", follow);

// A chat stays at its newest message, and what was opened under an answer stays open while the chat goes on.
const opened = new Set();

addEventListener("toggle", (event) => {
  const node = event.target;
  if (node.matches?.("details[data-keep]")) opened[node.open ? "add" : "delete"](node.id);
}, true);

function settle(root) {
  root.querySelectorAll("details[data-keep]").forEach((node) => { node.open = opened.has(node.id); });
  root.querySelectorAll("[data-screen]").forEach((node) => { node.scrollTop = node.scrollHeight; });
}

document.addEventListener("htmx:afterSettle", () => settle(document));
document.addEventListener("htmx:oobAfterSwap", () => settle(document));
document.addEventListener("DOMContentLoaded", () => settle(document));

// Enter sends; Shift and Enter begin another bubble. What was sent leaves the field.
document.addEventListener("keydown", (event) => {
  if (event.target.matches?.("#compose textarea") && event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    document.querySelector("[data-testid=chat-send]").click();
  }
});
document.addEventListener("htmx:beforeRequest", (event) => {
  const form = event.target;
  if (form.id === "compose" || form.id === "desk-compose") {
    form.querySelectorAll("[name=text], [name=desk_text]").forEach((field) => { field.value = ""; });
  }
});
