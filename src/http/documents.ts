/** What describes the calls: the OpenAPI file and the page. Each is made at its first request. */
import type { Exchange } from "./exchange/exchange.ts";
import { openApi } from "./openapi.ts";
import { docsPage } from "./page.ts";
import { basePath } from "./table.ts";

export interface Document {
  /** For metrics, beside the names of the calls. */
  readonly name: string;
  readonly path: string;
  send(exchange: Exchange): void;
}

export function documents(): Document[] {
  return [
    document("openapi", `${basePath}/openapi.json`, "application/json", () => JSON.stringify(openApi())),
    document("docs", `${basePath}/docs`, "text/html; charset=utf-8", docsPage),
  ];
}

/** The page has no script, and loads nothing. */
const policy = "default-src 'none'; style-src 'unsafe-inline'";

function document(name: string, path: string, type: string, make: () => string): Document {
  let text: string | null = null;
  return {
    name,
    path,
    send: (exchange) => {
      text ??= make();
      exchange.answer(200, ["Content-Type", type, "X-Content-Type-Options", "nosniff", "Content-Security-Policy", policy], text);
    },
  };
}
