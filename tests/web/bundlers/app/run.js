// The app: a model in a worker and one on the page's thread; what they answer goes into the page.
export async function run(Model) {
  const { assets } = document.documentElement.dataset, url = new URL("model.dk", document.baseURI), seen = {};
  try {
    for (const worker of [true, false]) {
      const model = await Model.load(url, { worker, ...(assets ? { assets } : {}) });
      const { class: scores } = await model.run({ image: Float32Array.from({ length: 64 }, (_, i) => i % 17) });
      seen[worker] = Array.from(scores.data);
      model.dispose();
    }
  } catch (error) {
    seen.error = String(error.stack ?? error);
  }
  document.body.dataset.seen = JSON.stringify(seen);
}
