// One chart, drawn by uPlot.

import { html, useEffect, useRef, useState } from "../vendor/preact.js";
import { time } from "../lib/format.js";
import { go, pageOf } from "../lib/router.js";

/** The height of a chart in pixels, without its legend. */
const HEIGHT = 168;

/** The distance in pixels within which a click meets a dot. */
const DOT_REACH = 9;

let loaded;

/** Loads uPlot, which is a classic script, when the first chart is shown. @returns {Promise<any>} */
function library() {
  loaded ??= new Promise((resolve, reject) => {
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/assets/vendor/uplot.css" });
    const script = Object.assign(document.createElement("script"), { src: "/assets/vendor/uplot.js" });
    script.onload = () => resolve(/** @type {any} */ (globalThis).uPlot);
    script.onerror = reject;
    document.head.append(style, script);
  });
  return loaded;
}

/** @param {{chart: import("../lib/series.js").ChartData, range: [number, number], format: (value: number) => string, onRange: (range: [number, number]) => void}} props */
export function Chart({ chart, range, format, onRange }) {
  const place = useRef(null);
  const plot = useRef(null);
  const latest = useRef({ chart, range, onRange });
  latest.current = { chart, range, onRange };
  const [at, setAt] = useState(undefined);
  const [theme, setTheme] = useState(0);
  const names = chart.lines.map((line) => line.name).join("\n");
  useEffect(() => {
    const change = () => setTheme((before) => before + 1);
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", change);
    addEventListener("isomer-theme", change);
    return () => {
      system.removeEventListener("change", change);
      removeEventListener("isomer-theme", change);
    };
  }, []);
  useEffect(() => {
    let isGone = false;
    const resize = new ResizeObserver(([entry]) => plot.current?.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT }));
    library().then((Plot) => {
      if (isGone || !place.current) return;
      const options = optionsOf(Plot, place.current, latest, format, setAt);
      plot.current = new Plot(options, dataOf(latest.current.chart), place.current);
      resize.observe(place.current);
    });
    return () => {
      isGone = true;
      resize.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names, theme]);
  useEffect(() => {
    if (!plot.current) return;
    plot.current.setData(dataOf(chart), false);
    plot.current.setScale("x", { min: range[0], max: range[1] });
  }, [chart, range[0], range[1]]);
  const index = at ?? chart.times.length - 1;
  return html`
    <figure class="chart card">
      <figcaption><h2>${chart.title}</h2><span class="dim">${at === undefined ? "" : time(chart.times[index] * 1000)}</span></figcaption>
      <div class="chart-plot" ref=${place} role="img" aria-label=${`${chart.title}: ${chart.lines.map((line) => `${line.name} ${format(line.values.at(-1) ?? NaN)}`).join(", ") || "no data"}`}></div>
      <ul class="chart-legend">
        ${chart.lines.map((line, number) => html`<li key=${line.name}><i class=${toneOf(line, number)}></i>${line.name} <b>${format(line.values[index] ?? NaN)}</b></li>`)}
        ${chart.lines.length === 0 && html`<li class="dim">No data yet</li>`}
      </ul>
    </figure>
  `;
}

/** The class with the colour of a line. */
const toneOf = (line, number) => (line.tone ? `line-${line.tone}` : `shade-line-${number}`);

const dataOf = ({ times, lines }) => [times, ...lines.map((line) => line.values)];

/** Returns the options of uPlot: colours of the theme, axes, the brush, and the dots of exemplars. */
function optionsOf(Plot, element, latest, format, setAt) {
  const style = getComputedStyle(element);
  // A canvas cannot resolve CSS functions such as `var()`, so each colour is read from the computed style of an
  // element.
  const color = (name) => {
    const probe = document.createElement("span");
    probe.className = `probe ${name}`;
    element.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  };
  const [text, grid] = [color("probe-text"), color("probe-grid")];
  const axis = { stroke: text, font: `11px ${style.fontFamily}`, ticks: { show: false }, grid: { stroke: grid, width: 1 } };
  const { lines } = latest.current.chart;
  return {
    width: Math.max(100, Math.floor(element.clientWidth)),
    height: HEIGHT,
    legend: { show: false },
    padding: [10, 12, 0, 0],
    cursor: { sync: { key: "isomer", setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
    scales: { x: { time: true, range: () => latest.current.range }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.12 : 1] } },
    axes: [
      { ...axis, space: 90, values: (_, marks) => marks.map((mark) => time(mark * 1000)), grid: { show: false }, size: 26, gap: 4 },
      { ...axis, size: 62, space: 30, values: (_, marks) => marks.map((mark) => format(mark)) },
    ],
    series: [
      {},
      ...lines.map((line, number) => {
        const stroke = color(toneOf(line, number));
        return { stroke, width: 1.75, spanGaps: true, points: { show: isShort, size: 5, fill: stroke } };
      }),
    ],
    hooks: {
      setCursor: [(plot) => setAt(plot.cursor.idx ?? undefined)],
      setSelect: [(plot) => select(plot, latest)],
      draw: [(plot) => drawDots(Plot, plot, latest.current.chart.dots, color("probe-dot"))],
      ready: [(plot) => plot.over.addEventListener("click", (event) => openDot(plot, latest.current.chart.dots, event))],
    },
  };
}

/** Whether a line has too few values to be visible as a line. */
const isShort = (plot, line) => plot.data[line].filter((value) => value != null).length < 2;

/** Chooses the time range that was dragged over. */
function select(plot, latest) {
  const { left, width } = plot.select;
  if (width < 6) return;
  latest.current.onRange([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
}

function drawDots(Plot, plot, dots, fill) {
  const { ctx } = plot;
  const size = 3.5 * (Plot.pxRatio ?? devicePixelRatio);
  ctx.save();
  ctx.strokeStyle = fill;
  ctx.lineWidth = size / 2.4;
  for (const { at, value } of dots) {
    if (at < plot.scales.x.min || at > plot.scales.x.max || value > plot.scales.y.max) continue;
    ctx.beginPath();
    ctx.arc(plot.valToPos(at, "x", true), plot.valToPos(value, "y", true), size, 0, 2 * Math.PI);
    ctx.stroke();
  }
  ctx.restore();
}

/** Opens the trace of the dot under the pointer. */
function openDot(plot, dots, event) {
  const distance = ({ at, value }) => Math.hypot(plot.valToPos(at, "x") - event.offsetX, plot.valToPos(value, "y") - event.offsetY);
  const nearest = dots.reduce((best, dot) => (!best || distance(dot) < distance(best) ? dot : best), undefined);
  if (nearest && distance(nearest) <= DOT_REACH) go(pageOf(`/traces/${nearest.trace}`));
}
