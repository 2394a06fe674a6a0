/** How the admin port finds what serves a request: by method and path, with parameters, and nothing is guessed. */
import type { ServerResponse } from "node:http";
import t from "tap";
import { Routes } from "../src/admin/routes.ts";

const serve = () => undefined;
const routes = new Routes().add("GET", "/rooms/:room", serve).add("PUT", "/users/:user/rooms/:room", serve).add("DELETE", "/users/:user/rooms/:room", serve).add("POST", "/drain", serve);

function asked(method: string, url: string): { found: object | null; refused: { status?: number } | null; allow: string } {
  let allow = "";
  const res = { setHeader: (_: string, value: string) => void (allow = value) } as unknown as ServerResponse;
  try {
    return { found: { ...routes.find(method, url, res).parameters }, refused: null, allow };
  } catch (error) {
    return { found: null, refused: error as { status?: number }, allow };
  }
}

t.test("parameters are decoded, whatever is in a name", async (t) => {
  t.same(asked("GET", "/rooms/chat:a?limit=1").found, { room: "chat:a" });
  t.same(asked("GET", "/rooms/a%2Fb%3F%20%C3%A4").found, { room: "a/b? ä" });
  t.same(asked("PUT", "/users/ann/rooms/a%2F..%2Fb").found, { user: "ann", room: "a/../b" });
  t.same(asked("GET", `/rooms/${"%C3%A4".repeat(250)}`).found, { room: "ä".repeat(250) });
});

t.test("HEAD is served as GET; another method is refused with those that there are", async (t) => {
  t.same(asked("HEAD", "/rooms/a").found, { room: "a" });
  for (const [method, url, allow] of [["POST", "/rooms/a", "GET, HEAD"], ["GET", "/users/a/rooms/b", "PUT, DELETE"], ["HEAD", "/drain", "POST"], ["BREW", "/drain", "POST"]] as const) {
    const { refused, allow: said } = asked(method, url);
    t.equal(refused?.status, 405, `${method} ${url}`);
    t.equal(said, allow);
  }
});

t.test("a path that is nearly one is none", async (t) => {
  for (const url of ["/drain/", "//drain", "/Drain", "/x/../drain", "/rooms/", "/rooms/%E0%A4%A", `/rooms/${"a".repeat(4_000)}`, "", "*"]) t.equal(asked("POST", url).refused?.status, 404, url);
});
