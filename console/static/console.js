// Makes the charts of the first page ones to point at, and keeps them up to date. Without it the page shows the same lines, as they
// were when it was made; what else changes on the page, htmx fetches.
"use strict";
(() => {
  const place = document.querySelector("[data-charts]");
  if (!place || !window.uPlot) return;
  const plots = {};
  const dim = () => getComputedStyle(document.querySelector(".dim") || document.body).color;
  // light-dark() has to be resolved by an element that uses it.
  const resolve = (i) => {
    const probe = document.createElement("i");
    probe.className = "swatch s" + (i % 6);
    place.append(probe);
    const c = getComputedStyle(probe).backgroundColor;
    probe.remove();
    return c;
  };
  const draw = (id, chart, times) => {
    const box = document.getElementById("chart-" + id);
    if (!box || !chart.lines.length || times.length < 2) return;
    const data = [times, ...chart.lines.map((l) => l.values)];
    const names = chart.lines.map((l) => l.name).join("\n");
    if (plots[id] && plots[id].names === names) {
      plots[id].plot.setData(data);
      return;
    }
    if (plots[id]) plots[id].plot.destroy();
    box.querySelectorAll(":scope > svg, :scope > .legend, :scope > p").forEach((e) => e.remove());
    const axis = { stroke: dim(), grid: { stroke: "rgba(128,128,128,.2)", width: 1 }, ticks: { show: false } };
    const plot = new uPlot({
      width: box.clientWidth - 30, height: 150, padding: [null, 26, null, null], tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC"),
      cursor: { y: false }, scales: { y: { range: (u, min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [{ ...axis, space: 70, values: (u, ticks) => ticks.map((v) => new Date(v * 1e3).toISOString().slice(11, 19)) }, { ...axis, size: 46 }],
      series: [{ label: "at", value: (u, v) => (v == null ? "" : new Date(v * 1e3).toISOString().slice(11, 19)) },
        ...chart.lines.map((l, i) => ({ label: l.name, stroke: resolve(i), width: 1.6,
          points: { show: true, size: 4, filter: (u, s) => u.data[s].flatMap((v, n, d) => (v != null && d[n - 1] == null && d[n + 1] == null ? n : [])) }, // those that stand alone
          // Without a pointer on the chart the legend has the last value.
          value: (u, v, s, n) => ((w) => (w == null ? "–" : +w.toPrecision(3)))(n == null ? u.data[s].at(-1) : v) }))],
    }, data, box);
    plots[id] = { plot, names };
  };
  const look = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(place.dataset.charts, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      const all = await answer.json();
      for (const [id, chart] of Object.entries(all.charts)) draw(id, chart, all.times);
    } catch { /* the server is away: the next look may find it */ }
  };
  addEventListener("resize", () => {
    for (const [id, p] of Object.entries(plots)) p.plot.setSize({ width: document.getElementById("chart-" + id).clientWidth - 30, height: 150 });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
  look();
  setInterval(look, 3000);
})();
