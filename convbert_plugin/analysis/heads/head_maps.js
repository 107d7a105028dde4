const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUES = new Map(Array.from(DIGITS, (digit, value) => [digit, value]));
const NARROW = matchMedia("(max-width: 640px)");
const place = document.getElementById(DATA.place);
// The word is what was chosen; what the pointer is over stands before it while it is there.
const chosen = { text: 0, model: 0, layer: 0, head: 0, word: 0 };
let over = { word: null, key: null };
// CSS pixels: what there is, or on paper.
const room = () => (place.classList.contains("printed") ? 640 : place.clientWidth);

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Two letters are a number from 0 to 1 in 4,095ths.
const decoded = new Map();
function numbers(kind) {
  const key = [kind, chosen.text, chosen.model].join();
  if (!decoded.has(key)) {
    const letters = DATA.texts[chosen.text][kind][chosen.model];
    const read = new Float32Array(letters.length / 2);
    for (let at = 0; at < read.length; at++)
      read[at] = (64 * VALUES.get(letters[2 * at]) + VALUES.get(letters[2 * at + 1])) / 4095;
    decoded.set(key, read);
  }
  return decoded.get(key);
}

const text = () => DATA.texts[chosen.text];
const model = () => DATA.models[chosen.model];
const size = () => text().words.length;
const isWhole = () => size() === text().tokens;
const word = () => (over.word === null ? chosen.word : over.word);

// Rows of a map: a word each; where the text goes on, the share beyond stands last.
function rows(layer, head) {
  const width = size() + !isWhole(), all = numbers("attention");
  const first = (layer * model().heads + head) * size() * width;
  return Array.from({ length: size() }, (_, row) =>
    all.subarray(first + row * width, first + (row + 1) * width));
}

function kernels(layer, head) {
  const taps = model().taps, all = numbers("kernels");
  const first = (layer * model().heads + head) * size() * taps;
  return taps ? Array.from({ length: size() }, (_, row) =>
    all.subarray(first + row * taps, first + (row + 1) * taps)) : [];
}

const most = (lists, count) => lists.reduce(
  (found, list) => list.subarray(0, count).reduce((a, b) => Math.max(a, b), found), 1 / 4095);
const percent = (share) => (100 * share).toFixed(1) + "%";
const brief = (share) => (share < 0.005 ? "" : share < 0.0995 ? (100 * share).toFixed(1)
  : String(Math.round(100 * share)));
const signed = (number, digits) =>
  (number < 0 ? "−" : "+") + Math.abs(number).toFixed(digits);
const shortened = (whole, count) => {
  const letters = Array.from(whole);
  return letters.length > count ? letters.slice(0, count - 1).join("") + "…" : whole;
};

function color(name) {
  const value = getComputedStyle(place).getPropertyValue("--" + name).trim().slice(1);
  const whole = value.length === 3 ? value.replace(/./g, "$&$&") : value;
  return [0, 2, 4].map((at) => parseInt(whole.slice(at, at + 2), 16));
}

// The root, so that what is faint beside the strongest is seen.
function painted(width, height, strength, ink) {
  const canvas = make("canvas", { width, height }), paper = color("paper"), full = color(ink);
  const image = new ImageData(width, height);
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at += 4) {
      const part = Math.sqrt(Math.min(1, strength(x, y)));
      for (let c = 0; c < 3; c++) image.data[at + c] = paper[c] + part * (full[c] - paper[c]);
      image.data[at + 3] = 255;
    }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function paintedMap(layer, head) {
  const map = rows(layer, head), top = most(map, size());
  return painted(size(), size(), (x, y) => map[y][x] / top, "look");
}

function paintedKernels(layer, head) {
  const band = kernels(layer, head), top = most(band);
  return painted(size(), model().taps, (x, y) => band[x][y] / top, "taps");
}

const map = make("canvas", { class: "map", role: "img" });
const scale = make("p", { class: "hint" });
let layout = null;

