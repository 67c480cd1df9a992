// One live chart with uPlot. Never fetches data.

import { html, useEffect, useMemo, useRef, useState } from "./lib.js";
import { clock } from "./format.js";

const HEIGHT = 150;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Changes with the theme, since a canvas doesn't follow style sheets.
function useTheme() {
  const [theme, setTheme] = useState(0);
  useEffect(() => {
    const update = () => setTheme((before) => before + 1);
    const media = matchMedia("(prefers-color-scheme: dark)");
    media.addEventListener("change", update);
    addEventListener("themechange", update);
    return () => {
      media.removeEventListener("change", update);
      removeEventListener("themechange", update);
    };
  }, []);
  return theme;
}

// The steps of an axis by its unit: whole numbers, binary sizes, or any.
const STEPS = {
  whole: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000, 100_000, 1_000_000],
  bytes: Array.from({ length: 40 }, (_, power) => 2 ** power),
};

function options(series, format, width, steps) {
  const axis = {
    stroke: style("--quiet"),
    grid: { stroke: style("--line"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
    axes: [
      { ...axis, values: (_, at) => at.map((second) => clock(second * 1000)), space: 70, size: 26 },
      { ...axis, values: (_, at) => at.map((value) => format(value)), size: 62, space: 30, ...steps },
    ],
    series: [
      {},
      ...series.map(({ name, colour, dash, fill }) => ({
        label: name,
        stroke: style(colour),
        width: 1.75,
        dash,
        fill: fill ? `${style(colour)}22` : undefined,
        points: { show: false },
      })),
    ],
  };
}

// Draws `data`, [seconds, …values of each series]. `series` is [{name, colour, dash, fill}]; `unit`
// selects the steps of the axis.
export function Chart({ title, series, data, format, unit }) {
  const place = useRef(null);
  const plot = useRef(null);
  const theme = useTheme();
  const shape = useMemo(() => series.map((one) => one.name).join(), [series]);
  useEffect(() => {
    const element = place.current;
    const width = () => Math.max(element.clientWidth, 160);
    const drawn = new uPlot(options(series, format, width(), unit && { incrs: STEPS[unit] }), data, element);
    plot.current = drawn;
    const observer = new ResizeObserver(() => drawn.setSize({ width: width(), height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [theme, shape]);
  useEffect(() => plot.current?.setData(data), [data]);
  const values = series.map(({ name, colour, dash }, index) => {
    const column = data[index + 1];
    return { name, colour, dash, value: format(column[column.length - 1]) };
  });
  const summary = values.map(({ name, value }) => `${name} ${value}`).join(", ");
  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    <div class="plot" role="img" aria-label=${`${title}, now: ${summary}`} ref=${place}></div>
    <ul class="legend">
      ${values.map(({ name, colour, dash, value }) => html`<li>
        <svg width="18" height="8" aria-hidden="true"><line x1="0" y1="4" x2="18" y2="4" stroke-width="3"
          stroke=${`var(${colour})`} stroke-dasharray=${dash ? "4 3" : undefined} /></svg>
        ${name} <strong>${value}</strong></li>`)}
    </ul>
  </figure>`;
}
