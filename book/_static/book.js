// Wide tables say that there is more, figures open large, and both can be saved. Works from a file, and asks nobody.
"use strict";

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const save = (content, type, name) => {
  const url = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: url, download: name }).click();
  URL.revokeObjectURL(url);
};

const page = () => location.pathname.split("/").pop().replace(/\.html$/, "") || "page";

// ---- tables

const csv = (table) =>
  [...table.rows]
    .map((row) => [...row.cells].map((cell) => `"${cell.innerText.trim().replaceAll('"', '""')}"`).join(","))
    .join("\n");

function watch(box, index) {
  const look = () => {
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
    box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
    if (box.classList.contains("wide")) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `table ${index + 1}`);
  box.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(box);
  const button = element("button", { type: "button", className: "save-table", textContent: "save as CSV" });
  button.setAttribute("aria-label", `save as CSV, table ${index + 1}`);
  button.addEventListener("click", () => save(csv(box.querySelector("table")), "text/csv", `${page()}-${index + 1}.csv`));
  box.after(button);
}

// ---- the list of runs: type to filter, click on a head to sort

function listRuns(box) {
  const table = box.querySelector("table");
  const rows = [...table.tBodies[0].rows];
  const field = element("input", { type: "search", className: "filter", placeholder: "filter: words, all of which a line has" });
  field.setAttribute("aria-label", "filter the list of runs");
  const count = element("output", { className: "count" });
  const look = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    rows.forEach((row) => (row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word))));
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  const value = (row, at) => {
    const text = row.cells[at].textContent.trim().replace("\u2212", "-");
    const number = text.replace(/ min$/, "");
    return number === "" || isNaN(number) ? text : Number(number);
  };
  [...table.tHead.rows[0].cells].forEach((head, at) => {
    let up = false;
    const button = element("button", { type: "button", className: "sort" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      up = !up;
      rows.sort((a, b) => {
        const [x, y] = [value(a, at), value(b, at)];
        const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
  field.addEventListener("input", look);
  field.value = decodeURIComponent(new URLSearchParams(location.search).get("filter") || "");
  box.prepend(element("p", {}, field, " ", count));
  look();
}

// ---- figures

function png(image, name) {
  const canvas = element("canvas", { width: 3 * image.naturalWidth, height: 3 * image.naturalHeight });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => save(blob, "image/png", `${name}.png`));
}

function enlarge(image, name, numbers) {
  const large = element("img", { src: image.src, alt: image.alt });
  const close = element("button", { type: "button", textContent: "close" });
  const asPng = element("button", { type: "button", textContent: "PNG" });
  const file = element("a", { href: image.src, download: `${name}.svg`, textContent: "SVG" });
  // A page that was opened as a file may not read pictures, of which a PNG would have to be made.
  const ways = location.protocol === "file:" ? [file] : [file, asPng];
  if (numbers) ways.push(element("a", { href: numbers, download: `${name}.csv`, textContent: "CSV" }));
  const dialog = element("dialog", { className: "zoomed" }, element("nav", {}, ...ways, close), large);
  dialog.setAttribute("aria-label", image.alt || "figure");
  asPng.addEventListener("click", () => png(large, name));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  // A browser closes it with Escape too, but not while a link has the focus and another script takes the key.
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function zoomable(image, index, numbers) {
  const button = element("button", { type: "button", className: "zoom" });
  button.setAttribute("aria-label", `open figure ${index + 1} large`);
  image.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => enlarge(image, `${page()}-figure-${index + 1}`, numbers));
}

// A link to a figure's numbers follows it, unseen.
function figures() {
  const parts = [...document.querySelectorAll(".bd-article .cell_output img, .bd-article figure img, .bd-article .drawn")];
  const images = parts.filter((part) => part.tagName === "IMG");
  images.forEach((image, index) => {
    const next = parts[parts.indexOf(image) + 1];
    zoomable(image, index, next?.classList.contains("drawn") ? next.href : null);
  });
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-article .pst-scrollable-table-container").forEach(watch);
  document.querySelectorAll(".every-run").forEach(listRuns);
  figures();
  // Sphinx calls the bibliography a list of things that are no list items, which a screen reader stumbles over.
  document.querySelectorAll(".citation-list").forEach((list) => list.removeAttribute("role"));
});
