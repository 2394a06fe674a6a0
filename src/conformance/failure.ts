/** The client did something wrong. The message says what, and what is right. */
export class Failure extends Error {}
