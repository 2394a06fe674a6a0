/** Turns a seam's callback answers into promises, and unpacks them. */
import type { Answer } from "../broker/broker.ts";

/** Throws at a second answer: every seam MUST answer exactly once. */
export function asked<T>(ask: (done: (answer: Answer<T>) => void) => void): Promise<Answer<T>> {
  return new Promise((resolve) => {
    let answered = false;
    ask((answer) => {
      if (answered) throw new Error("answered twice");
      answered = true;
      resolve(answer);
    });
  });
}

/** @throws Error where the answer is an error. */
export function value<T>(answer: Answer<T>): T {
  if ("error" in answer) throw new Error(`answered ${answer.error}`);
  return answer.value;
}
