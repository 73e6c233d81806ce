// Elements from data, always as text and never as markup; numbers keep their exact value beside what is shown.

const count = new Intl.NumberFormat();
const hours = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const shown = {
  count: (value) => count.format(value),
  hours: (value) => hours.format(value),
  edge: (value) => count.format(value),
};

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function number(value, format = shown.count) {
  return value === null || value === undefined
    ? element("span", { class: "none" }, "–")
    : element("data", { value }, format(value));
}

export function time(text) {
  const parsed = new Date(text);
  return Number.isNaN(parsed.getTime()) ? String(text) : element("time", { datetime: text }, moment.format(parsed));
}

// A table of the columns [title, isNumber] and rows of cells.
export function table(caption, columns, rows) {
  return element(
    "table",
    {},
    element("caption", { class: "hidden" }, caption),
    element("thead", {}, element("tr", {}, ...columns.map(([title, isNumber]) =>
      element("th", { scope: "col", class: isNumber && "number" }, title)))),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells.map((cell, place) =>
      element(place === 0 ? "th" : "td", { scope: place === 0 && "row", class: columns[place][1] && "number" }, cell))))),
  );
}
