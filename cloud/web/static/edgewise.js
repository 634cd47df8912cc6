// Two small things the server cannot do: keep "12 s ago" true between updates, and say whether updates still come.
// Without this file the pages show absolute times and work the same.
(() => {
  "use strict";

  const skew = Number(document.documentElement.dataset.now) - Date.now();
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

  function ago(ms) {
    const seconds = Math.round((Date.now() + skew - ms) / 1000);
    const size = Math.abs(seconds);
    if (size < 1) return "now";
    const [length, unit] = units.find(([length]) => size >= length);
    const text = `${Math.floor(size / length)} ${unit}`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  }

  function tick(root) {
    for (const time of root.querySelectorAll("time[data-ms]")) {
      const text = ago(Number(time.dataset.ms));
      if (time.textContent !== text) time.textContent = text;
    }
  }

  const state = document.getElementById("link");
  function say(name, text) {
    if (state) {
      state.dataset.state = name;
      state.textContent = text;
    }
  }

  tick(document);
  setInterval(() => tick(document), 1000);
  document.addEventListener("htmx:afterSettle", (event) => tick(event.target));
  document.addEventListener("htmx:sseMessage", () => tick(document));
  document.addEventListener("htmx:sseOpen", () => say("live", "Live"));
  document.addEventListener("htmx:sseError", () => say("waiting", "Reconnecting"));
})();
