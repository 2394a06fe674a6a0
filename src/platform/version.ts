import { readFileSync } from "node:fs";

/** The package's folder, from src as from dist. The reactor's bundle lies as deep as this file does, in `dist/reactor/`. */
export const packageFolder = new URL("../../", import.meta.url);

export const version: string = (JSON.parse(readFileSync(new URL("package.json", packageFolder), "utf8")) as { version: string }).version;
