import { readFileSync } from "node:fs";

/** The package's folder, from src and from dist. The reactor's bundle is as deep as this file, in `dist/reactor/`. */
export const packageFolder = new URL("../../", import.meta.url);

export const version: string = (JSON.parse(readFileSync(new URL("package.json", packageFolder), "utf8")) as { version: string }).version;
