/** The part of `pg` that is used here. It has no types of its own. */
declare module "pg" {
  import type { EventEmitter } from "node:events";

  export interface Result {
    readonly rows: readonly Record<string, unknown>[];
    readonly rowCount: number | null;
  }

  export interface ClientConfig {
    readonly connectionString?: string;
    readonly application_name?: string;
    readonly connectionTimeoutMillis?: number;
    readonly statement_timeout?: number;
    readonly query_timeout?: number;
    readonly keepAlive?: boolean;
    readonly keepAliveInitialDelayMillis?: number;
  }

  export class Client extends EventEmitter {
    constructor(config: ClientConfig);
    connect(): Promise<void>;
    query(text: string, values?: readonly unknown[]): Promise<Result>;
    end(): Promise<void>;
  }

  export interface PoolClient extends Client {
    release(error?: Error | boolean): void;
  }

  export class Pool extends EventEmitter {
    constructor(config: ClientConfig & { readonly max?: number; readonly idleTimeoutMillis?: number; readonly allowExitOnIdle?: boolean });
    readonly waitingCount: number;
    connect(): Promise<PoolClient>;
    query(text: string, values?: readonly unknown[]): Promise<Result>;
    end(): Promise<void>;
  }
}
