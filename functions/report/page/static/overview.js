// What stands above the users: freshness, tiles, the two charts with their tables, and the ledger.

import { askChart, askJson, path } from "./api.js";
import { element, number, shown, table, time } from "./elements.js";

const MERCHANTS_SHOWN = 15;
// Small groups come without their numbers, so that nobody is found in them.
const TOO_FEW = "Too few users: numbers of so small a group are not shown.";
const place = (id) => document.getElementById(id);
const drawn = new Map();
let charts = [];

export async function showOverview(merchant, merchants) {
  const summary = await askJson(path(merchant, "summary"));
  showFreshness(summary.freshness);
  showTiles(summary);
  showDistribution(summary.histogram);
  showMerchants(merchants);
  showLedger(summary.ledger);
  charts = [];
  if (summary.histogram.length) charts.push(distributionChart(summary.histogram));
  else place("distribution-chart").replaceChildren(element("p", { class: "none" }, summary.users === null ? TOO_FEW : "No numbers to show yet."));
  const shows = merchants.some((each) => each.users !== null);
  if (merchants.length > 1 && shows) charts.push(merchantsChart(merchants));
  else if (merchants.length > 1) place("merchants-chart").replaceChildren(element("p", { class: "none" }, TOO_FEW));
  await showCharts();
  return summary;
}

function showFreshness({ complete_through: through, pending_events: pending, next_run_by: nextBy, last_run: last }) {
  const facts = [["Complete through", through ? time(through) : "Nothing folded yet"]];
  // A merchant's key is told whether events are pending, and not how many.
  facts.push(["Pending events", pending === null ? (nextBy ? "Some" : "None") : number(pending)]);
  if (nextBy) facts.push(["Next run by", time(nextBy)]);
  if (last?.ended_at) facts.push([`Last run ${String(last.state ?? "").toLowerCase()}`, time(last.ended_at)]);
  place("freshness").dataset.pending = String(Boolean(nextBy));
  place("freshness").replaceChildren(...facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function showTiles({ users, sessions, mean_hours: mean, percentiles = {}, unclosed_opens: unclosed }) {
  const tiles = [
    ["Users", number(users)],
    ["Sessions", number(sessions)],
    ["Mean", number(mean, shown.hours), "hours"],
    ["Median", number(percentiles.p50, shown.hours), "hours"],
    ["90th percentile", number(percentiles.p90, shown.hours), "hours"],
    ["99th percentile", number(percentiles.p99, shown.hours), "hours"],
  ];
  if (unclosed !== undefined && unclosed !== null) tiles.push(["Unclosed opens", number(unclosed)]);
  place("tiles").replaceChildren(...tiles.map(([name, value, unit]) =>
    element("div", { class: "tile" }, element("dt", {}, name),
      element("dd", {}, value, unit ? element("span", { class: "unit" }, ` ${unit}`) : null))));
}

function range({ from_hours: from, to_hours: to }) {
  return to === null || to === undefined ? `${shown.edge(from)} and more` : `${shown.edge(from)} – ${shown.edge(to)}`;
}

function showDistribution(histogram) {
  const rows = histogram.map((bucket) => [range(bucket), number(bucket.users)]);
  place("distribution-table").replaceChildren(
    table("Users by average time on flyer", [["Hours", false], ["Users", true]], rows));
}

function showMerchants(merchants) {
  place("merchants").hidden = merchants.length < 2;
  const rows = merchants.map((each) => [
    each.merchant_id, number(each.users), number(each.sessions), number(each.avg_time_on_flyer_hours, shown.hours)]);
  place("merchants-table").replaceChildren(table("Merchants side by side",
    [["Merchant", false], ["Users", true], ["Sessions", true], ["Average, hours", true]], rows));
  place("merchants-hint").textContent = merchants.length > MERCHANTS_SHOWN
    ? `Average time on flyer in hours, of the ${MERCHANTS_SHOWN} merchants with the most users; all ${shown.count(merchants.length)} are in the table below`
    : "Average time on flyer, in hours";
}

function showLedger(ledger) {
  place("ledger").hidden = !ledger;
  if (!ledger) return;
  const { accepted, duplicate, folded, pending, erased } = ledger;
  place("ledger-table").replaceChildren(table("Events by what became of them", [["Events", false], ["Number", true]], [
    ["Accepted", number(accepted)],
    ["Folded into this report", number(folded)],
    ["Pending", number(pending)],
    ["Erased with their user", number(erased)],
    ["Duplicates, counted once", number(duplicate)],
  ]));
  const missing = accepted - folded - pending - erased;
  place("ledger-hint").textContent = missing === 0
    ? "Every accepted event is in the report, pending or erased: the books balance."
    : `The books do not balance: ${shown.count(missing)} accepted events are nowhere.`;
}

function distributionChart(histogram) {
  const bars = histogram.map((bucket) => {
    const hours = range(bucket);
    const label = bucket.to_hours === null ? `${shown.edge(bucket.from_hours)}+` : hours.replaceAll(" ", "");
    return { label, value: bucket.users, words: `${hours} hours: ${shown.count(bucket.users)} users` };
  });
  return ["distribution-chart", { kind: "columns", title: "Users by average time on flyer, in hours", bars }];
}

function merchantsChart(merchants) {
  const drawn = merchants.filter((each) => each.avg_time_on_flyer_hours !== null).slice(0, MERCHANTS_SHOWN);
  drawn.sort((one, other) => other.avg_time_on_flyer_hours - one.avg_time_on_flyer_hours);
  const bars = drawn.map((each) => {
    const hours = shown.hours(each.avg_time_on_flyer_hours);
    const words = `${each.merchant_id}: ${hours} hours on average, ${shown.count(each.users)} users`;
    return { label: each.merchant_id, value: each.avg_time_on_flyer_hours, words };
  });
  return ["merchants-chart", { kind: "rows", title: "Average time on flyer by merchant, in hours", bars }];
}

// Drawn for the width that there is, so that their text is as large as the page's; not again where nothing has changed.
export async function showCharts() {
  const height = Math.max(280, ...charts.map(([, { kind, bars }]) => (kind === "rows" ? 44 + 30 * bars.length : 0)));
  await Promise.all(charts.map(async ([id, chart]) => {
    const width = Math.min(2000, Math.max(240, Math.floor(place(id).clientWidth)));
    const wanted = { ...chart, width_px: width, height_px: height };
    if (place(id).firstElementChild?.localName === "svg" && drawn.get(id) === JSON.stringify(wanted)) return;
    try {
      place(id).replaceChildren(await askChart(wanted));
      drawn.set(id, JSON.stringify(wanted));
    } catch (error) {
      if (error.status === 401) throw error;
      place(id).replaceChildren(element("p", { class: "none" }, `The chart could not be drawn: ${error.message}`));
    }
  }));
}
