// Arrow keys go through the buttons of a group, of which Tab reaches the chosen one.
function roving(group, moves) {
  group.addEventListener("keydown", (event) => {
    const buttons = [...group.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement), step = moves()[event.key];
    if (at < 0 || step === undefined) return;
    event.preventDefault();
    const to = Math.max(0, Math.min(buttons.length - 1, at + step));
    if (step === -Infinity || step === Infinity || buttons[at + step]) {
      buttons[to].click();
      [...group.querySelectorAll("button")][to].focus();
    }
  });
}

const fields = make("div", { class: "fields" });
const told = make("p", { class: "told" });
const grid = make("div", { class: "grid", role: "group", "aria-label": "Layers and heads" });
const words = make("div", { class: "words", role: "group", "aria-label": "Words", dir: "ltr" });
const legend = make("p", { class: "hint" });
const reading = make("p", { class: "told reading", "aria-live": "polite" });
const places = make("div", { class: "places" });

function field(name, label, options) {
  const select = make("select", { onchange: () => choose({ [name]: Number(select.value) }) },
    ...options.map((option, value) => make("option", { value }, option)));
  select.value = chosen[name];
  return make("label", {}, label, select);
}

const range = (count) => Array.from({ length: count }, (_, number) => String(number));

function choose(changes) {
  Object.assign(chosen, changes);
  over = { word: null, key: null };
  chosen.layer = Math.min(chosen.layer, model().layers - 1);
  chosen.head = Math.min(chosen.head, model().heads - 1);
  chosen.word = Math.min(chosen.word, size() - 1);
  const isNew = "text" in changes || "model" in changes;
  if (isNew) drawGrid();
  if (isNew || "layer" in changes || "head" in changes) { drawFields(); markGrid(); tellHead(); }
  if (isNew) drawWords();
  show();
}

function drawFields() {
  const focused = [...fields.querySelectorAll("select")].indexOf(document.activeElement);
  const options = DATA.texts.map((each) =>
    "line " + each.line + ": " + shortened(each.words.join(" "), 60));
  const all = [field("text", "Text ", options)];
  if (DATA.models.length > 1)
    all.push(field("model", "Model ", DATA.models.map((each) => each.name)));
  all.push(field("layer", "Layer ", range(model().layers)));
  all.push(field("head", "Head ", range(model().heads)));
  fields.replaceChildren(...all);
  if (focused >= 0) fields.querySelectorAll("select")[focused].focus();
}

function tellHead() {
  const { layer, head } = chosen, name = layer + "." + head;
  const at = (measure) => measure[layer][head];
  const { attention, kernels: taps } = model();
  told.replaceChildren(make("b", {}, name), ": " + percent(at(attention.local_share)) +
    " of its attention in all texts lies within ±" + DATA.reach + " (uniform: " +
    percent(DATA.uniform.local_share) + "), mean distance " +
    at(attention.mean_distance).toFixed(2) + " tokens. " + (taps
    ? "Its kernel: centre " + signed(at(taps.centre), 2) + ", entropy " +
      at(taps.entropy).toFixed(2) + " of at most " + Math.log(model().taps).toFixed(2) +
      " nats, " + Math.max(0, at(taps.token_information)).toFixed(3) + " told by the token."
    : "No kernels: " + model().without + "."));
}

function drawGrid() {
  const { layers, heads, taps } = model(), isTurned = NARROW.matches;
  const across = isTurned ? heads : layers, down = isTurned ? layers : heads;
  const widest = (room() - 50) / across - 9;
  const side = Math.max(18, Math.min(widest, 84, (isTurned ? 720 : 420) / down - 22));
  const at = (column, row) => "grid-column:" + (column + 2) + ";grid-row:" + (row + 2);
  grid.replaceChildren();
  for (let x = 0; x < across; x++)
    grid.append(make("span", { style: at(x, -1) }, String(x)));
  for (let y = 0; y < down; y++)
    grid.append(make("span", { style: at(-1, y) }, (isTurned ? "layer " : "head ") + y));
  for (let layer = 0; layer < layers; layer++)
    for (let head = 0; head < heads; head++) {
      const parts = [paintedMap(layer, head)];
      parts[0].style.cssText = "width:" + side + "px;height:" + side + "px";
      if (taps) {
        parts.push(paintedKernels(layer, head));
        parts[1].style.cssText = "width:" + side + "px;height:" + Math.min(side / 4, 18) + "px";
      }
      if (size() < side) parts.forEach((part) => { part.style.imageRendering = "pixelated"; });
      grid.append(make("button", {
        type: "button", class: "head", "aria-label": "layer " + layer + ", head " + head,
        title: layer + "." + head, style: isTurned ? at(head, layer) : at(layer, head),
        onclick: () => choose({ layer, head }),
      }, ...parts));
    }
  markGrid();
}

function markGrid() {
  grid.querySelectorAll("button").forEach((button, number) => {
    const isChosen = number === chosen.layer * model().heads + chosen.head;
    button.setAttribute("aria-pressed", isChosen);
    button.tabIndex = isChosen ? 0 : -1;
  });
}

function drawWords() {
  words.replaceChildren(...text().words.map((each, number) => make("button", {
    type: "button", class: "word",
    onclick: () => choose({ word: number }),
    onpointerenter: (event) => { if (event.pointerType !== "touch") hover(number, null); },
    onpointerleave: () => hover(null, null),
  }, make("bdi", {}, each),
  make("span", { class: "bars" }, make("i", { class: "bar" }), ...(model().taps
    ? [make("i", { class: "bar taps" })] : [])),
  make("span", { class: "share" }),
  ...(model().taps ? [make("span", { class: "share taps" })] : []))));
}

