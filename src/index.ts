/** flux-gateway as a library: a node inside another program. */
export { createGateway, type Gateway } from "./node/gateway.ts";
export type {
  Api, DisconnectOptions, History, HistoryOptions, JoinResult, LeaveResult, Members, MembersOptions, OfAllNodes, PublishOptions, PublishResult, ReconnectOptions,
  RoomInfo, RoomOptions, RoomPage, RoomsOptions, SendOptions, SendResult, StreamOptions, UserInfo, UserOptions, UserSession, UserSurvey,
} from "./api/types.ts";
export { ApiError } from "./api/error.ts";
export type { Publication } from "./api/publication.ts";
export type { RoomStream, StreamEvent } from "./api/stream.ts";
export type { DrainOptions } from "./messages/drainoptions.ts";
export { ConfigError, type Config, type GatewayOptions } from "./config/config.ts";
export { closes, errors, mayReconnect, type CloseName, type ErrorCode } from "./errors.ts";
export type { AnswerTo, Survey, SurveyOptions } from "./messages/survey.ts";
export type { Health, Question } from "./messages/messages.ts";
export type { Parts } from "./node/stores.ts";
export type * from "./broker/broker.ts";
export { originText } from "./broker/broker.ts";
