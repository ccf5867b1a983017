// The interface of the browser engine with recorded answers behind it: for tests of the page alone, never shipped.
export class Model {
  static async load(source, { onProgress } = {}) {
    const given = source instanceof Uint8Array;
    const data = given ? source : new Uint8Array(await (await fetch(source)).arrayBuffer());
    if (new TextDecoder().decode(data.subarray(4, 8)) !== "DKIT") {
      throw Object.assign(new Error("DK-FORMAT: not a .dk file"), { code: "DK-FORMAT" });
    }
    onProgress?.(data.byteLength, data.byteLength);
    const model = new Model();
    // opened by hand: answer with the recordings of the digits page
    const html = given ? new DOMParser().parseFromString(await (await fetch("digits.html")).text(), "text/html") : document;
    model.page = JSON.parse(html.getElementById("page").textContent);
    model.blob = await (await fetch(model.page.blob)).arrayBuffer();
    model.inputs = model.page.inputs.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
    model.outputs = model.page.outputs.map(({ name, dtype }) => ({ name, dtype, shape: null }));
    model.metadata = { labels: ["0", "1"] };
    return model;
  }
  async run(inputs) {
    const bytes = (t) => new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength).join();
    const at = (t) => new Uint8Array(this.blob, t.offset, t.bytes);
    const found = this.page.vectors.find((v) => Object.entries(v.inputs).every(([n, t]) => at(t).join() === bytes(inputs[n])));
    const { outputs } = found ?? this.page.vectors[0];
    return Object.fromEntries(
      Object.entries(outputs).map(([n, t]) => [n, { dtype: t.dtype, shape: t.shape, data: new Float32Array(this.blob.slice(t.offset, t.offset + t.bytes)) }]),
    );
  }
  async profile() {
    return [{ name: "conv_1", op: "conv", calls: 1, microseconds: 12.5 }, { name: "dense_1", op: "matmul", calls: 1, microseconds: 2.5 }];
  }
  dispose() {}
}
