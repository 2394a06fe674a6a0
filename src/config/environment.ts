/** Reads options from environment variables: `FLUX_` and the option's key. */
import { envOf, unknownName } from "./sources.ts";

/**
 * Returns values by key. An empty variable counts as not set.
 * @param keys of the options that a variable can set.
 * @param problems receives an error for each unknown variable.
 */
export function readEnvironment(
  env: Readonly<Record<string, string | undefined>>,
  keys: readonly string[],
  problems: string[],
): Record<string, string> {
  const keyOf = new Map(keys.map((key) => [envOf(key), key]));
  const values: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith("FLUX_") || value === undefined || value === "" || isServiceLink(name, value)) continue;
    const key = keyOf.get(name);
    if (key === undefined) problems.push(unknownName(name, name, [...keyOf.keys()]));
    else values[key] = value;
  }
  return values;
}

/**
 * Kubernetes sets variables named after the services around a pod. A service `flux` or `flux-gateway` sets
 * FLUX_PORT=tcp://10.0.0.7:8080, FLUX_GATEWAY_SERVICE_HOST and more. These are not options.
 */
function isServiceLink(name: string, value: string): boolean {
  if (name.endsWith("_PORT") && /^(tcp|udp|sctp):\/\//.test(value)) return true;
  return /_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)/.test(name);
}
