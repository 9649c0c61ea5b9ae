// What the pages do besides htmx: charts that follow, and a chat that stays at its newest message.
"use strict";

const charts = [];

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
  const colours = [style("--accent"), style("--second"), style("--bad")];
  const axis = { stroke: style("--soft"), grid: { stroke: style("--line"), width: 1 }, font: "12px system-ui" };
  node.plot = new uPlot(
    {
      width: node.clientWidth,
      height: 180,
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (u, low, high) => [0, Math.max(high || 0, 4)] } },
      axes: [axis, { ...axis, size: 36 }],
      series: [
        { value: (u, at) => (at === null ? "" : new Date(at * 1000).toLocaleTimeString()) },
        ...keys.map((key, i) => ({ label: names[key], stroke: colours[i], width: 2, points: { show: false } })),
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
