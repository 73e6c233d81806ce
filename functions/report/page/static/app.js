// The page: who reads, of which merchant, and when to look again.

import { askJson, storeKey, storedKey } from "./api.js";
import { element } from "./elements.js";
import { showCharts, showOverview } from "./overview.js";
import { Users } from "./users.js";

const AGAIN_MS = 60_000;
const RESIZED_MS = 250;
const UP = /^\.{1,2}$/; // As a part of an address it leads up, to other numbers, however it is written.
const place = (id) => document.getElementById(id);
const users = new Users(told);
let merchants = [];
let lastSeen = "";

function scope() {
  return users.merchant;
}

async function load({ quiet = false } = {}) {
  if (!quiet) place("status").textContent = "Loading the report …";
  try {
    merchants = await askJson("merchants");
    merchants.sort((one, other) => (other.users ?? 0) - (one.users ?? 0));
    chooseScope();
    place("key-form").hidden = true;
    place("report").hidden = false;
    place("refresh").hidden = false;
    place("error").hidden = true;
    place("forget").hidden = storedKey() === null;
    const [summary] = await Promise.all([showOverview(scope(), merchants), users.again()]);
    showScopes(summary.ledger === null);
    const seen = JSON.stringify([summary.users, summary.sessions, summary.freshness?.complete_through]);
    if (!quiet || seen !== lastSeen) place("status").textContent = "The newest report is shown.";
    lastSeen = seen;
  } catch (error) {
    told(error);
  }
}

function chooseScope() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("merchant");
  users.merchant = !UP.test(wanted) && merchants.some((each) => each.merchant_id === wanted) ? wanted : null;
}

// Who reads one merchant alone, to whom no books are shown, has nothing to choose from.
function showScopes(bound) {
  const single = bound && merchants.length === 1;
  const offered = single ? merchants : merchants.filter((each) => !UP.test(each.merchant_id));
  const options = offered.map((each) => element("option", { value: `m${each.merchant_id}` }, each.merchant_id || "(no name)"));
  place("scope").replaceChildren(...(single ? [] : [element("option", { value: "" }, "All merchants")]), ...options);
  place("scope").value = users.merchant === null ? (single ? `m${merchants[0].merchant_id}` : "") : `m${users.merchant}`;
  place("scope").disabled = single;
}

function told(error) {
  if (error.status === 401) {
    const refused = storedKey() !== null;
    storeKey(null);
    for (const id of ["report", "refresh", "forget"]) place(id).hidden = true;
    place("key-form").hidden = false;
    place("key-error").textContent = refused ? "This key is not valid (any more)." : "";
    place("key").setAttribute("aria-invalid", String(refused));
    place("status").textContent = "";
    place("key").focus();
    return;
  }
  place("status").textContent = "";
  place("error").textContent = error.status === undefined ? "Something went wrong on this page." : error.message;
  place("error").hidden = false;
  if (error.status === undefined) console.error(error);
}

place("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  storeKey(place("key").value.trim());
  place("key").value = "";
  load().then(() => place("main").focus());
});
place("forget").addEventListener("click", () => {
  storeKey(null);
  location.reload();
});
place("refresh").addEventListener("click", () => load());
place("scope").addEventListener("change", () => {
  const chosen = place("scope").value;
  location.hash = chosen === "" ? "" : new URLSearchParams({ merchant: chosen.slice(1) });
});
addEventListener("hashchange", () => {
  users.here = null;
  load();
});

const dark = matchMedia("(prefers-color-scheme: dark)");
function showTheme() {
  const chosen = document.documentElement.dataset.theme;
  place("theme").setAttribute("aria-checked", String(chosen === undefined ? dark.matches : chosen === "dark"));
}
place("theme").addEventListener("click", () => {
  const theme = place("theme").getAttribute("aria-checked") === "true" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("flyertime.theme", theme);
  } catch {
    // It holds for this visit.
  }
  showTheme();
});
dark.addEventListener("change", showTheme);
showTheme();

let resized;
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(resized);
  resized = setTimeout(() => place("report").hidden || showCharts().catch(told), RESIZED_MS);
});
setInterval(() => document.hidden || place("report").hidden || load({ quiet: true }), AGAIN_MS);

load();
