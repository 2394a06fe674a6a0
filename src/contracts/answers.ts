/** What seams answer by callback, as a promise, and what is in it. */
import type { Answer } from "../broker/broker.ts";

/** Whoever answers twice is thrown at: exactly once is a duty of every seam. */
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

/** Throws where it is an error. */
export function value<T>(answer: Answer<T>): T {
  if ("error" in answer) throw new Error(`answered ${answer.error}`);
  return answer.value;
}
