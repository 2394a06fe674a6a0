/** What an endpoint is sent about a fact: its id and its body. */
import type { Fact, Subject } from "../facts/facts.ts";
import { nameOfRoom, nameOfUser, tenantOfRoom, tenantOfUser } from "../protocol/roomkeys.ts";

export interface Message {
  /**
   * The webhook-id: the same whenever and from wherever the fact is told. With the time, since a Redis that has lost its
   * last writes gives their numbers to other facts. No dot, by which the signature divides.
   */
  readonly id: string;
  readonly body: string;
}

export function messageOf(subject: Subject, epoch: string, { n, kind, at, users, member, session }: Fact): Message {
  const key = subject.slice(1);
  const isRoom = subject.startsWith("r");
  const tenant = isRoom ? tenantOfRoom(key) : tenantOfUser(key);
  const data = {
    ...(tenant !== "" && { tenant }),
    ...(isRoom ? { room: nameOfRoom(key), ...(member !== "" && { user: nameOfUser(member) }), users } : { user: nameOfUser(key), ...(session !== "" && { session }) }),
    epoch,
    number: n,
  };
  return { id: `${epoch}-${n}-${at}`, body: JSON.stringify({ type: kind, timestamp: new Date(at).toISOString(), data }) };
}
