"use strict";
const read = (id) => JSON.parse(document.getElementById(id).textContent);

// ---- pictures: step, window, layers
const { knots, windows } = read("windows");
const tables = [...document.querySelectorAll("#hu feComponentTransfer > *")];

function huOf(step) {
  const k = Math.max(1, knots.findIndex((knot) => knot[0] >= step));
  const [[a, low], [b, high]] = [knots[k - 1], knots[k]];
  return low + ((high - low) * (step - a)) / (b - a);
}

function setWindow(level, width) {
  const grey = [];
  for (let step = 0; step < 256; step++) {
    grey.push(Math.min(1, Math.max(0, (huOf(step) - level) / width + 0.5)).toFixed(3));
  }
  for (const table of tables) table.setAttribute("tableValues", grey.join(" "));
  for (const panel of document.querySelectorAll(".window")) {
    for (const [name, value] of [["level", level], ["width", width]]) {
      const input = panel.querySelector("." + name);
      input.value = value;
      input.parentElement.querySelector("output").textContent = value;
    }
  }
}

let active = null;
const viewers = [...document.querySelectorAll(".viewer")].map((viewer) => {
  const cuts = [...viewer.querySelectorAll(".cut")];
  const slider = viewer.querySelector(".step input");
  const shown = viewer.querySelector(".step output");
  let place = Number(viewer.dataset.start);
  const api = {
    viewer,
    last: cuts.length - 1,
    get place() { return place; },
    show(next) {
      cuts[place].hidden = true;
      place = Math.min(cuts.length - 1, Math.max(0, next));
      cuts[place].hidden = false;
      slider.value = place;
      shown.textContent = `${place + 1} of ${cuts.length}`;
    },
  };
  slider.addEventListener("input", () => api.show(Number(slider.value)));
  viewer.addEventListener("pointerdown", () => { active = api; });
  viewer.addEventListener("focusin", () => { active = api; });
  const stage = viewer.querySelector(".stage");
  stage.addEventListener("wheel", (event) => {
    if (!viewer.contains(document.activeElement)) return;
    event.preventDefault();
    api.show(place + (event.deltaY > 0 ? 1 : -1));
  }, { passive: false });
  const panel = viewer.querySelector(".window");
  if (panel) {
    const [level, width] = ["level", "width"].map((name) => panel.querySelector("." + name));
    panel.addEventListener("input", () => setWindow(Number(level.value), Number(width.value)));
    panel.addEventListener("click", (event) => {
      const chosen = windows[event.target.dataset.window];
      if (chosen) setWindow(chosen[1], chosen[2]);
    });
    let drag = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      viewer.focus({ preventScroll: true });
      drag = [event.clientX, event.clientY, Number(level.value), Number(width.value)];
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const [dx, dy] = [event.clientX - drag[0], event.clientY - drag[1]];
      setWindow(Math.round(drag[2] - 2 * dy), Math.max(20, Math.round(drag[3] + 3 * dx)));
    });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });
  }
  for (const box of viewer.querySelectorAll("[data-layer]")) {
    const set = () => viewer.classList.toggle("off-" + box.dataset.layer, !box.checked);
    box.addEventListener("change", set);
    set();
  }
  api.show(place);
  return api;
});
active = viewers[0] || null;
const first = document.querySelector(".window");
if (first) setWindow(Number(first.querySelector(".level").defaultValue), Number(first.querySelector(".width").defaultValue));

document.addEventListener("keydown", (event) => {
  if (!active || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches("input, button, a, summary")) return;
  const inside = active.viewer.contains(document.activeElement);
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  if (inside) Object.assign(steps, { ArrowUp: 1, ArrowDown: -1, PageUp: 5, PageDown: -5 });
  if (event.key in steps) active.show(active.place + steps[event.key]);
  else if (inside && event.key === "Home") active.show(0);
  else if (inside && event.key === "End") active.show(active.last);
  else return;
  event.preventDefault();
});

// ---- plots, and a still picture of each for paper
async function plot(place) {
  const figure = read(place.id + "-data");
  const drawn = document.createElement("div");
  place.append(drawn);
  await Plotly.newPlot(drawn, figure.data, figure.layout, { displaylogo: false, responsive: true });
  const still = document.createElement("img");
  still.alt = "";
  const height = Number(place.dataset.height);
  const kind = place.classList.contains("solid") ? "png" : "svg";
  still.src = await Plotly.toImage(drawn, { format: kind, width: 980, height, scale: kind === "png" ? 1.6 : 1 });
  place.append(still);
}
const plots = Promise.allSettled([...document.querySelectorAll(".plot")].map(plot));
plots.then((results) => {
  for (const result of results) if (result.status === "rejected") console.error(String(result.reason));
  document.documentElement.dataset.ready = "yes";
});

// ---- paper
const say = (id, action) => document.getElementById(id)?.addEventListener("click", action);
say("print-page", () => plots.then(() => window.print()));
for (const name of ["chart", "set-up"]) {
  say(`print-${name}`, () => { document.body.classList.add(`${name}-only`); window.print(); });
  window.addEventListener("afterprint", () => document.body.classList.remove(`${name}-only`));
}