function hover(row, key) {
  if (over.word === row && over.key === key) return;
  over = { word: row, key };
  show();
}

function show() {
  const own = word(), row = rows(chosen.layer, chosen.head)[own];
  const taps = model().taps, kernel = taps ? kernels(chosen.layer, chosen.head)[own] : [];
  const first = own - (taps >> 1), top = most([row], size()), highest = taps ? most([kernel]) : 1;
  words.querySelectorAll("button").forEach((button, number) => {
    const [bar, band] = button.querySelectorAll(".bar");
    const [share, weight] = button.querySelectorAll(".share");
    button.classList.toggle("own", number === own);
    button.setAttribute("aria-pressed", number === chosen.word);
    button.tabIndex = number === chosen.word ? 0 : -1;
    bar.style.height = 100 * row[number] / top + "%";
    share.textContent = brief(row[number]);
    if (!taps) return;
    const tap = number - first, isUnder = tap >= 0 && tap < taps;
    band.classList.toggle("under", isUnder);
    band.style.height = (isUnder ? 100 * kernel[tap] / highest : 0) + "%";
    weight.textContent = isUnder ? brief(kernel[tap]) : "";
  });
  legend.replaceChildren(make("span", { class: "key look" }),
    "where “", make("bdi", {}, text().words[own]), "” looks, in percent (full bar: " +
    percent(top) + ") ",
    ...(taps ? [make("span", { class: "key taps" }),
      "its kernel, a tap a word, in percent (full bar: " + percent(highest) + ")"] : []),
    ...(isWhole() ? [] : [" beyond what is shown: " + percent(row[size()])]));
  tellReading(row, kernel, first);
  drawMap();
}

function tellReading(row, kernel, first) {
  const own = word(), all = text().words, name = (at) => make("bdi", {}, all[at]);
  if (over.key !== null) {
    const tap = over.key - first, isUnder = tap >= 0 && tap < kernel.length;
    reading.replaceChildren("“", name(own), "” to “", name(over.key), "” (" +
      signed(over.key - own, 0) + "): attention " + percent(row[over.key]) +
      (isUnder ? ", kernel " + percent(kernel[tap]) : ""));
    return;
  }
  const order = [...row.subarray(0, size()).keys()].sort((a, b) => row[b] - row[a]).slice(0, 4);
  reading.replaceChildren("“", name(own), "” looks most at ", ...order.flatMap((at, number) =>
    [(number ? ", “" : "“"), name(at), "” " + percent(row[at])]));
}

map.addEventListener("pointermove", (event) => {
  const found = event.pointerType === "touch" ? null : cellAt(event);
  if (event.pointerType !== "touch") hover(found && found.word, found && found.key);
});
map.addEventListener("pointerleave", (event) => {
  if (event.pointerType !== "touch") hover(null, null);
});
map.addEventListener("click", (event) => {
  const found = cellAt(event);
  if (!found) return;
  choose({ word: found.word });
  hover(found.word, found.key);
});

function drawPlaces() {
  const all = DATA.models.flatMap((each, model) =>
    each.places.map((found) => ({ ...found, model })));
  const lines = new Map(DATA.texts.map((each, number) => [each.line, number]));
  const shown = all.filter((found) => lines.has(found.line) &&
    found.position < DATA.texts[lines.get(found.line)].words.length);
  for (const kind of new Set(shown.map((found) => found.kind)))
    for (const number of new Set(shown.map((found) => found.model))) {
      const of = shown.filter((found) => found.kind === kind && found.model === number);
      if (!of.length) continue;
      places.append(make("h3", {}, "Kernel " + of[0].head.join(".") + ", " + kind +
        (DATA.models.length > 1 ? ": " + DATA.models[number].name : "")));
      for (const found of of)
        places.append(make("button", { type: "button", onclick: () => choose({
          text: lines.get(found.line), model: number, layer: found.head[0], head: found.head[1],
          word: found.position,
        }) }, make("bdi", {}, found.token), " (line " + found.line + ")"));
    }
}

function drawAll() { drawGrid(); show(); }

document.head.append(make("style", {}, DATA.style));
place.replaceChildren(fields, told, make("h3", {}, "Layers and heads"), grid,
  make("h3", {}, "Words"), legend, words,
  make("p", { class: "hint keys" }, "Hover over a word, or tap it, to see where it looks. Keys: " +
    "Tab, then arrows; among the words, up and down change the layer."),
  make("h3", {}, "Map"), scale, reading, map, places);
roving(grid, () => {
  const [layer, head] = NARROW.matches ? ["Vertical", "Horizontal"] : ["Horizontal", "Vertical"];
  const steps = { [layer]: model().heads, [head]: 1 };
  return { ArrowRight: steps.Horizontal, ArrowLeft: -steps.Horizontal,
    ArrowDown: steps.Vertical, ArrowUp: -steps.Vertical };
});
roving(words, () => ({ ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }));
words.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  choose({ layer: Math.max(0, chosen.layer + step) });
});
choose({ text: 0, word: size() >> 1 });
drawPlaces();
let width = place.clientWidth;
addEventListener("resize", () => {
  if (place.clientWidth !== width) { width = place.clientWidth; drawAll(); }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("beforeprint", () => { place.classList.add("printed"); drawAll(); });
addEventListener("afterprint", () => { place.classList.remove("printed"); drawAll(); });
