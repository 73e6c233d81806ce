// The users' table: search by the beginning of an id, sort, and page by the links that the report gives.

import { askJson, download, path, withQuery } from "./api.js";
import { element, number, shown, time } from "./elements.js";

const COLUMNS = [
  ["user_id", "User", "user_id", (row) => row.user_id],
  ["avg_time_on_flyer_per_user_hours", "Average, hours", "hours", (row) => number(row.avg_time_on_flyer_per_user_hours, shown.hours)],
  ["sessions", "Sessions", "sessions", (row) => number(row.sessions)],
  ["total_seconds", "Total, hours", "total_seconds", (row) => number(row.total_seconds, (seconds) => shown.hours(seconds / 3600))],
  ["last_seen", "Last seen", "last_seen", (row) => (row.last_seen ? time(row.last_seen) : "–")],
];
const SEARCH_PAUSE_MS = 250;
const place = (id) => document.getElementById(id);

export class Users {
  constructor(onError) {
    this.onError = onError;
    this.merchant = null;
    this.sort = "user_id";
    this.before = []; // addresses of the pages before this one
    this.here = null;
    this.next = null;
    this.asked = 0;
    let timer;
    place("prefix").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.first(), SEARCH_PAUSE_MS);
    });
    place("search").addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(timer);
      this.first();
    });
    place("limit").addEventListener("change", () => this.first());
    place("next").addEventListener("click", () => this.next && this.show([...this.before, this.here], this.next));
    place("previous").addEventListener("click", () => this.before.length && this.show(this.before.slice(0, -1), this.before.at(-1)));
    for (const button of document.querySelectorAll("[data-format]")) {
      button.addEventListener("click", () => this.save(button.dataset.format));
    }
    this.showHead();
  }

  query() {
    return { prefix: place("prefix").value, sort: this.sort, fields: COLUMNS.map(([field]) => field).join(",") };
  }

  first() {
    return this.show([], withQuery(path(this.merchant), { ...this.query(), limit: place("limit").value }));
  }

  again() {
    return this.here === null ? this.first() : this.show(this.before, this.here);
  }

  async show(before, address) {
    const turn = ++this.asked;
    place("users").setAttribute("aria-busy", "true");
    try {
      const page = await askJson(address);
      if (turn !== this.asked) return; // another question was asked meanwhile
      Object.assign(this, { before, here: address, next: page.next && new URL(page.next, document.baseURI) });
      this.showRows(page.rows);
    } catch (error) {
      if (turn === this.asked) this.onError(error);
    } finally {
      if (turn === this.asked) place("users").setAttribute("aria-busy", "false");
    }
  }

  showHead() {
    place("users-head").replaceChildren(...COLUMNS.map(([field, title, sort], column) => {
      const order = this.sort === sort ? "ascending" : this.sort === `-${sort}` ? "descending" : undefined;
      const arrow = element("span", { "aria-hidden": "true" }, { ascending: " ↑", descending: " ↓" }[order] ?? "");
      const button = element("button", { type: "button", class: "sort", "data-sort": sort }, title, arrow);
      button.addEventListener("click", () => {
        const down = column > 0; // numbers and times: the largest first
        const [one, other] = down ? [`-${sort}`, sort] : [sort, `-${sort}`];
        this.sort = this.sort === one ? other : one;
        this.showHead();
        document.querySelector(`[data-sort="${sort}"]`).focus();
        this.first();
      });
      return element("th", { scope: "col", class: column > 0 && "number", "aria-sort": order, "data-field": field }, button);
    }));
  }

  showRows(rows) {
    const empty = element("tr", {}, element("td", { colspan: COLUMNS.length, class: "none" },
      place("prefix").value ? "No user id begins with this." : "No user has a session yet."));
    place("users-body").replaceChildren(...(rows.length ? rows.map((row) => element("tr", {}, ...COLUMNS.map(([, , , cell], column) =>
      element(column === 0 ? "th" : "td", { scope: column === 0 && "row", class: column > 0 && "number" }, cell(row))))) : [empty]));
    const page = this.before.length + 1;
    place("place").textContent = `Page ${shown.count(page)}, ${shown.count(rows.length)} ${rows.length === 1 ? "user" : "users"}`;
    // Not disabled but said to be: a button that had the focus keeps it.
    place("previous").setAttribute("aria-disabled", String(page === 1));
    place("next").setAttribute("aria-disabled", String(!this.next));
  }

  save(format) {
    const name = `time-on-flyer${this.merchant === null ? "" : "-merchant"}.${format}`;
    download(withQuery(path(this.merchant), { ...this.query(), format }), name).catch(this.onError);
  }
}
