/** Publishes that are repeated, and those that are not. The driver's own reports are what is published. */
import type { ClientFrame } from "../../protocol/messages.ts";
import { Failure } from "../failure.ts";
import type { Situation } from "../situation.ts";
import { epoch, publication, room } from "../words.ts";

const read = "Repeating publishes";
const refused = (code: string, retryable: boolean) => ({ error: { code, text: "the script refuses it", retryable } });
const keyOf = ({ publish }: ClientFrame) => publish?.key ?? "";
const payloadOf = ({ publish }: ClientFrame) => Buffer.from(publish?.payload ?? []).toString("utf8");

export const commands: readonly Situation[] = [
  {
    name: "repeat",
    title: "Repeats a publish whose answer was lost with the socket, with the same key, and only once.",
    read,
    async play(stage) {
      const peer = await stage.enter();
      let first: ClientFrame | null = null;
      let repeated = 0;
      stage.onLog((command, from) => {
        if (first === null) {
          first = command;
          return null;
        }
        if (from === peer) return null;
        if (payloadOf(command) !== payloadOf(first)) return undefined;
        if (keyOf(command) !== keyOf(first)) throw new Failure(`The client repeated a publish with another key: ${JSON.stringify(keyOf(command))} after ${JSON.stringify(keyOf(first))}. It would take place twice.`);
        if (++repeated > 1) throw new Failure("The client repeated a publish that was answered with duplicate: true. That is the answer: the first one counted.");
        return { published: { position: { epoch: "log", seq: 1 }, receivers: 0, duplicate: true } };
      });
      peer.send({ publication: publication(11) });
      await stage.until(() => first !== null, "The driver did not report publication 11.");
      peer.cut();
      const next = await stage.comeBack(peer, "The socket was lost. The client did not connect again.", { room, position: { epoch, seq: 11 }, recovered: true, publications: [], more: false });
      await stage.until(() => repeated > 0, "The answer to a publish was lost with the socket. The client did not send the publish again.");
      stage.expect(11, 12);
      next.send({ publication: publication(12) });
      await stage.delivered(next);
    },
  },
  {
    name: "retry",
    title: "Repeats a publish after an error that is retryable, with the same key.",
    read,
    async play(stage) {
      const keys: string[] = [];
      stage.onLog((command) => {
        keys.push(keyOf(command));
        if (keys.length > 1 && keys[1] !== keys[0]) throw new Failure(`The client repeated a publish with another key: ${JSON.stringify(keys[1])} after ${JSON.stringify(keys[0])}.`);
        return keys.length === 1 ? refused("overloaded", true) : undefined;
      });
      const peer = await stage.enter();
      stage.expect(11);
      peer.send({ publication: publication(11) });
      await stage.until(() => keys.length > 1 || peer.isOver, "A publish was refused with overloaded, retryable: true. The client did not send it again.");
      await stage.delivered(peer);
    },
  },
  {
    name: "refused",
    title: "Does not repeat a publish after an error that is not retryable.",
    read,
    async play(stage) {
      let first = "";
      let isSecond = false;
      stage.onLog((command) => {
        if (first === "") {
          first = payloadOf(command);
          return refused("forbidden", false);
        }
        if (payloadOf(command) === first) throw new Failure("The client repeated a publish that was refused with forbidden, retryable: false. The answer will be the same.");
        isSecond = true;
        return undefined;
      });
      const peer = await stage.enter();
      peer.send({ publication: publication(11) });
      await stage.until(() => first !== "", "The driver did not report publication 11.");
      peer.send({ publication: publication(12) });
      await stage.until(() => isSecond || peer.isOver, "A publish was refused with forbidden. The client did not go on.");
      stage.expect(12);
      await stage.delivered(peer);
      await stage.watch();
    },
  },
];
