/**
 * Where to connect: this page's own node says so, and names another one while it is there. If it is gone, the page goes
 * to that one. There the page's origin has to be allowed (allowedOrigins); if it is not, the page waits for its own node.
 */

const key = "other node";
const forbiddenOrigin = 3505;
const answerMs = 2000;

export function createFinder({ token }) {
  const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
  let other = sessionStorage.getItem(key);
  let isAtOther = false;
  /** Another node has refused pages of this origin. */
  let staysHome = false;
  /** Attempts of this client since its last session. */
  let attempts = 0;

  function go(address) {
    isAtOther = new URL(address).host !== location.host;
    return address;
  }

  async function ask(query, signal) {
    const headers = token() === "" ? {} : { Authorization: `Bearer ${token()}` };
    const response = await fetch(`/api/connection-url?${new URLSearchParams(query)}`, { headers, signal });
    if (!response.ok) throw new Error(`${response.status}`);
    return response.json();
  }

  function keep(found) {
    other = found;
    if (found === null) sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, found);
  }

  return {
    url,
    /** A new client. */
    begin() {
      attempts = 0;
    },
    async locate({ not, ticket, signal }) {
      // The first time, our own node is there, or comes back.
      if (attempts++ === 0 || staysHome) return { url: go(url) };
      try {
        const { url: found, retryAfterMs } = await ask({ not: not.join(), ...(ticket && { resume: ticket }) }, AbortSignal.any?.([signal, AbortSignal.timeout(answerMs)]) ?? signal);
        return { url: go(found), retryAfterMs };
      } catch {
        // Our node is gone, or answers nobody. Where it cannot name a node, its own address is as good as any.
        return { url: go(other ?? url) };
      }
    },
    /** Learns of another node while this one answers. */
    async reached({ node, user }) {
      attempts = 0;
      if (isAtOther || staysHome) return;
      try {
        const found = await ask({ not: node, ...(token() === "" && { user }) });
        const address = new URL(found.url);
        address.search = "";
        keep(found.node === node || address.host === location.host ? null : address.href);
      } catch {
        // There is no other one.
      }
    },
    /** The other node does not take pages of this origin. */
    isRefused(code) {
      if (code !== forbiddenOrigin || !isAtOther) return false;
      staysHome = true;
      keep(null);
      return true;
    },
  };
}
