/** What a node must never say: the secrets among its flags and variables, found again in its output. */

const secretNames = /(secret|password|passphrase|token|key)$/i;
/** Names of files and switches, not secrets. */
const harmless = /^(tls-key|auth-keys|api-keys|api-tokens|nats-tls-key)$/i;
const charsMin = 8;

/** The secrets that `start` is given: values of flags, passwords in addresses, and secrets within JSON. */
export function secretsIn(flags: readonly string[], env: Readonly<Record<string, string | undefined>> = {}): string[] {
  const given = [
    ...flags.flatMap((flag, i): [string, string][] => {
      const [, name = "", value] = /^--([a-z-]+)(?:=(.*))?$/s.exec(flag) ?? [];
      return name === "" ? [] : [[name, value ?? flags[i + 1] ?? ""]];
    }),
    ...Object.entries(env).flatMap(([name, value]): [string, string][] => (name.startsWith("FLUX_") ? [[name.slice(5).toLowerCase().replaceAll("_", "-"), value ?? ""]] : [])),
  ];
  const found = given.flatMap(([name, value]) => [
    ...(secretNames.test(name) && !harmless.test(name) && !value.startsWith("--") ? [value] : []),
    ...[...value.matchAll(/\w+:\/\/[^:@/\s]*:([^@/\s]+)@/g)].map((match) => decodeURIComponent(match[1]!)),
    ...[...value.matchAll(/"[a-zA-Z]*[sS]ecret[a-zA-Z]*":"([^"]+)"/g)].map((match) => match[1]!),
  ]);
  return found.filter((secret) => secret.length >= charsMin);
}

/** Fails the test at once, whatever it waits for. */
export function checkLine(line: string, secrets: readonly string[]): void {
  if (!secrets.some((secret) => line.includes(secret))) return;
  const shown = secrets.reduce((text, secret) => text.replaceAll(secret, "[a secret]"), line);
  setImmediate(() => {
    throw new Error(`a node has written a secret that it was given: ${shown}`);
  });
}
