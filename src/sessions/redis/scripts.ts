/** The atomic operations on sessions in Redis. Each script states its arguments and its answer. */
import { Script } from "../../redis/scripts.ts";

const file = (name: string) => `sessions/redis/lua/${name}.lua`;
const one = (...names: string[]) => new Script(1, ...names.map(file));

export const putSession = one("session", "put");
export const keepSession = one("session", "keep");
export const takeSession = one("take");
export const endSession = one("session", "end");
export const endUser = one("end-user");
export const signOutUser = one("sign-out");
export const assignRoom = one("assign");
export const moveCursor = one("move-cursor");
