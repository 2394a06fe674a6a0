/** What tests of sessions do again and again: lose the socket, come back, and read what came. */
import { opcodes } from "./rawsocket.ts";
import type { TestRedis } from "./redis.ts";
import type { SeenPosition, SeenPublication, TestSession } from "./session.ts";
import { until } from "./until.ts";

/** Where a client says it is. */
export interface At {
  room: string;
  position: SeenPosition;
}

/** The socket is lost, as the network loses it: nobody says goodbye. */
export async function lose(session: TestSession): Promise<void> {
  session.raw.destroy();
  await session.raw.ended;
}

export async function closeWith(session: TestSession, code: number): Promise<void> {
  await session.raw.send({ opcode: opcodes.close, payload: Uint8Array.of(code >> 8, code & 255) });
  await session.closed();
}

/** Fields of hello with which the session is resumed. */
export function resumeOf({ ready }: TestSession, positions: At[] = []) {
  return { resume: { session: ready!.session!, token: ready!.resumeToken!, positions } };
}

/** Payloads that are JSON strings. */
export function words(publications: SeenPublication[]): string[] {
  return publications.map(({ payload }) => JSON.parse(payload.toString()) as string);
}

/** Waits until Redis has it that the session is in the room: rooms are written some 50 ms after they were joined. */
export async function written({ client }: TestRedis, session: TestSession, room: string): Promise<void> {
  await until(async () => {
    const [key] = await client.keys(`*session:${session.ready!.session}`);
    return key !== undefined && (await client.hget(key, "text"))?.includes(room) === true;
  }, "it to be written");
}
