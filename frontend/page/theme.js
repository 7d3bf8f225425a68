// Before anything is painted: the theme that was chosen, or what the system prefers.
(() => {
  let chosen = null;
  try { chosen = JSON.parse(localStorage.getItem("shardbook"))?.theme; } catch { /* none is kept */ }
  const dark = matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  document.documentElement.dataset.theme = chosen === "light" || chosen === "dark" ? chosen : dark;
})();
