// What a page looks like where it stands: what is cut off, small, unnamed, and of which colours.
// The value is a plain object; looking.py judges it. Lengths are CSS pixels.
(() => {
  const SLACK = 1.5, NEAR = 3;
  const found = {sideways: [], cut: [], over: [], texts: [], unnamed: [], marks: []};
  const root = document.documentElement;

  const short = (words) => words.trim().replace(/\s+/g, " ").slice(0, 60);
  const named = (element) => {
    const id = element.id ? `#${element.id}` : "";
    const css = typeof element.className === "string" ? element.className.trim() : "";
    return `<${element.localName}${id}${css ? "." + css.split(/\s+/).join(".") : ""}>`;
  };
  const isShown = (element) =>
    element.checkVisibility({opacityProperty: true, visibilityProperty: true});

  // Colours as the browser computes them, in whatever notation: red, green, blue, alpha of 0 to 1.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const known = new Map();
  const rgba = (words) => {
    if (!known.has(words)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = words;
      canvas.fillRect(0, 0, 1, 1);
      const bytes = [...canvas.getImageData(0, 0, 1, 1).data];
      // Of low alpha a canvas keeps few bits of colour: the words themselves have them.
      const plain = /^rgba?\(([^)]*)\)$/.exec(words);
      if (plain) {
        const numbers = plain[1].split(/[\s,/]+/).map(Number);
        known.set(words, [numbers[0] / 255, numbers[1] / 255, numbers[2] / 255, numbers[3] ?? 1]);
      } else {
        known.set(words, bytes.map((byte) => byte / 255));
      }
    }
    return [...known.get(words)];
  };
  const opacityOf = (element) => {
    let product = 1;
    for (let at = element; at; at = at.parentElement)
      product *= Number(getComputedStyle(at).opacity);
    return product;
  };
  const isPaint = (words) => words !== "none" && !words.startsWith("url(");
  const painted = (element, property) => {
    const style = getComputedStyle(element);
    if (!isPaint(style[property])) return null;
    const color = rgba(style[property]);
    color[3] *= Number(style[`${property}Opacity`]) * opacityOf(element);
    return color[3] > 0 ? color : null;
  };

  // Behind an element: its own and its ancestors' backgrounds, the uppermost first. null: a picture.
  const isDropped = (style) => matchMedia("print").matches && style.printColorAdjust !== "exact";
  const backgrounds = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      if (isDropped(style)) continue;
      if (style.backgroundImage !== "none") return null;
      const color = rgba(style.backgroundColor);
      color[3] *= opacityOf(at);
      if (color[3] > 0) layers.push(color);
      if (color[3] >= 1) return layers;
    }
    // Nothing is painted: the canvas of the browser, which color-scheme may have dark.
    const isDark = getComputedStyle(root).colorScheme.includes("dark") &&
      matchMedia("(prefers-color-scheme: dark)").matches && !matchMedia("print").matches;
    if (isDark) layers.push([18 / 255, 18 / 255, 18 / 255, 1]);
    return layers;
  };
  const inside = (box, x, y) => x > box.left && x < box.right && y > box.top && y < box.bottom;
  const holds = (shape, point) => !shape.isPointInFill || shape.isPointInFill(point);
  // Whether a part shows at a place, or is cut off there.
  const isPaintedAt = (part, x, y) => {
    if (!inside(part.getBoundingClientRect(), x, y)) return false;
    const place = (at) => new DOMPoint(x, y).matrixTransform(at.getScreenCTM().inverse());
    if (!holds(part, place(part))) return false;
    for (let at = part; at.localName !== "svg"; at = at.parentElement) {
      const [, id] = /#([^")]+)/.exec(getComputedStyle(at).clipPath) || [];
      const clip = id && at.getRootNode().getElementById(id);
      if (clip && ![...clip.children].some((shape) => holds(shape, place(at)))) return false;
    }
    return true;
  };
  // What a picture has painted before a part, at its middle.
  const behindPart = (part, picture) => {
    const box = part.getBoundingClientRect();
    const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
    const layers = [];
    for (const shape of picture.shapes) {
      const order = shape.compareDocumentPosition(part);
      if (!(order & Node.DOCUMENT_POSITION_FOLLOWING)) break;
      if (order & Node.DOCUMENT_POSITION_CONTAINED_BY) continue;
      const color = painted(shape, "fill");
      if (color && isPaintedAt(shape, x, y)) layers.unshift(color);
    }
    const page = backgrounds(picture.shownIn);
    return page && [...layers, ...page];
  };

  // The page as a whole, and what scrolls in it.
  const width = root.clientWidth;
  if (document.scrollingElement.scrollWidth > width + SLACK) {
    const wide = [...document.body.querySelectorAll("*")].filter((element) => {
      const box = element.getBoundingClientRect();
      return box.width > 0 && box.right + scrollX > width + SLACK;
    });
    const last = wide.filter((element) => !wide.some((other) => element.contains(other) && other !== element));
    const by = document.scrollingElement.scrollWidth - width;
    found.sideways.push({what: `the page, by ${Math.round(by)} px`, of: last.slice(0, 3).map(named)});
  }
  for (const element of document.body.querySelectorAll("*")) {
    const style = getComputedStyle(element);
    const hides = /auto|scroll|hidden|clip/.test(style.overflowX);
    if (!hides || element instanceof SVGElement || !isShown(element)) continue;
    const by = element.scrollWidth - element.clientWidth;
    if (/auto|scroll/.test(style.overflowX) && element.clientWidth && by > SLACK)
      found.sideways.push({what: `${named(element)}, by ${Math.round(by)} px`, of: []});
  }

  // Texts of the page.
  const clipping = (element) => {
    const boxes = [];
    for (let at = element; at && at !== document.body; at = at.parentElement) {
      const style = getComputedStyle(at);
      const box = at.getBoundingClientRect();
      // For screen readers alone.
      if (box.width <= 1 && box.height <= 1 && style.overflowX !== "visible") return null;
      if (/inset\((50|100)%\)/.test(style.clipPath)) return null;
      const isLost = matchMedia("print").matches ? /auto|scroll|hidden|clip/ : /hidden|clip/;
      boxes.push({box, x: isLost.test(style.overflowX), y: isLost.test(style.overflowY)});
    }
    return boxes;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("svg, script, style, noscript, template")) continue;
    if (!isShown(element)) continue;
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()].filter((box) => box.width && box.height);
    const clips = clipping(element);
    if (!boxes.length || !clips) continue;
    const words = short(node.data);
    const isCut = boxes.some((box) =>
      box.left + scrollX < -SLACK ||
      clips.some((clip) =>
        (clip.x && (box.right > clip.box.right + SLACK || box.left < clip.box.left - SLACK)) ||
        (clip.y && (box.bottom > clip.box.bottom + 4 || box.top < clip.box.top - 4))));
    if (isCut) found.cut.push({words, where: named(element)});
    const style = getComputedStyle(element);
    const color = rgba(style.color);
    color[3] *= opacityOf(element);
    if (color[3] === 0) continue;
    const size = parseFloat(style.fontSize);
    const behind = backgrounds(element);
    found.texts.push({words, where: named(element), size, color, behind,
                      isBold: Number(style.fontWeight) >= 700});
  }

  // Pictures: those of the page, and those in an <img>, laid where they are shown.
  const hosts = [];
  const drawnIn = (image) => {
    const [, encoding, body] = /^data:image\/svg\+xml([^,]*),(.*)$/s.exec(image.currentSrc) || [];
    if (!body) return null;
    const bytes = encoding.endsWith("base64") ? atob(body) : "";
    const text = bytes
      ? new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)))
      : decodeURIComponent(body);
    const drawing = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
    const box = image.getBoundingClientRect();
    const host = document.createElement("div");
    host.style.cssText = `position: absolute; left: ${box.left + scrollX}px;
      top: ${box.top + scrollY}px; width: ${box.width}px; height: ${box.height}px; color: black`;
    document.body.append(host);
    hosts.push(host);
    const copy = document.importNode(drawing, true);
    copy.setAttribute("width", box.width);
    copy.setAttribute("height", box.height);
    host.attachShadow({mode: "open"}).append(copy);
    return copy;
  };
  const hasName = (element) => {
    if (element.localName === "img") return Boolean(element.alt.trim());
    const by = (element.getAttribute("aria-labelledby") || "").split(/\s+/).filter(Boolean);
    return Boolean(
      (element.getAttribute("aria-label") || "").trim() || element.getAttribute("title") ||
      by.some((id) => document.getElementById(id)?.textContent.trim()) ||
      element.querySelector(":scope > title")?.textContent.trim());
  };
  const isHidden = (element) =>
    element.closest("[aria-hidden=true], [role=presentation], [role=none]") !== null;

  const SHAPES = "path, rect, circle, ellipse, line, polyline, polygon, use";
  const measure = (svg, shownIn, name) => {
    const whole = svg.getBoundingClientRect();
    const isInDefinition = (part) => part.closest("defs, clipPath, pattern, marker, symbol, mask");
    const shapes = [...svg.querySelectorAll(SHAPES)].filter((part) => !isInDefinition(part));
    const picture = {shapes, shownIn};
    const texts = [...svg.querySelectorAll("text")].filter((part) => isShown(part) && part.textContent.trim());
    const placed = [];
    for (const part of texts) {
      const words = short(part.textContent);
      const matrix = part.getScreenCTM();
      const style = getComputedStyle(part);
      const size = parseFloat(style.fontSize) * Math.sqrt(Math.abs(matrix.a * matrix.d - matrix.b * matrix.c));
      const box = part.getBoundingClientRect();
      const out = Math.max(whole.left - box.left, box.right - whole.right, whole.top - box.top, box.bottom - whole.bottom);
      if (out > SLACK && getComputedStyle(svg).overflow !== "visible")
        found.cut.push({words, where: name});
      const color = painted(part, "fill");
      if (color)
        found.texts.push({words, where: name, size, color, behind: behindPart(part, picture),
                          isBold: Number(style.fontWeight) >= 700});
      // The box of a slanted text is no measure of where it is.
      const isSlanted = Math.min(Math.abs(matrix.a), Math.abs(matrix.b)) > 0.01 * Math.hypot(matrix.a, matrix.b);
      if (!isSlanted) placed.push({words, box});
    }
    placed.forEach((one, place) => {
      for (const other of placed.slice(place + 1)) {
        const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
        const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
        const height = Math.min(one.box.height, other.box.height);
        // Side by side in one line, nearer than a space, they are read as one.
        if (down > 0.3 * height && across > (down > 0.8 * height ? -NEAR : 2))
          found.over.push({words: `${one.words}" and "${other.words}`, where: name});
      }
    });
    for (const part of shapes) {
      if (!isShown(part)) continue;
      const box = part.getBoundingClientRect();
      if (!box.width && !box.height) continue;
      const style = getComputedStyle(part);
      const target = part.localName === "use" ? svg.getRootNode().getElementById(part.href.baseVal.slice(1)) : part;
      const [fill, stroke] = [painted(part, "fill"), painted(part, "stroke")];
      const behind = backgrounds(shownIn);
      const add = (kind, color) => found.marks.push({where: name, kind, color, behind});
      // The outline of a marker is one of a few; other shapes are where the data have them.
      const isMarker = /^(use|circle|ellipse|polygon)$/.test(part.localName);
      const outline = `marker ${target?.getAttribute("d") || target?.localName}`;
      if (style.fill.startsWith("url(")) add(`pattern ${style.fill}`, stroke);
      else if (fill) add(isMarker ? outline : "area", fill);
      if (stroke && String(stroke) !== String(fill))
        add(isMarker ? `open ${outline}` : `line ${style.strokeDasharray}`, stroke);
    }
  };

  const unnamed = (element, what) => found.unnamed.push(`${what} ${named(element)}`);
  const images = [...document.images];
  images.forEach((image) => {
    if (!isHidden(image) && !hasName(image)) unnamed(image, "picture");
  });
  const drawings = [...document.querySelectorAll("svg, canvas")].filter(
    (element) => !element.parentElement.closest("svg") && isShown(element));
  for (const drawing of drawings) {
    // What has a name as a whole hides its parts.
    const whole = drawing.parentElement.closest("button, a, [role=img]");
    if (isHidden(drawing) || (whole && hasName(whole))) continue;
    if (!hasName(drawing)) unnamed(drawing, "picture");
    else if (drawing.localName === "svg" && drawing.getAttribute("role") !== "img")
      unnamed(drawing, 'picture without role="img"');
  }
  for (const control of document.querySelectorAll("input, select, textarea, button, a[href]")) {
    if (control.type === "hidden" || isHidden(control)) continue;
    const inner = /button|a/.test(control.localName) ? control.textContent.trim() : "";
    if (!inner && !hasName(control) && ![...(control.labels || [])].some((label) => label.textContent.trim()))
      unnamed(control, "control");
  }
  for (const table of document.querySelectorAll("table"))
    if (!table.querySelector("th")) unnamed(table, "table without headers");
  if (!root.lang) found.unnamed.push("page without a language");
  if (!document.title.trim()) found.unnamed.push("page without a title");

  const nameOf = (element, place) => {
    const words = element.getAttribute("aria-label") || element.alt || "";
    return `picture ${place + 1}${words ? ` (${short(words).slice(0, 40)})` : ""}`;
  };
  const shown = [...images.filter(isShown), ...drawings];
  const isBefore = (one, other) =>
    one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING;
  shown.sort((one, other) => (isBefore(one, other) ? -1 : 1));
  shown.forEach((element, place) => {
    const drawing = element.localName === "img" ? drawnIn(element) : element;
    if (drawing && drawing.localName === "svg") measure(drawing, element, nameOf(element, place));
  });
  hosts.forEach((host) => host.remove());
  return found;
})()