function drawMap() {
  const dots = Math.max(1, devicePixelRatio || 1), context = map.getContext("2d");
  const count = size(), taps = model().taps, font = "12px system-ui, sans-serif";
  const css = (name) => "rgb(" + color(name).join() + ")";
  const names = text().words.map((each) => shortened(each, NARROW.matches ? 9 : 16));
  context.font = "bold " + font;
  const edge = 10 + Math.ceil(Math.max(24, ...names.map((each) => context.measureText(each).width)));
  const box = Math.min(room(), 820);
  const cell = Math.min(26, (box - edge - 2) / count), side = cell * count;
  const high = taps ? Math.max(3, Math.min(cell, 14, 200 / taps)) : 0, gap = taps ? 22 : 2;
  layout = { edge, cell, count, low: edge + side + gap, high, taps };
  const width = edge + side + 2, height = layout.low + high * taps + 2;
  map.width = Math.round(width * dots); map.height = Math.round(height * dots);
  map.style.width = width + "px";
  context.setTransform(dots, 0, 0, dots, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(paintedMap(chosen.layer, chosen.head), edge, edge, side, side);
  context.strokeStyle = css("muted");
  context.strokeRect(edge, edge, side, side);
  const own = word(), step = Math.ceil(14 / cell);
  context.direction = "ltr"; context.textBaseline = "middle"; context.fillStyle = css("ink");
  names.forEach((each, at) => {
    // Of many words some, and those that are looked at before their neighbours.
    const mark = (number) => at === number;
    const isNear = (number) => number !== null && Math.abs(at - number) * cell < 14;
    const write = (isMarked) => {
      context.font = (isMarked ? "bold " : "") + font;
      context.fillText(each, 0, 0);
    };
    if (mark(own) || (at % step === 0 && !isNear(own))) {
      context.textAlign = "right";
      context.setTransform(dots, 0, 0, dots, dots * (edge - 5), dots * (edge + (at + 0.5) * cell));
      write(mark(own));
    }
    if (mark(over.key) || (at % step === 0 && !isNear(over.key))) {
      context.textAlign = "left";
      context.setTransform(0, -dots, dots, 0, dots * (edge + (at + 0.5) * cell), dots * (edge - 5));
      write(mark(over.key));
    }
  });
  context.setTransform(dots, 0, 0, dots, 0, 0);
  context.lineWidth = 2; context.strokeStyle = css("ink");
  context.strokeRect(edge, edge + own * cell, side, cell);
  if (over.key !== null)
    context.strokeRect(edge + over.key * cell, edge + own * cell, cell, cell);
  if (taps) {
    context.drawImage(paintedKernels(chosen.layer, chosen.head), edge, layout.low, side, high * taps);
    context.lineWidth = 1; context.strokeStyle = css("muted");
    context.strokeRect(edge, layout.low, side, high * taps);
    context.lineWidth = 2; context.strokeStyle = css("ink");
    context.strokeRect(edge + own * cell, layout.low, cell, high * taps);
    context.font = font; context.textAlign = "right";
    for (const tap of new Set([0, taps >> 1, taps - 1]))
      context.fillText(tap === taps >> 1 ? "0" : signed(tap - (taps >> 1), 0), edge - 5,
        layout.low + (tap + 0.5) * high);
    context.textAlign = "left";
    context.fillText("kernel of each word", edge, layout.low - 10);
  }
  const strongest = most(rows(chosen.layer, chosen.head), count);
  map.setAttribute("aria-label", "Attention map of layer " + chosen.layer + ", head " +
    chosen.head + ": the buttons above tell each row");
  scale.replaceChildren("Rows look, columns are looked at: 0%",
    make("span", { class: "scale look" }), percent(strongest) + " (its middle: " +
    percent(strongest / 4) + ")", ...(taps ? [" · kernel: 0%",
      make("span", { class: "scale taps" }),
      percent(most(kernels(chosen.layer, chosen.head)))] : []));
}

function cellAt(event) {
  const { edge, cell, count, low, high, taps } = layout;
  const at = (position) => Math.floor((position - edge) / cell);
  const key = at(event.offsetX), row = at(event.offsetY);
  if (key < 0 || key >= count) return null;
  if (row >= 0 && row < count) return { word: row, key };
  const tap = Math.floor((event.offsetY - low) / high);
  if (tap < 0 || tap >= taps) return null;
  const under = key + tap - (taps >> 1);
  return { word: key, key: under >= 0 && under < count ? under : null };
}
