"use strict";

// Shows the document of the gateway and sends requests to it. Whatever comes from outside becomes text, never markup.

const METHODS = ["get", "head", "post", "put", "patch", "delete", "options"];

/** An element with properties and children; texts become text nodes. */
function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** What a reference of the document points to, or the value itself. */
function resolve(whole, value) {
  if (typeof value?.$ref !== "string") {
    return value;
  }
  const names = value.$ref.replace("#/", "").split("/");
  return names.reduce((at, name) => at?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], whole);
}

/** In words: which credentials open an operation. */
function credentials(operation) {
  const ways = operation.security.map((way) => {
    const [scheme] = Object.entries(way);
    if (!scheme) {
      return "nobody";
    }
    const [name, needs] = scheme;
    const words = { bearer: "bearer token", api_key: "API key", cookie: "session cookie", basic: "HTTP Basic" };
    return needs.length ? `${words[name]} (${needs.join(", ")})` : words[name];
  });
  return ways.length ? `Open to: ${ways.join("; ")}.` : "Open to anybody.";
}

/** The members of a form's schema, as they are typed. */
function formText(schema) {
  const names = Object.keys(schema.properties ?? {});
  return names.map((name) => `${name}=${schema.properties[name].const ?? ""}`).join("&");
}

/** A choice of bodies, and the text of the chosen one; null where there is none. */
function bodyFields(operation) {
  const content = operation.requestBody?.content;
  if (!content) {
    return null;
  }
  const type = make("select", { name: "type" }, ...Object.keys(content).map((name) => make("option", { value: name }, name)));
  const text = make("textarea", { name: "body", spellcheck: false });
  const fill = () => {
    const { example, schema } = content[type.value];
    text.value = example === undefined ? formText(schema) : JSON.stringify(example, null, 2);
  };
  type.addEventListener("change", fill);
  type.value = content["application/json"] ? "application/json" : type.value;
  fill();
  return make("div", {}, make("label", {}, "Body, as", type), make("label", {}, "Text", text));
}

function parameterField(parameter) {
  const field = make("input", { name: parameter.name, required: parameter.in === "path" });
  field.dataset.in = parameter.in;
  field.placeholder = parameter.example ?? "";
  const words = [parameter.name, parameter.description].filter(Boolean).join(": ");
  return make("label", {}, words, field);
}

/** The URL that the fields say. */
function target(path, fields) {
  const query = new URLSearchParams();
  let filled = path;
  for (const field of fields) {
    if (field.dataset.in === "path") {
      filled = filled.replace(`{${field.name}}`, encodeURIComponent(field.value));
    } else if (field.dataset.in === "query" && field.value !== "") {
      query.append(field.name, field.value);
    }
  }
  return query.size ? `${filled}?${query}` : filled;
}

async function send(whole, method, path, form, output) {
  const kind = document.forms.credential.elements.kind.value;
  const secret = document.forms.credential.elements.secret.value;
  const fields = [...form.querySelectorAll("input")];
  const headers = {};
  if (kind === "bearer") {
    headers.Authorization = `Bearer ${secret}`;
  } else if (kind === "api_key") {
    headers[whole.components.securitySchemes.api_key.name] = secret;
  }
  const request = {
    method: method.toUpperCase(),
    headers,
    cache: "no-store",
    credentials: kind === "cookie" ? "same-origin" : "omit",
    redirect: "manual",
  };
  for (const field of fields) {
    if (field.dataset.in === "header" && field.value !== "") {
      headers[field.name] = field.value;
    }
  }
  const body = form.elements.body?.value;
  if (body) {
    headers["Content-Type"] = form.elements.type.value;
    request.body = body;
  }
  try {
    const answer = await fetch(target(path, fields), request);
    const text = await answer.text();
    const lines = [...answer.headers].map(([name, value]) => `${name}: ${value}`);
    const status = answer.type === "opaqueredirect" ? "It leads on; a browser would follow." : `${answer.status} ${answer.statusText}`;
    output.replaceChildren(
      make("h3", { className: answer.ok ? "status" : "status failed" }, status),
      make("pre", {}, lines.join("\n")),
      make("pre", { className: "answer" }, pretty(text)),
    );
  } catch (error) {
    output.replaceChildren(make("p", { className: "failed" }, `It could not be sent: ${error.message}`));
  }
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** What it answers: a line for each status. */
function answers(whole, operation) {
  const rows = Object.entries(operation.responses).map(([status, response]) =>
    make("tr", {}, make("td", {}, make("code", {}, status)), make("td", {}, resolve(whole, response).description)),
  );
  return make("table", {}, make("tbody", {}, ...rows));
}

/** What an operation takes and gives, made when somebody looks. */
function inside(whole, method, path, operation) {
  const output = make("div", { className: "output" });
  const parameters = (operation.parameters ?? []).map((one) => parameterField(resolve(whole, one)));
  const form = make("form", { autocomplete: "off" }, ...parameters, bodyFields(operation), make("button", {}, "Send"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(whole, method, path, form, output);
  });
  return make(
    "div",
    { className: "inside" },
    operation.description ? make("p", {}, operation.description) : null,
    make("p", {}, credentials(operation)),
    form,
    output,
    make("h3", {}, "Answers"),
    answers(whole, operation),
  );
}

function shown(whole, method, path, operation) {
  const head = make(
    "summary",
    {},
    make("span", { className: "method" }, method),
    make("code", {}, path),
    make("span", { className: "what" }, operation.summary),
  );
  const details = make("details", { id: operation.operationId, className: "operation" }, head);
  details.addEventListener(
    "toggle",
    () => details.append(inside(whole, method, path, operation)),
    { once: true },
  );
  return details;
}

async function start() {
  const place = document.getElementById("operations");
  try {
    const whole = await (await fetch("openapi.json", { cache: "no-store", credentials: "omit" })).json();
    const all = Object.entries(whole.paths).flatMap(([path, methods]) =>
      METHODS.filter((method) => methods[method]).map((method) => [method, path, methods[method]]),
    );
    const sections = whole.tags.map(({ name }) => {
      const own = all.filter(([, , operation]) => operation.tags.includes(name));
      const operations = own.map(([method, path, operation]) => shown(whole, method, path, operation));
      return make("section", {}, make("h2", {}, name), ...operations);
    });
    place.replaceChildren(...sections);
  } catch (error) {
    place.replaceChildren(make("p", { className: "failed" }, `The document could not be read: ${error.message}`));
  }
}

start();
