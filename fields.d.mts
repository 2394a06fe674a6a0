export function writeFields(): void;
export function fieldsOf(proto: string): string;
