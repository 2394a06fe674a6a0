/**
 * The token of this page, from #token=… in the address. Browsers send that part to no server. The page removes it from
 * the address and stores it in this tab, like the session.
 */

const prefix = "#token=";
const key = "token";

/** Takes the token from the address. False: there is none. An empty one deletes the stored token. */
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
  3005: { title: "Your token has expired", text: "Create a new one with the node's secret:" },
  3500: {
    title: "The node rejected this token",
    text: "Check that it was signed with this node's secret; “npx flux-gateway token explain” gives the reason. To create another:",
  },
};
const missing = { title: "This node requires a token", text: "Create one with the node's secret, from FLUX_AUTH_SECRET:" };

/** Explains a close whose code is about tokens. Other codes show nothing. */
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
