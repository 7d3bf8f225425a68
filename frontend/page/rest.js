// REST of this origin. The key stays in this module's memory and goes nowhere else.

const API = new URL("api/v1", new URL(".", document.baseURI)).href;
let key = "";

export function useKey(text) {
  key = text;
}

export class Refused extends Error {
  /** What the product said: code, field and rule of its error, and when to try again. */
  constructor(error, status) {
    super(error.message);
    this.code = error.code;
    this.details = error.details ?? {};
    this.status = status;
  }
}

/** Ask; return the answer. Throws Refused for an error, TypeError where nobody answered. */
export async function ask(path, query = {}, method = "GET") {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(`${API}${path}${search}`, { method, headers, cache: "no-store" });
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("application/json")) {
    if (!response.ok) throw new Refused({ code: "HTTP", message: response.statusText }, response.status);
    return response.text();
  }
  const body = await response.json();
  if (body.success === false) throw new Refused(body.error, response.status);
  return body;
}
