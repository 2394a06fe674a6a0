/** What both sides of flux.v1 know besides its messages. */

/** Version of flux.v1 that hello must name. */
export const protocolVersion = 1;
export const subprotocols = { binary: "flux.v1.proto", json: "flux.v1.json", jsonArrays: "flux.v1.json-arrays" } as const;
/** `Format` of proto/flux.proto. */
export const formats = { BINARY: 0, JSON: 1 } as const;
