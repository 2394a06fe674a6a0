export function bundleTypes(entry: string, base?: string): string;
