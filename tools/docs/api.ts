/** The page of the embedding API: the types of src/api that src/index.ts exports, as they stand in the source. */
import { join } from "node:path";
import { root } from "./root.ts";
import { declarationDoc, exportsOf } from "./sdk.ts";

/** In the order of the page: the calls, then what each takes and gives. */
const names = [
  "Api", "PublishOptions", "PublishResult", "SendOptions", "SendResult", "HistoryOptions", "History", "Publication", "MembersOptions", "Members",
  "StreamOptions", "RoomStream", "StreamEvent", "UserOptions", "JoinResult", "LeaveResult", "DisconnectOptions", "ReconnectOptions", "UserInfo", "UserSession",
  "RoomsOptions", "RoomPage", "RoomOptions", "RoomInfo", "OfAllNodes", "Position", "ApiError",
];

export function apiDoc(): string {
  const found = exportsOf(join(root, "src/index.ts"), (name) => names.includes(name));
  const position = exportsOf(join(root, "src/broker/broker.ts")).get("Position");
  if (position !== undefined) found.set("Position", position);
  return names.map((name) => declarationDoc(name, found.get(name))).join("\n\n");
}
