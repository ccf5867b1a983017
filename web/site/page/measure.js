// Speed: a histogram of the time of runs, and the time of each op.
import { el, table, time } from "./dom.js";
import { show } from "./problems.js";
import { quantile } from "./tensor.js";

const RUNS = 50, MOST = 10000, BREATH = 100, BARS = 24, KEPT = 1000;

/** The speed section: returns {add(ms)}; `feeds` gives inputs, `run` runs them once. */
export function makeSpeed(parent, model, feeds, run) {
  const times = [];
  const text = el("p", { text: "Nothing measured yet." });
  const chart = el("div", { class: "chart" });
  const ops = el("div", {});
  const status = el("span", { class: "quiet", role: "status" });
  const measure = el("button", { text: `Run ${RUNS} times`, onclick: () => work(many) });
  const profile = el("button", { text: "Time every op", onclick: () => work(perOp) });
  parent.append(el("p", { class: "row" }, measure, profile, status), text, chart, ops);

  async function work(what) {
    measure.disabled = profile.disabled = true;
    try {
      await what();
    } catch (error) {
      show(error);
    } finally {
      measure.disabled = profile.disabled = false;
    }
  }

  async function many() {
    const inputs = feeds();
    await run(inputs);
    times.length = 0;
    const begun = performance.now();
    let breathed = begun;
    for (let i = 0; i < RUNS; ++i) {
      const start = performance.now();
      await run(inputs);
      const now = performance.now();
      times.push(now - start);
      if (i >= 4 && now - begun > MOST) break;
      if (now - breathed > BREATH) {
        status.textContent = `${i + 1} of ${RUNS} …`;
        await new Promise((done) => setTimeout(done)); // a page whose engine runs on its own thread stays alive
        breathed = performance.now();
      }
    }
    draw();
    status.textContent = `${times.length} runs done`;
  }

  async function perOp() {
    const rows = (await model.profile(feeds())).map((r) => ({ ...r, ms: r.microseconds / 1000 }));
    const total = rows.reduce((a, r) => a + r.ms, 0) || 1;
    rows.sort((a, b) => b.ms - a.ms);
    ops.replaceChildren(
      el("h3", { text: "Time of each op" }),
      table(
        "Time of each op",
        ["op", "name", "time", "share"],
        rows.map((r) => [r.op, r.name, time(r.ms), `${((100 * r.ms) / total).toFixed(1)} %`]),
        [2, 3],
      ),
    );
    status.textContent = `${rows.length} ops, ${time(total)} in all`;
  }

  function draw() {
    const sorted = [...times].sort((a, b) => a - b);
    const [low, mid, high] = [sorted[0], quantile(sorted, 0.5), quantile(sorted, 0.95)];
    text.textContent = `${sorted.length} ${sorted.length === 1 ? "run" : "runs"}: median ${time(mid)}, fastest ${time(low)}, 95 % within ${time(high)}.`;
    if (sorted.length < 5) return;
    const top = Math.max(high * 1.1, low * 1.05), span = top - low || 1, counts = Array(BARS).fill(0);
    for (const t of sorted) counts[Math.min(BARS - 1, Math.floor(((t - low) / span) * BARS))]++;
    const most = Math.max(...counts), w = 480, h = 110;
    const svg = el("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": `Histogram: ${text.textContent}` });
    counts.forEach((n, i) => {
      const tall = (n / most) * (h - 4);
      svg.append(el("rect", { class: "count", x: (i * w) / BARS + 1, y: h - tall, width: w / BARS - 2, height: tall }));
    });
    const at = Math.min(w - 1, ((mid - low) / span) * w);
    svg.append(el("line", { class: "middle", x1: at, x2: at, y1: 0, y2: h }));
    chart.replaceChildren(svg, el("p", { class: "ends quiet", "aria-hidden": "true" }, el("span", { text: time(low) }), el("span", { text: "line: median" }), el("span", { text: `${time(top)} and more` })));
  }

  return {
    add(ms) {
      times.push(ms);
      if (times.length > KEPT) times.shift();
      draw();
    },
  };
}
