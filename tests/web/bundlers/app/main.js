import { Model } from "deploykit";
import { run } from "./run.js";

run(Model);
