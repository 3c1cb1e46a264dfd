// What a person at the page can see and reach. `checks.py` calls these functions in the page.

const CONTROLS = 'a[href], button, input:not([type="hidden"]), select, textarea, summary, [tabindex="0"]';

const isShown = (element) => element.checkVisibility({ visibilityProperty: true });
const brief = (element) => element.outerHTML.slice(0, 120);

const ancestors = (element) => {
  const found = [];
  for (let each = element; each && each !== document.body; each = each.parentElement) found.push(each);
  return found;
};

// A table that is too wide may scroll in a region of its own, which the keyboard reaches (WCAG 1.4.10).
const mayScroll = (element) => element.matches('[role="region"][tabindex="0"][aria-label]');
const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
// Text that is for screen readers only lies in a box of a pixel.
const isForReadersOnly = (element) => element.clientWidth === 1 && element.clientHeight === 1;

// Text outside of the window, or cut by what is around it.
function clipped() {
  const faults = new Set();
  const note = (element, why) => faults.add(`${why}: ${element.textContent.trim().slice(0, 60)}`);
  const root = document.documentElement;
  const width = root.clientWidth;
  if (root.scrollWidth > width) faults.add(`the page is ${root.scrollWidth} px wide, the window ${width}`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    const parent = text.parentElement;
    if (!text.textContent.trim() || parent.closest("script, style, noscript, option, title, svg")) continue;
    const around = ancestors(parent);
    if (!isShown(parent) || around.some(isForReadersOnly) || parent.closest(".skip:not(:focus)")) continue;
    const region = around.findIndex((element) => mayScroll(element) && scrolls(element));
    const range = document.createRange();
    range.selectNodeContents(text);
    for (const box of range.getClientRects()) {
      if (box.width < 0.5) continue;
      if (region < 0 && (box.left < -0.5 || box.right > width + 0.5)) note(text, "outside of the window");
      for (const element of region < 0 ? around : around.slice(0, region)) {
        const outer = element.getBoundingClientRect();
        const { overflowX, overflowY } = getComputedStyle(element);
        const isControl = element.matches("button, .button, summary, td, th");
        const isWide = box.left < outer.left - 0.5 || box.right > outer.right + 0.5;
        // Fonts draw a little above and below the line.
        const isHigh = box.top < outer.top - 4 || box.bottom > outer.bottom + 4;
        if (isWide && (isControl || overflowX !== "visible")) note(text, "cut at its side");
        if (isHigh && (isControl || ["hidden", "clip"].includes(overflowY))) note(text, "cut above or below");
      }
    }
  }
  for (const element of document.querySelectorAll("body *")) {
    const isWide = isShown(element) && element.scrollWidth > element.clientWidth + 1;
    if (isWide && element.matches("select, button")) note(element, "wider than its control");
    if (isWide && scrolls(element) && !mayScroll(element) && !element.matches("input, textarea")) {
      note(element, "scrolls sideways");
    }
  }
  return [...faults];
}

// A font draws the same box for each character that it lacks.
function draws(characters) {
  const pictures = [...characters].map((character) => {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d");
    context.font = `40px ${getComputedStyle(document.body).fontFamily}`;
    context.fillText(character, 0, 40);
    return canvas.toDataURL();
  });
  return new Set(pictures).size === pictures.length;
}

// Where the focus is; null if it is nowhere, or where it has been.
function nextFocus() {
  const element = document.activeElement;
  // A field of a date has several stops, which the browser itself marks.
  const isHere = element === document.lastWalked;
  if (element === document.body || element === document.documentElement) return null;
  if (element.wasWalked && !isHere) return null;
  element.wasWalked = true;
  document.lastWalked = element;
  const style = getComputedStyle(element);
  const hasOutline = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const box = element.getBoundingClientRect();
  const isInWindow = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return { isVisible: isHere || isInWindow && (hasOutline || style.boxShadow !== "none"), what: brief(element) };
}

// Controls where the focus was not. Radio buttons of one name are one stop.
function notWalked() {
  const groups = new Set();
  const controls = [...document.querySelectorAll(CONTROLS)];
  for (const each of controls) if (each.wasWalked && each.type === "radio") groups.add(each.name);
  return controls
    .filter((each) => isShown(each) && !each.disabled && each.tabIndex >= 0 && !each.wasWalked)
    .filter((each) => !(each.type === "radio" && groups.has(each.name)))
    .map(brief);
}

// The next Tab comes to the first control, wherever a person has clicked before.
function beginAnew() {
  for (const element of document.querySelectorAll(CONTROLS)) element.wasWalked = false;
  const start = document.createElement("span");
  start.tabIndex = -1;
  document.body.prepend(start);
  start.focus();
  start.remove();
}
