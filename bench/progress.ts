/** Shows the current step and the remaining time on stderr. On a terminal it is one line that counts down. */

export class Progress {
  readonly #terminal = process.stderr.isTTY;
  #left: number;
  #label = "";
  #phase = "";
  #phaseEndsAt = 0;
  #stepEndsAt = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param seconds expected for all steps together. */
  constructor(seconds: number) {
    this.#left = seconds;
    if (this.#terminal) this.#timer = setInterval(() => this.#draw(), 500);
  }

  /** Starts a measurement. */
  step(label: string, seconds: number): void {
    this.#label = label;
    this.#left -= seconds;
    this.#stepEndsAt = Date.now() + seconds * 1000;
    if (!this.#terminal) process.stderr.write(`${label} (${duration(this.#secondsLeft())} left in all)\n`);
  }

  phase(phase: string, seconds: number): void {
    this.#phase = phase;
    this.#phaseEndsAt = Date.now() + seconds * 1000;
    if (this.#terminal) this.#draw();
  }

  /** Prints a finding above the line that counts down. */
  note(text: string): void {
    process.stderr.write(this.#terminal ? `\r\x1b[K${text}\n` : `${text}\n`);
  }

  end(): void {
    clearInterval(this.#timer);
    if (this.#terminal) process.stderr.write("\r\x1b[K");
  }

  #draw(): void {
    const phaseLeft = Math.max(0, Math.ceil((this.#phaseEndsAt - Date.now()) / 1000));
    const phase = phaseLeft > 0 ? `${this.#phase} ${phaseLeft} s` : this.#phase;
    process.stderr.write(`\r\x1b[K${this.#label} · ${phase} · ${duration(this.#secondsLeft())} left in all`);
  }

  #secondsLeft(): number {
    return this.#left + Math.max(0, (this.#stepEndsAt - Date.now()) / 1000);
  }
}

function duration(seconds: number): string {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}
