/* Jobs: what the server does in the background. */

import { ApiError, getJson, pause } from "./api.js";

const LOOK_MS = 500; // between two questions whether a job is done

/** Wait for a job, and return what it has found. */
export async function doneJob(id, signal) {
  for (;;) {
    const job = await getJson(`v1/jobs/${id}`, { signal });
    if (job.state === "failed") throw new ApiError(0, job.error);
    if (job.state === "done") return job;
    await pause(LOOK_MS, signal);
  }
}
