/** Latency and rate, as numbers and as a line. */

const samplesMax = 60;
/** Shortest length of the line, in samples, so that the first few do not fill it. */
const samplesMin = 20;
const rateWindowMs = 5000;

export function createVitals({ latency, note, spark, rate, received }) {
  const samples = [];
  const arrivals = [];
  let total = 0;

  function showRate() {
    const since = performance.now() - rateWindowMs;
    while (arrivals.length > 0 && arrivals[0] < since) arrivals.shift();
    const perSecond = arrivals.length / (rateWindowMs / 1000);
    rate.textContent = perSecond >= 10 ? perSecond.toFixed(0) : String(Math.round(perSecond * 10) / 10);
  }
  setInterval(showRate, 1000);

  return {
    ping(ms) {
      samples.push(ms);
      if (samples.length > samplesMax) samples.shift();
      latency.textContent = format(ms);
      note.textContent = `median ${format(median(samples))} ms of ${samples.length}`;
      draw(spark, samples);
    },
    noPing() {
      latency.textContent = "–";
    },
    /** Messages from history do not count for the rate. */
    message({ isLive }) {
      if (isLive) arrivals.push(performance.now());
      received.textContent = (++total).toLocaleString();
      showRate();
    },
  };
}

function format(ms) {
  return ms < 10 ? ms.toFixed(1) : ms.toFixed(0);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** The newest sample is at the right edge. The scale starts at zero, so a flat line means a steady latency. */
function draw(spark, samples) {
  const width = 120;
  const height = 36;
  const highest = Math.max(...samples, 1) * 1.1;
  const step = width / (Math.max(samples.length, samplesMin) - 1);
  const left = width - (samples.length - 1) * step;
  const points = samples.map((ms, i) => `${(left + i * step).toFixed(1)} ${(height - (ms / highest) * height).toFixed(1)}`);
  const line = `M${points.join("L")}`;
  spark.querySelector(".line").setAttribute("d", line);
  spark.querySelector(".area").setAttribute("d", `${line}V${height}H${left.toFixed(1)}Z`);
}
