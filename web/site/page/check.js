// "Same answer as in Python": runs the inputs stored with the model and compares with what the native engine gave.
import { bytes, el, table } from "./dom.js";
import { show } from "./problems.js";
import { compare, unpack } from "./tensor.js";

export const RELATIVE = 1e-5; // of the largest value; whole numbers must be equal
const ALONE = 1e6; // larger vectors are fetched on demand only

/** The check section; `load` gives the blob of vectors, `fresh` a model whose variables nobody has touched. */
export function makeCheck(parent, page, load, fresh) {
  if (!page.vectors.length) {
    parent.append(el("p", { text: "This model gives other answers each time (it draws random numbers), so there is nothing to compare." }));
    return { start() {} };
  }
  const many = page.vectors.length === 1 ? "1 input" : `${page.vectors.length} inputs`;
  const size = page.sizes[page.blob];
  const verdict = el("p", { role: "status", text: `${many} with Python's answers, stored beside the model (${bytes(size)}).` });
  const button = el("button", { text: "Compare", onclick: () => go().catch(show) });
  const rows = el("div", {});
  parent.append(verdict, el("p", {}, button), rows);

  async function go() {
    button.disabled = true;
    verdict.textContent = "Comparing …";
    delete verdict.dataset.kind;
    let model = null;
    try {
      const blob = await load();
      model = await fresh();
      const lines = [];
      let same = true, exact = true, worst = 0;
      for (const v of page.vectors) {
        await model.reset?.();
        const got = await model.run(unpack(blob, v.inputs)), want = unpack(blob, v.outputs);
        for (const name of Object.keys(want)) {
          const c = compare(got[name], want[name]);
          const good = c.exact || (want[name].dtype.startsWith("float") && c.relative <= RELATIVE);
          same &&= good;
          exact &&= c.exact;
          worst = Math.max(worst, c.relative);
          lines.push([v.title, name, c.exact ? "same bits" : `${c.relative.toExponential(1)} of the largest value`, good ? "yes" : "NO"]);
        }
      }
      verdict.dataset.kind = same ? "good" : "bad";
      verdict.textContent = !same
        ? `NO: the answers differ by up to ${worst.toExponential(1)} of the largest value. Please report it with the model.`
        : exact
          ? `Yes, to the last bit (${many}).`
          : `Yes: ${many}, largest difference ${worst.toExponential(1)} of the largest value (allowed: 1e-5).`;
      rows.replaceChildren(table("Comparison with Python", ["input", "output", "difference", "same"], lines));
      button.textContent = "Compare again";
    } catch (error) {
      verdict.textContent = "Not compared.";
      throw error;
    } finally {
      model?.dispose();
      button.disabled = false;
    }
  }
  return { start: () => (size <= ALONE ? go().catch(show) : undefined) };
}
