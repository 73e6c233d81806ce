// Asking the report: the same addresses that every client has, the key in a header and nowhere else.

const KEY = "flyertime.read-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function storedKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export function storeKey(key) {
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

export function path(merchant, rest = "") {
  const base = merchant === null ? "" : `merchants/${encodeURIComponent(merchant).replaceAll(".", "%2E")}`;
  return [base, rest].filter(Boolean).join("/") || "./";
}

export function withQuery(address, query) {
  const url = new URL(address, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value !== null) url.searchParams.set(name, value);
  }
  return url;
}

async function ask(address, accept, body) {
  const headers = { accept };
  const key = storedKey();
  if (key !== null) headers.authorization = `Bearer ${key}`;
  const request = { headers, credentials: "omit", redirect: "error" };
  if (body !== undefined) Object.assign(request, { method: "POST", body: JSON.stringify(body) });
  let response;
  try {
    response = await fetch(address, request);
  } catch {
    throw new Refused(0, "The report does not answer. Check the connection and try again.");
  }
  if (response.ok) return response;
  let detail = "";
  try {
    detail = (await response.json()).detail ?? "";
  } catch {
    // The status says enough.
  }
  throw new Refused(response.status, detail || `The report answered ${response.status}.`);
}

export async function askJson(address) {
  return (await ask(address, "application/json")).json();
}

// A chart of these numbers as an element of this document; what could run or load something is not taken over.
export async function askChart(chart) {
  const text = await (await ask("page/chart", "image/svg+xml", chart)).text();
  const svg = new DOMParser().parseFromString(policy.createHTML(text), "image/svg+xml").documentElement;
  if (svg.localName !== "svg") throw new Refused(0, "A chart could not be read.");
  for (const element of svg.querySelectorAll("script, style, foreignObject, image, use, a")) element.remove();
  return document.importNode(svg, true);
}

export async function download(address, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await (await ask(address, "*/*")).blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const policy = window.trustedTypes?.createPolicy("flyertime-chart", { createHTML: (text) => text }) ?? {
  createHTML: (text) => text,
};
