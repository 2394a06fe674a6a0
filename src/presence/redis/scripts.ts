/**
 * The atomic operations on presence in Redis. Each script states its arguments and its answer. Times are by the clock
 * of Redis; callers pass configured values.
 */
import { Script } from "../../redis/scripts.ts";

const facts = "facts/redis/lua/add.lua";
const ofRoom = (name: string) => new Script(9, "presence/redis/lua/room/keys.lua", facts, "presence/redis/lua/room/room.lua", `presence/redis/lua/room/${name}.lua`);
const ofUser = (name: string) => new Script(6, "presence/redis/lua/user/keys.lua", facts, "presence/redis/lua/user/user.lua", `presence/redis/lua/user/${name}.lua`);

export const enterRoom = ofRoom("enter");
export const leaveRoom = ofRoom("leave");
export const dropNode = ofRoom("drop-node");
export const endGraces = ofRoom("end-graces");
export const followRoom = ofRoom("follow");
export const unfollowRoom = ofRoom("unfollow");
export const doubtRoom = ofRoom("doubt");
export const tellRoom = ofRoom("tell");
export const readRoom = ofRoom("read");

export const userOnline = ofUser("online");
export const userOffline = ofUser("offline");
export const dropUser = ofUser("drop-node");
export const endUserGrace = ofUser("end-grace");
export const endLost = ofUser("end-lost");
export const endSessions = ofUser("end-sessions");
export const readUser = ofUser("read");
