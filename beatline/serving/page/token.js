// The field for the token that an answer needs.

import { html } from "./elements.js";
import { useToken } from "./service.js";

/** A form that keeps the token that is typed into it, in this tab, and asks `again`. */
export function tokenForm(again) {
  const field = html("input", { id: "token", type: "password", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    useToken(field.value.trim());
    again();
  };
  return html(
    "form",
    { submit },
    html("label", { for: "token" }, "Token, kept until this tab is closed"),
    field,
    html("button", { type: "submit" }, "Use this token"),
  );
}
