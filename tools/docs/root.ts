/** Where the project lies, also where this runs from .test/ (test/build.mjs). */
import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(realpathSync(fileURLToPath(new URL("../../package.json", import.meta.url))));
