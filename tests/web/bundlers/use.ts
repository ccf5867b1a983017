// What an app in TypeScript may write, compiled by test_bundlers.py.
import { DeploykitError, environment, Model, tensor } from "deploykit";
import type { Spec, Tensor } from "deploykit";
import { withVariables } from "deploykit/file";
import { Model as Inline } from "deploykit/inline";

export async function use(file: File, signal: AbortSignal): Promise<Float32Array> {
  const onProgress = (loaded: number, total: number) => console.log(loaded / total);
  const model: Model = await Model.load(file, { signal, worker: false, onProgress });
  const specs: readonly Spec[] = model.inputs;
  const out = await model.run({ x: new Float32Array(4), y: { data: [1, 2], shape: [2] }, z: [[1n, 2]] }, { signal, timeout: 2 });
  const first: Tensor | undefined = out["y"];
  const rows = await model.profile({ x: tensor("int64", [1], [1]) }, { runs: 3 });
  console.log(specs.length, rows[0]?.microseconds, model.memory.arena, environment().reasons.threads, Inline === Model);
  withVariables(new Uint8Array(8), {});
  if (!first) throw new DeploykitError("DK-INPUT", "nothing");
  // @ts-expect-error: words are no input
  await model.run({ x: "words" });
  // @ts-expect-error: there is no such option
  await Model.load("m.dk", { wroker: true });
  model.dispose();
  return first.data as Float32Array;
}
