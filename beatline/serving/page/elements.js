// Elements of the page and of its pictures, made from what they are called and hold.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `attributes`: by name (true sets one without a value, null and false leave it out; a
 * function listens to the event of its name). `content`: elements and texts; null leaves one out. */
export function html(name, attributes = {}, ...content) {
  return filled(document.createElement(name), attributes, content);
}

/** The same in SVG. */
export function svg(name, attributes = {}, ...content) {
  return filled(document.createElementNS(SVG, name), attributes, content);
}

function filled(element, attributes, content) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...content.flat(Infinity).filter((one) => one !== null && one !== undefined));
  return element;
}

/** `M` and `L` of a path through points; a null among them breaks it. */
export function path(points) {
  let pen = "M";
  return points
    .map((point) => {
      const command = point && `${pen}${point[0].toFixed(2)} ${point[1].toFixed(2)}`;
      pen = point ? "L" : "M";
      return command;
    })
    .filter(Boolean)
    .join("");
}
