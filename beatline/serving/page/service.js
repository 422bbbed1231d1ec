// What the server is asked, and its mistakes and ours in words.

const TOKEN = "beatline-token"; // in the storage of this tab, until it is closed
export const UNKNOWN = 401; // the status of who has no token, or a wrong one

/** An answer that is none. `message`: what is wrong, in words; `again`: whether to ask again may help;
 * `status`: of HTTP, null if nobody has answered. */
export class Refused extends Error {
  constructor(message, again = false, status = null) {
    super(message);
    Object.assign(this, { again, status });
  }
}

/** The token that is sent with everything that is asked, null without one. */
export function token() {
  return sessionStorage.getItem(TOKEN);
}

export function useToken(text) {
  sessionStorage.setItem(TOKEN, text);
}

export async function models() {
  return (await (await asked("models")).json()).models;
}

/** The bundled examples of a model; none if the server has none of them. Raises Refused. */
export async function examples(key) {
  return (await (await asked(`models/${key}/examples`)).json()).examples;
}

export function exampleAddress(key, { name }) {
  return `models/${key}/examples/${encodeURIComponent(name)}`;
}

/** An example as a request that can be sent back. */
export async function exampleRequest(key, example) {
  const address = exampleAddress(key, example);
  const headers = { "Content-Type": "application/x-npy" };
  if (example.sampling_rate) headers["X-Sampling-Rate"] = String(example.sampling_rate);
  return { headers, body: await (await asked(address)).arrayBuffer() };
}

export async function machines() {
  return (await asked("machines")).json();
}

export async function machineHistory(name) {
  return (await asked(`machines/${encodeURIComponent(name)}/history`)).json();
}

/** The model's answer to a request made by uploads.js. Raises Refused. */
export async function predict(key, request, signal) {
  const address = `models/${key}/predict?explain=true&recording=true`;
  return (await asked(address, { method: "POST", ...request, signal })).json();
}

async function asked(address, options) {
  let response;
  const shown = token() ? { Authorization: `Bearer ${token()}` } : {};
  try {
    response = await fetch(address, { ...options, headers: { ...options?.headers, ...shown } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(
      "The server cannot be reached, or it broke off while the file was sent. Is it running?",
      true,
    );
  }
  if (response.ok) return response;
  const wait = response.status === 503 || response.status === 408 || response.status === 429;
  const again = wait || response.status === UNKNOWN;
  throw new Refused(await reason(response), again, response.status);
}

/** The `detail` of a problem document (RFC 9457); of anything else its status. */
async function reason(response) {
  try {
    const { detail, title } = await response.json();
    if (typeof detail === "string" && detail) return detail;
    if (title) return `${title} (status ${response.status}).`;
  } catch {
    // No JSON: something between the page and the server has answered.
  }
  return `The server answered with status ${response.status} and no reason.`;
}
