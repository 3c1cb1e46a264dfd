// Improves pages that work without it: counts down, copies, downloads, cleans codes, submits once.
"use strict";

// A form is sent once, however often its button is pressed.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.hasAttribute("aria-busy")) event.preventDefault();
    form.setAttribute("aria-busy", "true");
  });
}
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[aria-busy]")) form.removeAttribute("aria-busy");
});

// Codes: what people type or paste between the digits is dropped. Full-width digits become plain.
for (const field of document.querySelectorAll("input[data-code]")) {
  field.addEventListener("input", (event) => {
    if (event.isComposing) return;
    const digits = field.value.normalize("NFKC").replace(/[^0-9]/g, "").slice(0, 6);
    if (digits !== field.value) field.value = digits;
  });
}

// A countdown starts with the seconds that the server counted: the clock of the device may be wrong.
for (const element of document.querySelectorAll("[data-countdown]")) {
  const end = performance.now() + 1000 * Number(element.dataset.countdown);
  const show = () => {
    const seconds = Math.max(0, Math.round((end - performance.now()) / 1000));
    element.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    if (seconds === 0) {
      clearInterval(timer);
      const after = document.getElementById(element.dataset.after);
      if (after) after.hidden = false;
    }
  };
  element.title = element.textContent;
  const timer = setInterval(show, 1000);
  show();
}

const button = (label, element) => {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "plain";
  made.textContent = label;
  element.parentElement.append(made);
  return made;
};

for (const element of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  const copy = button(element.dataset.copyLabel, element);
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  copy.after(said);
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(element.dataset.copy);
    said.textContent = element.dataset.copied;
  });
}

for (const element of document.querySelectorAll("[data-download]")) {
  button(element.dataset.downloadLabel, element).addEventListener("click", () => {
    const link = document.createElement("a");
    const lines = [element.dataset.downloadHeading, element.dataset.copy].filter(Boolean);
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/plain" }));
    link.download = element.dataset.download;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// Browsers that ignore `autofocus` on a block.
document.getElementById("errors")?.focus();
