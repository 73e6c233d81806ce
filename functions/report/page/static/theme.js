// Before the first paint: the theme that was chosen here last; none chosen: the system's own.
"use strict";
try {
  const chosen = localStorage.getItem("flyertime.theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch {
  // No storage, no memory of a choice.
}
