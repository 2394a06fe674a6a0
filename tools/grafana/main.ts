/** Writes deploy/grafana/dashboards (`npm run grafana`). */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { dashboards } from "./boards.ts";

const folder = fileURLToPath(new URL("../../deploy/grafana/dashboards", import.meta.url));
for (const [name, text] of dashboards()) writeFileSync(join(folder, name), text);
