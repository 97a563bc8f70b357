// Charts do not adapt to the width of paper by themselves, and closed details are not printed.
const charts = () => document.querySelectorAll(".js-plotly-plot");
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  charts().forEach(c => Plotly.relayout(c, {width: 660}));
});
addEventListener("afterprint", () => {
  charts().forEach(c => Plotly.relayout(c, {width: null, autosize: true}));
});
