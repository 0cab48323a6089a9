const form = document.querySelector("form"), note = document.getElementById("status");
const answer = document.getElementById("answer"), student = JSON.parse(form.dataset.student);

function add(parent, tag, text, fields = {}) {
  const element = Object.assign(document.createElement(tag), fields);
  if (text !== undefined) element.textContent = text;
  return parent.appendChild(element);
}

function request() {
  const item = { input: form.elements.text.value };
  const choices = form.elements.choices.value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (choices.length) item.choices = choices;
  if (form.elements.rationale) item.rationale = form.elements.rationale.value;
  const rank = student.label && (student.classes || choices.length);
  return { inputs: [item], label: student.label, rationale: student.rationale, label_by: rank ? "rank" : "generate" };
}

async function predict(body) {
  const headers = { "Content-Type": "application/json" };
  if (form.elements.key?.value) headers.Authorization = `Bearer ${form.elements.key.value}`;
  const response = await fetch("predict", { method: "POST", headers, body: JSON.stringify(body) });
  const json = await response.json();
  if (!response.ok) throw new Error(json.error.message);
  return json.predictions[0];
}

function probabilities(prediction) {
  const pairs = Object.entries(prediction.label_probs ?? {}).sort((a, b) => b[1] - a[1]);
  if (!pairs.length && prediction.label_confidence !== null) pairs.push([prediction.label, prediction.label_confidence]);
  if (!pairs.length) return;
  const table = add(answer, "table");
  add(table, "caption", prediction.label_probs ? "Probabilities, of these labels" : "Probability of the label");
  const rows = add(table, "tbody");
  for (const [name, probability] of pairs) {
    const row = add(rows, "tr"), percent = `${(100 * probability).toFixed(1)}%`;
    add(row, "th", name || "(empty)", { scope: "row" });
    add(add(row, "td"), "progress", undefined, { max: 1, value: probability, ariaLabel: `${name}: ${percent}` });
    add(row, "td", percent, { className: "number" });
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  answer.replaceChildren();
  note.textContent = "Asking the student …";
  const began = performance.now();
  try {
    const prediction = await predict(request());
    if (prediction.label !== null) add(answer, "p", prediction.label || "(empty)", { id: "label" });
    if (prediction.rationale !== null) add(answer, "p", prediction.rationale || "(an empty rationale)", { id: "why" });
    probabilities(prediction);
    note.textContent = `Answered in ${Math.round(performance.now() - began)} ms.`;
  } catch (error) {
    note.textContent = `No answer: ${error.message}`;
  }
});

form.elements.text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
