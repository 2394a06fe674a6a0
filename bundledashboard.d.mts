export function bundleDashboard(outdir: string): Promise<void>;
