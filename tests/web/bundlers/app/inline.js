import { Model } from "deploykit/inline";
import { run } from "./run.js";

run(Model);
