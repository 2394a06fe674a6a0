import type { BuildOptions, BuildResult } from "esbuild";

export function bundleClient(options: BuildOptions): Promise<BuildResult>;
export const clientEntries: readonly string[];
