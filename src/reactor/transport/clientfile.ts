/**
 * The client for browsers, as the build made it: at /flux-client.js, which may change with the next version of the node, and
 * at a path with its version and hash, which never changes. /flux-client.json names that path, and the hash for pages.
 */
import { readFileSync } from "node:fs";
import type { HttpRequest, HttpResponse } from "uWebSockets.js";
import type { Config } from "../../config/config.ts";
import { packageFolder } from "../../platform/version.ts";
import { isWelcome } from "./origin.ts";
import type { Routes } from "./routes.ts";

/** Made by build.mjs. */
type About = { readonly version: string; readonly path: string; readonly integrity: string };
type Encoding = "br" | "gzip" | "";

const unchanging = "public, max-age=31536000, immutable";
const asked = "public, max-age=0, must-revalidate";

/** @returns the paths, for GET and HEAD */
export function serveClient(routes: Routes, config: Pick<Config, "allowedOrigins" | "host">): string[] {
  const folder = new URL("dist/browser/", packageFolder);
  const file = (name: string) => readFileSync(new URL(name, folder));
  const about = JSON.parse(file("flux-client.json").toString()) as About;
  const bodies: Readonly<Record<Encoding, Uint8Array>> = { "": file("flux-client.js"), gzip: file("flux-client.js.gz"), br: file("flux-client.js.br") };
  const hash = about.integrity.slice(-16).replaceAll(/[^\w]/g, "_");
  const text = { "": Buffer.from(`${JSON.stringify(about)}\n`) };

  const script = "text/javascript; charset=utf-8";
  serve("/flux-client.js", script, asked, bodies);
  serve(about.path, script, unchanging, bodies);
  serve("/flux-client.json", "application/json; charset=utf-8", asked, text);
  return ["/flux-client.js", about.path, "/flux-client.json"];

  function serve(path: string, type: string, cacheControl: string, bodies: { readonly "": Uint8Array } & Partial<Record<Encoding, Uint8Array>>): void {
    const answer = (res: HttpResponse, req: HttpRequest, isHead: boolean) => {
      const encoding = wantedEncoding(req.getHeader("accept-encoding"), bodies);
      const etag = `"${hash}${encoding && `-${encoding}`}"`;
      const origin = req.getHeader("origin");
      const isKnown = isAmongTags(req.getHeader("if-none-match"), etag);
      const isAllowed = origin !== "" && isWelcome(config, origin, req.getHeader("host"));
      const body = bodies[encoding]!;
      res.cork(() => {
        res.writeStatus(isKnown ? "304 Not Modified" : "200 OK").writeHeader("ETag", etag).writeHeader("Cache-Control", cacheControl).writeHeader("Vary", "Accept-Encoding, Origin");
        if (isAllowed) res.writeHeader("Access-Control-Allow-Origin", origin);
        if (isKnown) return void res.endWithoutBody();
        res.writeHeader("Content-Type", type).writeHeader("X-Content-Type-Options", "nosniff");
        if (encoding !== "") res.writeHeader("Content-Encoding", encoding);
        // With a length, endWithoutBody would wait for that many bytes of a body.
        if (isHead) res.writeHeader("Content-Length", String(body.length)).endWithoutBody();
        else res.end(body);
      });
    };
    routes.get(path, (res, req) => answer(res, req, false)).head(path, (res, req) => answer(res, req, true));
  }
}

/** The smallest body that the client reads. */
function wantedEncoding(header: string, bodies: Partial<Record<Encoding, Uint8Array>>): Encoding {
  const accepted = header.split(",").map((part) => part.trim().toLowerCase()).filter((part) => !/;\s*q=0(\.0*)?$/.test(part)).map((part) => part.replace(/\s*;.*/, ""));
  return (["br", "gzip"] as const).find((one) => bodies[one] && accepted.includes(one)) ?? "";
}

/** A proxy that compresses by itself may have made the tag a weak one. */
function isAmongTags(header: string, etag: string): boolean {
  return header.split(",").some((one) => one.trim() === "*" || one.trim().replace(/^W\//, "") === etag);
}
