/** Checks of server and node addresses. Passwords in them are never shown, not even when an address is rejected. */
import { readRedisTarget, showRedisAddress } from "../redis/target.ts";
import { hidden, scalar, shown, type Check } from "./values.ts";

export function redisAddress(): Check<string> {
  const wanted =
    "an address such as redis://:password@10.0.0.5:6379/0, redis+sentinel://:password@host1:26379,host2:26379/mymaster or redis+cluster://host1:6379,host2:6379 (rediss for TLS)";
  const read = (value: unknown) => (value === "" || (typeof value === "string" && readRedisTarget(value)) ? value : undefined);
  // In an unreadable address nobody knows which part is the password.
  const said = (value: unknown) => (typeof value === "string" && value.includes("@") ? "an address that cannot be parsed" : shown(value));
  return scalar(wanted, "url", showRedisAddress, read, said);
}

/** Where the archive is. The rest of the address is for the client library. */
export function postgresAddress(): Check<string> {
  const wanted = "an address such as postgres://user:password@10.0.0.5:5432/flux";
  const show = (value: string) => value.replace(/^(\w+:\/\/[^:@/?]*):[^/]*@/, `$1:${hidden}@`).replace(/([?&](?:password|sslpassword)=)[^&]*/gi, `$1${hidden}`);
  const read = (value: unknown) => {
    if (value === "") return "";
    return typeof value === "string" && /^postgres(?:ql)?:\/\//.test(value) && URL.canParse(value) ? value : undefined;
  };
  return scalar(wanted, "url", show, read, () => "what was given");
}

/** The WebSocket address that clients connect to. */
export function clientUrl(): Check<string> {
  const wanted = "an address such as wss://ws1.example.com/ws";
  return scalar(wanted, "url", String, (value) => {
    if (value === "") return "";
    if (typeof value !== "string" || !URL.canParse(value)) return undefined;
    const { protocol, username, password } = new URL(value);
    return (protocol === "ws:" || protocol === "wss:") && username === "" && password === "" ? value : undefined;
  });
}
