/** flux-gateway as a library: a node inside another program. */
export { createGateway, type Gateway } from "./gateway.ts";
export type { DrainOptions } from "./drain.ts";
export { ConfigError, type Config, type GatewayOptions } from "./config.ts";
export { closes, errors, mayReconnect, type CloseName, type ErrorCode } from "./errors.ts";
export type { AnswerTo, Survey, SurveyOptions } from "./survey.ts";
export type { Health, Question } from "./messages/messages.ts";
export type { Parts } from "./stores.ts";
export type * from "./broker/broker.ts";
