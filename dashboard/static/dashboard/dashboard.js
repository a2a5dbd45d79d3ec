// Adds the reader's own time zone to what shows on hover over a time, and shows on a narrow screen where in the navigation one is.
// What a live part replaces keeps its place, and when no answer comes, the page says so. The pages work without it.
"use strict";

function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) {
      time.dataset.local = "yes";
      time.title = `${time.title || time.textContent}\n${moment.toLocaleString()} here`;
    }
  }
}

function showWhere() {
  const nav = document.querySelector(".nav");
  const here = nav && nav.querySelector("[aria-current=page]");
  if (here) {
    const left = here.getBoundingClientRect().left - nav.getBoundingClientRect().left;
    nav.scrollLeft += left - (nav.clientWidth - here.offsetWidth) / 2;
  }
}

let place = null;

function keepPlace(part) {
  const link = part.contains(document.activeElement) && document.activeElement.getAttribute("href");
  place = { id: part.id, link, left: [...part.querySelectorAll(".scroll")].map((each) => each.scrollLeft) };
}

function restorePlace() {
  const part = place && place.id && document.getElementById(place.id);
  if (part) {
    part.querySelectorAll(".scroll").forEach((each, index) => { each.scrollLeft = place.left[index] || 0; });
    const link = place.link && [...part.querySelectorAll("a[href]")].find((each) => each.getAttribute("href") === place.link);
    if (link) {
      link.focus({ preventScroll: true });
    }
  }
  place = null;
}

function sayWhetherSilent(silent) {
  const note = document.getElementById("silence");
  if (note) {
    note.hidden = !silent;
  }
}

document.addEventListener("htmx:beforeSwap", (event) => keepPlace(event.detail.target));
document.addEventListener("htmx:afterSwap", () => { restorePlace(); sayWhetherSilent(false); });
for (const trouble of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(trouble, () => sayWhetherSilent(true));
}

document.addEventListener("DOMContentLoaded", () => { localise(document); showWhere(); });
document.addEventListener("htmx:afterSettle", () => localise(document));
