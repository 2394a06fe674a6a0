/**
 * The atomic operations on presence in Redis. Each script states its arguments and its answer. Times are by the clock
 * of Redis; callers pass configured values.
 */
import { Script } from "../../redis/scripts.ts";

const ofRoom = (name: string) => new Script(7, "presence/redis/lua/room/room.lua", `presence/redis/lua/room/${name}.lua`);
const ofUser = (name: string) => new Script(2, "presence/redis/lua/user/user.lua", `presence/redis/lua/user/${name}.lua`);

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
export const readUser = ofUser("read");
