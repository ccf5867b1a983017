// The demo's front page: isolation and offline use, so that the pages behind it start at once.
import { keep, prepare } from "./offline.js";

if (await prepare()) document.getElementById("offline").textContent = await keep();
