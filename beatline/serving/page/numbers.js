// Numbers of many.

/** The smallest and the largest of `values`, without those that are null; Infinity and -Infinity of none.
 * In a loop: a call such as `Math.min(...values)` fails with more arguments than the stack holds, and a
 * recording has more samples than that. */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}
