// A question that can be answered once: a choice, or a number.

let questions = 0; // for the names of radio buttons: two questions on a page must not share one

function render({ model, el }) {
  const choices = model.get("choices"), right = model.get("right"), why = model.get("why");
  const root = element("form", "mdm-widget mdm-question", el);
  const field = element("fieldset", null, root);
  element("legend", null, field, model.get("question"));
  const group = `mdm-question-${(questions += 1)}-${Math.random().toString(36).slice(2)}`;

  const inputs = choices.map((choice, place) => {
    const label = element("label", "mdm-choice", field);
    const input = element("input", null, label);
    setAll(input, { type: "radio", name: group, value: place });
    keepKeys(input);
    element("span", null, label, choice);
    return input;
  });
  if (!choices.length) {
    const label = element("label", "mdm-choice", field);
    const input = element("input", null, label);
    setAll(input, { type: "number", step: "any", "aria-label": "Your number" });
    keepKeys(input);
    element("span", null, label, model.get("unit"));
    inputs.push(input);
  }
  const button = element("button", null, root, right === null ? "This is my prediction" : "This is my answer");
  button.type = "submit";
  const said = element("p", "mdm-said", root);
  said.setAttribute("role", "status");

  const given = () => {
    const input = choices.length ? inputs.find((each) => each.checked) : inputs[0];
    return input && input.value !== "" && Number.isFinite(Number(input.value)) ? Number(input.value) : null;
  };

  function show() {
    const answer = model.get("answer");
    const done = answer !== null;
    inputs.forEach((input, place) => {
      input.disabled = done;
      if (done && choices.length) input.checked = place === answer;
      if (done && !choices.length) input.value = answer;
      input.parentElement.classList.toggle("mdm-mine", done && (!choices.length || place === answer));
      input.parentElement.classList.toggle("mdm-right", done && right !== null && place === right);
    });
    button.hidden = done;
    button.disabled = given() === null;
    if (!done) return;
    const reason = why[answer] ?? "";
    const praise = reason.startsWith("Right") ? "" : "Right."; // many reasons say it themselves
    const verdict = right === null ? "Kept. Now look." : answer === right ? praise : `No. Right is: "${choices[right]}".`;
    said.textContent = [verdict, reason].filter(Boolean).join(" ");
  }

  // JupyterLab takes the Enter that would send a form from within a notebook.
  inputs.forEach((input) => input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || given() === null) return;
    event.preventDefault();
    root.requestSubmit();
  }));
  root.addEventListener("input", show);
  root.addEventListener("submit", (event) => {
    event.preventDefault();
    if (model.get("answer") !== null || given() === null) return;
    save(model, { answer: given() });
    show();
  });
  model.on("change:answer", show);
  show();
  return () => model.off("change:answer", show);
}

export default { render };
