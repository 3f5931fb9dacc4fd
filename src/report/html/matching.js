// Which box found which, at IoU 0.5: the rule of COCOeval.evaluateImg, for the score that the reader chooses.

const CROWD = 1;
const IGNORED = 2;
const NEVER_FOUND = 4;
const MOST_DETECTIONS = 100;

function overlap(dt, gt) {
  const wide = Math.min(dt[0] + dt[2], gt[0] + gt[2]) - Math.max(dt[0], gt[0]);
  const tall = Math.min(dt[1] + dt[3], gt[1] + gt[3]) - Math.max(dt[1], gt[1]);
  const shared = wide <= 0 || tall <= 0 ? 0 : wide * tall;
  const own = dt[2] * dt[3];
  return shared / (gt[5] & CROWD ? own : own + gt[2] * gt[3] - shared);
}

/// What became of each detection and object: "tp", "fp", "ignored", or for objects "found", "missed", "ignored";
/// null for a detection below the score or beyond the limit. And the counts.
function matched(truth, detections, score) {
  const dts = detections.map(() => null);
  const gts = truth.map((gt) => (gt[5] & (CROWD | IGNORED) ? "ignored" : "missed"));
  const classes = new Set(detections.map((dt) => dt[4]));
  for (const name of classes) {
    const objects = truth.map((_, g) => g).filter((g) => truth[g][4] === name);
    const isIgnored = (g) => gts[g] === "ignored";
    // Those that need not be found come last; otherwise the order stays.
    const order = [...objects.filter((g) => !isIgnored(g)), ...objects.filter(isIgnored)];
    const found = detections.map((_, d) => d).filter((d) => detections[d][4] === name && detections[d][5] >= score);
    found.sort((a, b) => detections[b][5] - detections[a][5] || a - b);
    const taken = new Set();
    for (const d of found.slice(0, MOST_DETECTIONS)) {
      let best = null;
      let least = 0.5;
      for (const g of order) {
        if (taken.has(g) && !(truth[g][5] & CROWD)) continue;
        if (best !== null && !isIgnored(best) && isIgnored(g)) break;
        const share = overlap(detections[d], truth[g]);
        if (share < least) continue;
        least = share;
        best = g;
      }
      if (best === null) dts[d] = "fp";
      else {
        taken.add(best);
        if (isIgnored(best)) dts[d] = "ignored";
        else if (truth[best][5] & NEVER_FOUND) dts[d] = "fp";
        else { dts[d] = "tp"; gts[best] = "found"; }
      }
    }
  }
  const count = (all, what) => all.filter((one) => one === what).length;
  return { dts, gts, tp: count(dts, "tp"), fp: count(dts, "fp"), fn: count(gts, "missed") };
}
