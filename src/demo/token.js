/**
 * The token of this page, for nodes that ask for one: from #token=… of the address, which browsers send to no server.
 * It is taken off the address and kept in this tab, as the session is.
 */

const prefix = "#token=";
const key = "token";

/** Takes what the address has. False: it has none. An empty one forgets the token before. */
export function takeToken(room) {
  if (!location.hash.startsWith(prefix)) return false;
  const token = location.hash.slice(prefix.length).trim();
  if (token === "") sessionStorage.removeItem(key);
  else sessionStorage.setItem(key, token);
  history.replaceState(null, "", room === "" ? location.pathname + location.search : `#${room}`);
  return true;
}

export function token() {
  return sessionStorage.getItem(key) ?? "";
}

const refusals = {
  3005: { title: "Your token has expired", text: "Make a new one with the node's secret:" },
  3500: {
    title: "The node does not take this token",
    text: "Was it made with the node's own secret? “npx flux-gateway token explain” says what is wrong with it. To make another:",
  },
};
const missing = { title: "This node asks for a token", text: "Make one with the node's secret, in FLUX_AUTH_SECRET:" };

/** Says what to do when the node has closed with a code about tokens; with any other, nothing. */
export function createTokenNote({ note, title, text, address }) {
  address.textContent = `${location.origin}/${prefix}…`;
  return {
    show(code) {
      const refusal = code === 3500 && token() === "" ? missing : refusals[code];
      note.hidden = refusal === undefined;
      title.textContent = refusal?.title ?? "";
      text.textContent = refusal?.text ?? "";
    },
  };
}
