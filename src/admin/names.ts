/** Names of users, tenants and rooms as callers of the admin port write them. */
import * as z from "zod";
import { nameBytesMax, nameProblem } from "../config/roomnames.ts";

/** The maximum of the option `roomNameBytesMax`. */
const roomBytesMax = 4096;

export const userShape = name("user", nameBytesMax);
export const tenantShape = z.union([z.literal(""), name("tenant", nameBytesMax)]).default("");
export const roomShape = name("room", roomBytesMax);

function name(field: string, bytesMax: number) {
  return z.string().superRefine((value, context) => {
    const problem = nameProblem(field, value, bytesMax);
    if (problem !== null) context.addIssue({ code: "custom", message: problem });
  });
}
