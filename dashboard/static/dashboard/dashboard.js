// Adds the reader's own time zone to what shows on hover over a time. The pages work without it.
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

document.addEventListener("DOMContentLoaded", () => localise(document));
document.addEventListener("htmx:afterSettle", () => localise(document));
