/** Where the page is: `#/rooms/chat%3Ageneral?tenant=acme`. A link can be sent to a colleague. */
import { signal } from "@preact/signals";

export interface Route {
  readonly view: string;
  readonly name: string;
  readonly tenant: string;
}

export const route = signal(read());
addEventListener("hashchange", () => {
  route.value = read();
  // A link to a part of the overview, such as #reasons, scrolls there.
  if (document.getElementById(location.hash.slice(1)) === null) scrollTo(0, 0);
});

export function href(view: string, name = "", tenant = ""): string {
  return `#/${view}${name === "" ? "" : `/${encodeURIComponent(name)}`}${tenant === "" ? "" : `?tenant=${encodeURIComponent(tenant)}`}`;
}

export function go(view: string, name = "", tenant = ""): void {
  location.hash = href(view, name, tenant);
}

function read(): Route {
  const [path = "", values = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", name = ""] = path.split("/");
  return { view: view || "overview", name: decoded(name), tenant: new URLSearchParams(values).get("tenant") ?? "" };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
