/**
 * The messages seam: what one node has to tell another, or all of them. Each is told at most once and in no promised
 * order, so none may be the only thing that something depends on: what has to hold is in a store as well.
 */

export type NodeMessage =
  /** A session was resumed elsewhere, for the `generation`th time: its socket here, if it is an earlier one, has lost it. */
  | { readonly kind: "taken"; readonly session: string; readonly generation: number }
  /** Every session of the user is to be closed and ended. */
  | { readonly kind: "disconnect"; readonly tenant: string; readonly user: string }
  /** The node is to send its sessions away and end, as drain.ts has it. */
  | { readonly kind: "drain"; readonly windowMs?: number | undefined; readonly url?: string | undefined };

export interface MessageEvents {
  /** MUST NOT be called for what this node has sent itself. */
  received(message: NodeMessage): void;
}

export interface NodeMessages {
  /** To one node, which may not be there any more. */
  send(node: string, message: NodeMessage): void;

  /** To every other node. What cannot be sent now MUST be sent when it can be, up to a bound. */
  sendAll(message: NodeMessage): void;

  stop(): Promise<void>;
}
